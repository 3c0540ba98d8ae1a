//! From the bytes of a file to an RGB image in sRGB.

pub(crate) mod format;
mod frames;
mod jpeg;
mod png;
mod profile;

use std::cell::Cell;
use std::io::Cursor;
use std::panic::{UnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Mutex, Once, PoisonError};

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::memory::{Reservation, has_memory, reserve_memory};
use crate::sample::Image;
use format::Content;

/// How a file is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// Memory that the pixels of one image may take, in bytes: 512 MiB by default, 12,000 x 14,000 photographs. What
    /// would need more is decoded at a half, a quarter or an eighth of its width and height if its format allows that
    /// (JPEG; PNG by any whole number), and refused otherwise. In between up to two copies are held.
    pub max_bytes: u64,
    /// Whether a JPEG file that breaks off is taken, with a note, if no more than a twentieth of its rows is missing.
    /// No by default: such an image must not be trained on.
    pub accept_missing_end: bool,
    /// Whether colours are converted to sRGB where the file says that they are others (an ICC profile; in PNG files
    /// also cICP, gAMA and cHRM). Yes by default. An image without a profile keeps its bits.
    pub convert_profile: bool,
    /// Whether an image for which the system has too little memory is decoded at a reduced size, with a note, as one of
    /// more than `max_bytes` is. No by default: what is learned from must not depend on the machine.
    pub fit_memory: bool,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { max_bytes: 512 << 20, accept_missing_end: false, convert_profile: true, fit_memory: false }
    }
}

impl DecodeOptions {
    /// For an image that somebody wants to see reconstructed: takes what there is of a JPEG file that breaks off, at the
    /// size that there is memory for.
    pub fn lenient() -> Self {
        Self { accept_missing_end: true, fit_memory: true, ..Self::default() }
    }

    /// The same with another `max_bytes`.
    #[must_use]
    pub fn within(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }
}

/// An image and what happened to it on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decoded {
    /// The image, upright.
    pub image: Image,
    /// What a person may want to know.
    pub notes: Vec<Note>,
}

/// What happened to an image when it was decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Note {
    /// Its colours were converted to sRGB.
    #[error("its colours were converted from {0} to sRGB")]
    ProfileConverted(String),
    /// It has a profile that cannot be used, so its colours are taken as sRGB.
    #[error("its colour profile cannot be used ({0}), so its colours may be off")]
    ProfileUnusable(String),
    /// The file breaks off.
    #[error("the file breaks off: {}", if *.0 == 0 { "its last bytes are missing".to_owned() } else { format!("its last {} rows are missing", .0) })]
    EndMissing(
        /// Rows that are missing at the lower edge of the stored image, and grey.
        u32,
    ),
    /// It was decoded at a reduced size, to save memory.
    #[error("it has {} x {} pixels and was decoded at a reduced size", .0[0], .0[1])]
    Reduced(
        /// Columns and rows in the file.
        [u32; 2],
    ),
}

impl Note {
    /// Whether results may be worse for it; that colours were converted is as it should be.
    pub fn is_warning(&self) -> bool {
        !matches!(self, Self::ProfileConverted(_))
    }
}

/// Why a file cannot be decoded; a sentence for a person, without the file's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// Neither an image nor anything else that is known.
    #[error("not a JPEG, PNG, WebP, GIF, BMP or TIFF image")]
    Unknown,
    /// An image of a kind that is known and not read.
    #[error("{kind}, which is not read; {remedy}")]
    NotRead {
        /// The kind, with its article.
        kind: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Files packed into one, under a name that does not say so.
    #[error("{0}, not an image; give it a name that ends so, or unpack it")]
    Archive(&'static str),
    /// Files packed into one, in a way that is not read.
    #[error("{0}, which is not read; unpack it")]
    UnreadArchive(&'static str),
    /// The file breaks off, also where a decoder would fill the missing part with grey.
    #[error("the {} is cut short", if *.jpeg { "JPEG file" } else { "file" })]
    CutShort {
        /// Whether it is a JPEG file.
        jpeg: bool,
    },
    /// Too many pixels for the memory it may take.
    #[error("{width} x {height} pixels take {} MiB, more than the {} allowed", .needed >> 20, .allowed >> 20)]
    TooLarge {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// Memory of the pixels, in bytes.
        needed: u64,
        /// See [`DecodeOptions::max_bytes`].
        allowed: u64,
    },
    /// The system has too little memory.
    #[error("there is too little memory to decode it: it needs {} MiB", .0 >> 20)]
    OutOfMemory(u64),
    /// What the decoder says.
    #[error("{0}")]
    Damaged(String),
    /// A defect of the decoder.
    #[error("its decoder panicked")]
    Panicked,
}

impl Image {
    /// Decodes a JPEG, PNG, WebP, GIF, BMP or TIFF file, whatever its name was.
    ///
    /// Grey, 16-bit, palette and CMYK images become 8-bit RGB; what is transparent is laid on white, as viewers
    /// do; the EXIF orientation is applied; of an animation the first frame is taken; colours become sRGB.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use relievo_data::Image;
    ///
    /// // An image of one red pixel.
    /// let bmp = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0\0\0\0\0\x04\0\0\0\
    ///     \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x00\x00\xff\0";
    /// let image = Image::decode(bmp)?;
    /// assert_eq!((image.width, image.height, image.pixels), (1, 1, vec![255, 0, 0]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_with(bytes, &DecodeOptions::default()).map(|decoded| decoded.image)
    }

    /// As [`Image::decode`], and says what happened on the way.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode_with(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, DecodeError> {
        guarded(|| decode_or_panic(bytes, options))
    }

    /// Up to `most` frames of a GIF or WebP animation, spread evenly over it, and how many it has (up to 10,000 are counted);
    /// none if the file is of another format. One frame more than those is in memory.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn frames(
        bytes: &[u8],
        most: usize,
        options: &DecodeOptions,
    ) -> Result<(Vec<Self>, usize), DecodeError> {
        guarded(|| frames::frames(bytes, most, options))
    }
}

/// A decoder that panics on a strange file must not take a training or a thousand other images with it.
fn guarded<T>(decode: impl FnOnce() -> Result<T, DecodeError> + UnwindSafe) -> Result<T, DecodeError> {
    silence_decoders();
    let was = IN_DECODER.replace(true);
    let decoded = catch_unwind(decode);
    IN_DECODER.set(was);
    decoded.unwrap_or(Err(DecodeError::Panicked))
}

thread_local! {
    /// Whether this thread is in a decoder, whose panics are caught and reported as errors.
    static IN_DECODER: Cell<bool> = const { Cell::new(false) };
}

/// Wraps the panic hook once, so that a panic of a decoder is not reported as a defect and then once more as an error.
fn silence_decoders() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = take_hook();
        set_hook(Box::new(move |panic| {
            if !IN_DECODER.get() {
                hook(panic);
            }
        }));
    });
}

fn decode_or_panic(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = match Content::from_head(&bytes[..bytes.len().min(format::HEAD)]) {
        Content::Image(format) => format,
        Content::Unread(kind) => return Err(DecodeError::NotRead { kind: kind.name, remedy: kind.remedy }),
        Content::Archive(name @ ("a zip archive" | "a gzip archive" | "a zstd archive")) => {
            return Err(DecodeError::Archive(name));
        }
        Content::Archive(name) => return Err(DecodeError::UnreadArchive(name)),
        Content::Unknown => return Err(DecodeError::Unknown),
    };
    let jpeg = (format == ImageFormat::Jpeg).then(|| jpeg::Structure::read(bytes)).transpose()?;
    let breaks_off = jpeg.as_ref().is_some_and(|jpeg| !jpeg.is_complete);
    if breaks_off && !options.accept_missing_end {
        return Err(DecodeError::CutShort { jpeg: true });
    }
    let failed = |error| match format {
        _ if breaks_off => DecodeError::CutShort { jpeg: true },
        ImageFormat::WebP if is_webp_cut_short(bytes) => DecodeError::CutShort { jpeg: false },
        _ => describe(error, options),
    };
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(options.max_bytes);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = match reader.into_decoder() {
        // Some decoders hold what they are about to make against the limit when they are opened.
        Err(ImageError::Limits(_)) => return reduced_png_or(format, bytes, options),
        other => other.map_err(failed)?,
    };
    let (width, height) = decoder.dimensions();
    // A damaged EXIF block or profile is no reason to refuse the image.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let profile = if options.convert_profile { profile::find(format, bytes, &mut decoder) } else { None };
    let mut notes = Vec::new();
    let mut is_too_large = decoder.total_bytes() > options.max_bytes;
    let copies = if orientation == image::metadata::Orientation::NoTransforms { 1 } else { 2 };
    let coefficients = jpeg.as_ref().map_or(0, |jpeg| jpeg.coefficient_bytes([width, height]));
    // Where memory is short, images are decoded one after the other: each asks what the last one has left.
    static TURN: Mutex<()> = Mutex::new(());
    let is_short = options.fit_memory && !has_memory(PLENTY.saturating_mul(decoder.total_bytes()));
    let _turn = is_short.then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner));
    let mut memory = None;
    if !is_too_large {
        let needed = copies * decoder.total_bytes() + coefficients;
        // What comes after it needs memory too.
        let room = if options.fit_memory { ROOM } else { 0 };
        match memory_for(needed, room) {
            Err(_) if options.fit_memory && matches!(format, ImageFormat::Jpeg | ImageFormat::Png) => {
                is_too_large = needed > MOST_UNREDUCED;
                if !is_too_large {
                    memory = Some(memory_for(needed, 0)?);
                }
            }
            enough => memory = Some(enough?),
        }
    }
    let cmyk = jpeg.as_ref().is_some_and(|jpeg| jpeg.components == 4);
    let mut decoded = match (&profile, format) {
        _ if is_too_large => {
            notes.push(Note::Reduced([width, height]));
            reduced(format, bytes, [width, height], decoder.total_bytes(), coefficients, options)?
        }
        (Some(profile::Profile::Icc(icc)), ImageFormat::Jpeg) if cmyk => match jpeg::inks(bytes, icc) {
            Ok((image, name)) => {
                notes.push(Note::ProfileConverted(name));
                image
            }
            Err(reason) => {
                notes.push(Note::ProfileUnusable(reason));
                DynamicImage::from_decoder(decoder).map_err(failed)?
            }
        },
        _ => DynamicImage::from_decoder(decoder).map_err(failed)?,
    };
    if breaks_off {
        let missing = jpeg::missing_rows(&decoded);
        if u64::from(missing) * 20 > u64::from(decoded.height()) {
            return Err(DecodeError::CutShort { jpeg: true });
        }
        notes.push(Note::EndMissing(missing));
    }
    if let Some(profile) = profile.filter(|_| !cmyk) {
        notes.extend(profile::convert(&mut decoded, &profile));
    }
    decoded.apply_orientation(orientation);
    let image = flatten(decoded);
    drop(memory);
    Ok(Decoded { image, notes })
}

/// Memory is short if there is less than so many times that of an image's pixels.
const PLENTY: u64 = 16;

/// Images whose pixels take less are not reduced for want of memory, in bytes.
const MOST_UNREDUCED: u64 = 16 << 20;

/// Memory that is left for the work on an image when it is reduced to fit, in bytes.
const ROOM: u64 = 256 << 20;

/// The image at a reduced size.
fn reduced(
    format: ImageFormat,
    bytes: &[u8],
    [width, height]: [u32; 2],
    needed: u64,
    coefficients: u64,
    options: &DecodeOptions,
) -> Result<DynamicImage, DecodeError> {
    let too_large = match options.max_bytes {
        allowed if needed > allowed => DecodeError::TooLarge { width, height, needed, allowed },
        _ => DecodeError::OutOfMemory(needed),
    };
    let room = if options.fit_memory { ROOM } else { 0 };
    // Halves of the limit, down to small images; only the limit itself where the size must not depend on the machine.
    let least = if options.fit_memory { MOST_UNREDUCED.min(options.max_bytes) } else { options.max_bytes };
    let limits = std::iter::successors(Some(options.max_bytes.min(needed)), |limit| Some(limit / 2));
    let mut short = None;
    for limit in limits.take_while(|limit| *limit >= least.min(needed) && *limit > 0) {
        let found = match format {
            ImageFormat::Jpeg if coefficients <= 2 * options.max_bytes => {
                jpeg::Reduced::within([width, height], limit).map(|reduced| {
                    // The planes of the components, and the pixels made of them.
                    let _memory = memory_for(coefficients + 2 * reduced.bytes(), room)?;
                    reduced.decode(bytes)
                })
            }
            ImageFormat::Png => memory_for(2 * limit, room)
                .map_or_else(|short| Some(Err(short)), |_memory| png::reduced(bytes, limit)),
            _ => None,
        };
        match found {
            Some(Err(error @ DecodeError::OutOfMemory(_))) => short = Some(error),
            Some(found) => return found,
            None => {}
        }
    }
    Err(short.unwrap_or(too_large))
}

/// What is left to try with a file that its decoder does not open within the limits.
fn reduced_png_or(
    format: ImageFormat,
    bytes: &[u8],
    options: &DecodeOptions,
) -> Result<Decoded, DecodeError> {
    let too_large =
        || DecodeError::Damaged(format!("takes more than {} MiB when decoded", options.max_bytes >> 20));
    if format != ImageFormat::Png {
        return Err(too_large());
    }
    let size = png::size(bytes).ok_or_else(too_large)?;
    let image = png::reduced(bytes, options.max_bytes).ok_or_else(too_large)??;
    Ok(Decoded { image: flatten(image), notes: vec![Note::Reduced(size)] })
}

/// Fails where the system would end the program in the middle of decoding, or leave less than `room` behind it.
fn memory_for(bytes: u64, room: u64) -> Result<Reservation, DecodeError> {
    reserve_memory(bytes, room).ok_or(DecodeError::OutOfMemory(bytes))
}

/// 8-bit RGB, what is transparent laid on white.
fn flatten(decoded: DynamicImage) -> Image {
    let (width, height) = (decoded.width(), decoded.height());
    let pixels = if decoded.color().has_alpha() {
        let rgba = decoded.into_rgba8();
        rgba.pixels().flat_map(|&image::Rgba([r, g, b, a])| [r, g, b].map(|c| over_white(c, a))).collect()
    } else {
        decoded.into_rgb8().into_raw()
    };
    Image { width, height, pixels }
}

fn over_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// Whether a WebP file has fewer bytes than its header says (RIFF: the length follows the first four bytes).
fn is_webp_cut_short(bytes: &[u8]) -> bool {
    let length = bytes.get(4..8).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes);
    length.is_some_and(|length| (bytes.len() as u64) < u64::from(length) + 8)
}

fn describe(error: ImageError, options: &DecodeOptions) -> DecodeError {
    match error {
        ImageError::Unsupported(_) => DecodeError::NotRead {
            kind: "an image of an unusual kind",
            remedy: "save it as an ordinary JPEG or PNG",
        },
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::CutShort { jpeg: false }
        }
        ImageError::Limits(_) => {
            DecodeError::Damaged(format!("takes more than {} MiB when decoded", options.max_bytes >> 20))
        }
        other => DecodeError::Damaged(other.to_string()),
    }
}
