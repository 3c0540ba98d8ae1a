//! What a file is: by its first bytes, and by how its name ends.

use image::ImageFormat;

/// How many of a file's first bytes tell what it is.
pub(crate) const HEAD: usize = 64;

/// A kind of image that is known and not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnreadKind {
    /// With its article: "a HEIC image".
    pub name: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

const HEIC: UnreadKind = UnreadKind {
    name: "a HEIC image",
    remedy: "convert it to JPEG, with heif-convert or ImageMagick (phones can also be set to take JPEG photographs)",
};
const AVIF: UnreadKind =
    UnreadKind { name: "an AVIF image", remedy: "convert it to JPEG or PNG, with avifdec or ImageMagick" };
const JPEG_XL: UnreadKind =
    UnreadKind { name: "a JPEG XL image", remedy: "convert it to JPEG or PNG, with djxl" };
const JPEG_2000: UnreadKind =
    UnreadKind { name: "a JPEG 2000 image", remedy: "convert it to JPEG or PNG, with ImageMagick" };
const PHOTOSHOP: UnreadKind = UnreadKind { name: "a Photoshop document", remedy: "save it as JPEG or PNG" };
const RAW: UnreadKind = UnreadKind {
    name: "a camera's raw image",
    remedy: "develop it to JPEG or PNG, with darktable or RawTherapee",
};
const SVG: UnreadKind = UnreadKind { name: "an SVG drawing", remedy: "convert it to PNG, with rsvg-convert" };
const PDF: UnreadKind =
    UnreadKind { name: "a PDF document", remedy: "convert its pages to PNG, with pdftoppm" };
const RARE: UnreadKind =
    UnreadKind { name: "an image of a rare kind", remedy: "convert it to JPEG or PNG, with ImageMagick" };

/// What the first bytes of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// An image that can be read.
    Image(ImageFormat),
    /// An image that cannot.
    Unread(UnreadKind),
    /// Files packed into one; with its article.
    Archive(&'static str),
    /// None of these.
    Unknown,
}

impl Content {
    /// By the first [`HEAD`] bytes, or all.
    pub fn from_head(head: &[u8]) -> Self {
        const ARCHIVES: [(&[u8], &str); 8] = [
            (b"PK\x03\x04", "a zip archive"),
            // One without members.
            (b"PK\x05\x06", "a zip archive"),
            (b"\x1f\x8b", "a gzip archive"),
            (b"\x28\xb5\x2f\xfd", "a zstd archive"),
            (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
            (b"Rar!", "a RAR archive"),
            (b"\xfd7zXZ", "an xz archive"),
            (b"BZh", "a bzip2 archive"),
        ];
        const UNREAD: [(&[u8], UnreadKind); 9] = [
            (b"\xff\x0a", JPEG_XL),
            (b"\0\0\0\x0cJXL ", JPEG_XL),
            (b"\0\0\0\x0cjP  ", JPEG_2000),
            (b"\xff\x4f\xff\x51", JPEG_2000),
            (b"8BPS", PHOTOSHOP),
            (b"FUJIFILMCCD-RAW", RAW),
            (b"II\x1a\0\0\0HEAPCCDR", RAW),
            (b"<svg", SVG),
            (b"%PDF", PDF),
        ];
        if let Some(kind) = in_iso_media(head) {
            return Self::Unread(kind);
        }
        if let Some((_, kind)) = UNREAD.iter().find(|(magic, _)| head.starts_with(magic)) {
            return Self::Unread(*kind);
        }
        if let Some((_, name)) = ARCHIVES.iter().find(|(magic, _)| head.starts_with(magic)) {
            return Self::Archive(name);
        }
        // Canon's raw files are TIFF files whose first image is a thumbnail.
        if head.starts_with(b"II*\0") && head.get(8..10) == Some(b"CR") {
            return Self::Unread(RAW);
        }
        match image::guess_format(head) {
            Ok(format) if READ.contains(&format) => Self::Image(format),
            Ok(_) => Self::Unread(RARE),
            Err(_) => Self::Unknown,
        }
    }
}

/// The formats that are read.
const READ: [ImageFormat; 6] = [
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::WebP,
    ImageFormat::Gif,
    ImageFormat::Bmp,
    ImageFormat::Tiff,
];

/// The kind of image in an ISO base media file, by its brands (ISO/IEC 23008-12).
fn in_iso_media(head: &[u8]) -> Option<UnreadKind> {
    if head.get(4..8) != Some(b"ftyp") {
        return None;
    }
    // The main brand, a version, and the brands it is compatible with.
    let length = u32::from_be_bytes(head[..4].try_into().ok()?) as usize;
    let brands = head.get(8..length.max(12).min(head.len()))?.as_chunks::<4>().0;
    let has = |names: &[&[u8; 4]]| brands.iter().any(|brand| names.contains(&brand));
    if has(&[b"avif", b"avis"]) {
        Some(AVIF)
    } else if has(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]) {
        Some(HEIC)
    } else if has(&[b"crx "]) {
        Some(RAW)
    } else {
        None
    }
}

/// What the end of a file's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// An image that can be read.
    Image,
    /// An image that cannot.
    Unread(UnreadKind),
    /// An archive that can be read.
    Shard,
    /// An archive that cannot; with its article.
    Archive(&'static str),
    /// Text, tables, programs, films and the like.
    Other,
    /// An ending that says nothing, or none.
    Unknown,
}

impl Ending {
    /// Of a file's name; capital letters make no difference.
    pub fn from_name(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let name = name.rsplit_once('/').map_or(name.as_str(), |(_, name)| name);
        if SHARDS.iter().any(|ending| name.ends_with(ending)) {
            return Self::Shard;
        }
        let Some((_, ending)) = name.rsplit_once('.') else { return Self::Unknown };
        match ending {
            "jpg" | "jpeg" | "jpe" | "jfif" | "png" | "webp" | "gif" | "bmp" | "tif" | "tiff" => Self::Image,
            "heic" | "heif" | "hif" => Self::Unread(HEIC),
            "avif" | "avifs" => Self::Unread(AVIF),
            "jxl" => Self::Unread(JPEG_XL),
            "jp2" | "j2k" | "jpf" | "jpx" => Self::Unread(JPEG_2000),
            "psd" | "psb" => Self::Unread(PHOTOSHOP),
            "cr2" | "cr3" | "nef" | "arw" | "dng" | "raf" | "orf" | "rw2" | "pef" | "srw" | "raw" => {
                Self::Unread(RAW)
            }
            "svg" => Self::Unread(SVG),
            "ico" | "tga" | "pnm" | "ppm" | "pgm" | "pbm" | "qoi" | "exr" | "hdr" | "dds" => {
                Self::Unread(RARE)
            }
            "rar" => Self::Archive("a RAR archive"),
            "7z" => Self::Archive("a 7-Zip archive"),
            "xz" | "txz" => Self::Archive("an xz archive"),
            "bz2" | "tbz" | "tbz2" => Self::Archive("a bzip2 archive"),
            "gz" => Self::Archive("a gzip archive of something else than a tar file"),
            "zst" => Self::Archive("a zstd archive of something else than a tar file"),
            "txt" | "md" | "csv" | "tsv" | "json" | "jsonl" | "xml" | "html" | "toml" | "yaml" | "yml"
            | "log" | "py" | "rs" | "sh" | "pdf" | "npy" | "npz" | "mat" | "pth" | "pt" | "safetensors"
            | "glb" | "obj" | "mtl" | "mp4" | "mov" | "avi" | "mkv" | "webm" | "mp3" | "wav" | "aae"
            | "xmp" => Self::Other,
            _ => Self::Unknown,
        }
    }
}

const SHARDS: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".zip"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_known_by_its_first_bytes() {
        let of = Content::from_head;
        assert_eq!(of(b"\xff\xd8\xff\xe0"), Content::Image(ImageFormat::Jpeg));
        assert_eq!(of(b"GIF89a"), Content::Image(ImageFormat::Gif));
        assert_eq!(of(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), Content::Unread(HEIC));
        assert_eq!(of(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf"), Content::Unread(AVIF));
        assert_eq!(of(b"\0\0\0\x18ftypisom\0\0\0\0mp41mp42"), Content::Unknown);
        assert_eq!(of(b"II*\0\x10\0\0\0CR\x02\0"), Content::Unread(RAW));
        assert_eq!(of(b"PK\x03\x04"), Content::Archive("a zip archive"));
        assert_eq!(of(b"PK\x05\x06"), Content::Archive("a zip archive"));
        assert_eq!(of(b"qoif"), Content::Unread(RARE));
        assert_eq!((of(b"once upon"), of(b"")), (Content::Unknown, Content::Unknown));
        // A box whose length is nonsense.
        assert_eq!(of(b"\xff\xff\xff\xffftypheic"), Content::Unread(HEIC));
        assert_eq!(of(b"\0\0\0\0ftyp"), Content::Unknown);
    }

    #[test]
    fn endings_are_known_whatever_their_case() {
        let of = Ending::from_name;
        for name in ["a.JPG", "a.jpe", "x/y.jfif", "a.b.tiff", "a.Gif", "c.BMP"] {
            assert_eq!(of(name), Ending::Image, "{name}");
        }
        for name in ["a.tar", "a.TAR.GZ", "a.tgz", "a.tar.zst", "a.Zip"] {
            assert_eq!(of(name), Ending::Shard, "{name}");
        }
        assert_eq!((of("IMG_1.HEIC"), of("a.avif")), (Ending::Unread(HEIC), Ending::Unread(AVIF)));
        assert_eq!(of("a.tar.xz"), Ending::Archive("an xz archive"));
        assert_eq!(
            (of("notes.txt"), of("photo.jpg.download"), of("x.y/photo")),
            (Ending::Other, Ending::Unknown, Ending::Unknown)
        );
    }
}
