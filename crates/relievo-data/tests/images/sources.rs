//! Folders, archives and patterns as sources of images, and what is left out of them.

use super::*;

#[test]
fn members_of_archives_may_have_any_path() {
    let folder = tempfile::tempdir().unwrap();
    let png = encode(quartered(8), ImageFormat::Png);
    let members = [
        ("../../out.png", &*png, false, false),
        ("./a.png", &png, false, false),
        (".b.png", &png, false, false),
    ];
    let zip = folder.path().join("all.zip");
    put(&zip, &relievo_zip::testing::archive(&members, 0));
    assert_eq!(names(&Images::open(&[&zip]).unwrap()), ["all.zip/../../out.png", "all.zip/a.png"]);
    put(&zip, &relievo_zip::testing::archive(&[], 0));
    let error = Images::open(&[&zip]).err().unwrap().to_string();
    assert!(error.starts_with("no images in ") && !error.contains("damaged"), "{error}");
}

#[test]
fn a_set_of_crops_is_read_if_it_is_given_and_left_out_below_what_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let png = encode(quartered(8), ImageFormat::Png);
    let set = folder.path().join("photos/set");
    put(&folder.path().join("photos/a.png"), &png);
    put(&set.join(CROPS), b"{}");
    put(&set.join("faces-00000.tar"), &archive(&[("b.png", &png)]));
    assert_eq!(names(&Images::open(&[&set]).unwrap()), ["faces-00000.tar/b.png"]);
    let photos = Images::open(&[folder.path().join("photos")]).unwrap();
    assert_eq!(names(&photos), ["a.png"]);
    assert_eq!(
        photos.warnings(),
        ["left out: 1 training set that `relievo crop` made (set): give the folder itself to read it"]
    );
}

pub(super) fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn names(images: &Images) -> Vec<String> {
    (0..images.len()).map(|index| images.name(index)).collect()
}

#[test]
fn folders_are_searched_in_the_order_of_names() {
    let folder = tempfile::tempdir().unwrap();
    let png = encode(quartered(8), ImageFormat::Png);
    for name in [
        "b.PNG",
        "a/z.Jpeg",
        "a/y.webp",
        "a/b/c/deep.JPG",
        "c.txt",
        ".hidden.png",
        ".git/x.png",
        "noextension",
    ] {
        put(&folder.path().join(name), &png);
    }
    let images = Images::open(&[folder.path()]).unwrap();
    assert_eq!(names(&images), ["a/b/c/deep.JPG", "a/y.webp", "a/z.Jpeg", "b.PNG"]);
    // Content decides, not the name: all of them are PNG files.
    for index in 0..4 {
        let sample = images.sample(index, 8).unwrap();
        assert_eq!((sample.name, sample.truth), (images.name(index), None));
        assert_close(middles(&sample.image), QUARTERS, 0);
    }
    assert_eq!(images.describe(), format!("4 images in {}", folder.path().display()));
    // A file that is named is taken whatever its extension.
    let one = Images::open(&[folder.path().join("noextension")]).unwrap();
    assert_eq!(names(&one), ["noextension"]);
    // Several folders put their own names in front.
    let two = Images::open(&[folder.path().join("a"), folder.path().join("b.PNG")]).unwrap();
    assert_eq!(names(&two), ["a/b/c/deep.JPG", "a/y.webp", "a/z.Jpeg", "b.PNG"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_loops_end() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let png = encode(quartered(8), ImageFormat::Png);
    put(&folder.path().join("a/one.png"), &png);
    put(&folder.path().join("elsewhere.bin"), &png);
    symlink(folder.path(), folder.path().join("a/up")).unwrap();
    symlink(folder.path().join("a"), folder.path().join("again")).unwrap();
    symlink(folder.path().join("nowhere"), folder.path().join("dangling.png")).unwrap();
    symlink(folder.path().join("elsewhere.bin"), folder.path().join("linked.png")).unwrap();
    let images = Images::open(&[folder.path()]).unwrap();
    assert_eq!(names(&images), ["a/one.png", "linked.png"]);
}

#[test]
fn nothing_to_find_is_said_clearly() {
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().display().to_string();
    let message = |path: &Path| Images::open(&[path]).err().unwrap().to_string();
    let nothing = format!("no images in {shown}, nor in sub-folders and archives there");
    assert_eq!(message(folder.path()), nothing);
    put(&folder.path().join("notes/a.txt"), b"x");
    put(&folder.path().join("b.heic"), b"x");
    let both = message(folder.path());
    assert!(
        both.starts_with(&format!("{nothing}; left out: 1 HEIC image, which is not read (b.heic): ")),
        "{both}"
    );
    assert!(both.ends_with("; left out: 1 file of other kinds (notes/a.txt)"), "{both}");
    let missing = folder.path().join("missing");
    assert!(message(&missing).starts_with(&format!("{} does not exist; ", missing.display())));
    let pattern = folder.path().join("*.jpg");
    assert_eq!(message(&pattern), format!("no file or folder fits the pattern {}", pattern.display()));
}

pub(super) fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    let mut folder = tar::Header::new_gnu();
    folder.set_entry_type(tar::EntryType::Directory);
    folder.set_size(0);
    archive.append_data(&mut folder, "folder.png", &[][..]).unwrap();
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn shards_read_like_folders() {
    let folder = tempfile::tempdir().unwrap();
    let png = encode(quartered(8), ImageFormat::Png);
    let webp = encode(quartered(8), ImageFormat::WebP);
    let long = format!("{}long.png", "deep/".repeat(40));
    let plain = archive(&[
        ("./set/2.png", &png),
        ("set/1.WEBP", &webp),
        ("set/list.csv", b"1,2,3"),
        ("set/._2.png", b"what another system leaves behind"),
        (&long, &png),
    ]);
    put(&folder.path().join("plain.tar"), &plain);
    put(&folder.path().join("sub/squeezed.TAR.GZ"), &gzip(&plain));
    put(&folder.path().join("lying.tar"), &gzip(&archive(&[("a.png", &png)])));
    put(&folder.path().join("loose.png"), &png);
    let images = Images::open(&[folder.path()]).unwrap();
    assert_eq!(
        names(&images),
        [
            "loose.png",
            "lying.tar/a.png",
            &format!("plain.tar/{long}"),
            "plain.tar/set/1.WEBP",
            "plain.tar/set/2.png",
            &format!("sub/squeezed.TAR.GZ/{long}"),
            "sub/squeezed.TAR.GZ/set/1.WEBP",
            "sub/squeezed.TAR.GZ/set/2.png",
        ]
    );
    for index in 0..images.len() {
        assert_close(middles(&images.sample(index, 8).unwrap().image), QUARTERS, 0);
    }
    let one = Images::open(&[folder.path().join("plain.tar")]).unwrap();
    assert_eq!(names(&one)[1..], ["plain.tar/set/1.WEBP", "plain.tar/set/2.png"]);
}

#[test]
fn a_bad_image_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let png = encode(quartered(8), ImageFormat::Png);
    let jpeg = encode(quartered(64), ImageFormat::Jpeg);
    put(&folder.path().join("shard.tar"), &archive(&[("set/cut.png", &png[..png.len() / 2])]));
    put(&folder.path().join("cut.jpg"), &jpeg[..jpeg.len() * 2 / 3]);
    put(&folder.path().join("text.jpg"), b"not an image at all");
    let images = Images::open(&[folder.path()]).unwrap();
    let reasons: Vec<String> = (0..3).map(|index| images.sample(index, 8).unwrap_err().to_string()).collect();
    let shown = folder.path().display();
    assert_eq!(reasons[0], format!("{shown}/cut.jpg: the JPEG file is cut short"));
    assert_eq!(reasons[1], format!("set/cut.png in {shown}/shard.tar: the file is cut short"));
    assert_eq!(reasons[2], format!("{shown}/text.jpg: not a JPEG, PNG, WebP, GIF, BMP or TIFF image"));
    // A file that goes away after it was listed.
    fs::remove_file(folder.path().join("text.jpg")).unwrap();
    let gone = images.sample(2, 8).unwrap_err().to_string();
    assert!(gone.starts_with(&format!("{shown}/text.jpg: cannot be read: ")), "{gone}");
}

#[test]
fn a_damaged_shard_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = (0..5000_u32).map(|n| ((n * n) >> 3) as u8).collect();
    let whole = archive(&[("a.jpg", &noise), ("b.jpg", &noise)]);
    let between = 512 + noise.len().next_multiple_of(512);
    let mut hole = whole.clone();
    hole[between..between + 512].fill(0);
    let cases: [(&str, &[u8]); 6] = [
        ("hole.tar", &hole),
        ("cut.tar", &whole[..8000]),
        ("between.tar", &whole[..between]),
        ("text.tar", &[b'x'; 2000]),
        ("cut.tar.gz", &gzip(&whole)[..1000]),
        ("header.tar", &whole[..5700]),
    ];
    for (name, bytes) in cases {
        let path = folder.path().join(name);
        put(&path, bytes);
        let error = Images::open(&[&path]).err().unwrap();
        assert!(matches!(error, OpenError::DamagedShard { .. }), "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let cut = Images::open(&[folder.path().join("cut.tar")]).err().unwrap().to_string();
    assert!(cut.contains("it ends in the middle of b.jpg"), "{cut}");
    let between = Images::open(&[folder.path().join("between.tar")]).err().unwrap().to_string();
    assert!(between.contains("it breaks off"), "{between}");
    let hole = Images::open(&[folder.path().join("hole.tar")]).err().unwrap().to_string();
    assert!(hole.contains("it has a hole"), "{hole}");
}

/// What was left out, with the reason in a word or two.
fn left_out(images: &Images) -> Vec<(String, u64, Vec<String>)> {
    let reason = |reason: &LeftOutReason| match reason {
        LeftOutReason::NotRead { kind, .. } | LeftOutReason::Archive { kind } => (*kind).to_owned(),
        LeftOutReason::Result => "result".into(),
        LeftOutReason::UnusualName => "name".into(),
        LeftOutReason::DamagedArchive { .. } => "damaged".into(),
        LeftOutReason::Unreadable { .. } => "unreadable".into(),
        _ => "other".into(),
    };
    images.left_out().iter().map(|entry| (reason(&entry.reason), entry.count, entry.names.clone())).collect()
}

fn entry(reason: &str, names: &[&str]) -> (String, u64, Vec<String>) {
    (reason.to_owned(), names.len() as u64, names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn nothing_is_passed_over_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let png = encode(quartered(8), ImageFormat::Png);
    for name in ["a.jpe", "b.jfif", "c.gif", "d.bmp", "e.tif", "noextension", "photo.jpg.download"] {
        put(&folder.path().join(name), &png);
    }
    for name in ["IMG_1.HEIC", "x.avif", "y.rar", "notes.txt", "broken.tar", "empty"] {
        put(&folder.path().join(name), b"");
    }
    let images = Images::open(&[folder.path()]).unwrap();
    assert_eq!(names(&images), ["a.jpe", "b.jfif", "c.gif", "d.bmp", "e.tif"]);
    assert_eq!(
        left_out(&images),
        [
            entry("a HEIC image", &["IMG_1.HEIC"]),
            entry("an AVIF image", &["x.avif"]),
            entry("name", &["noextension", "photo.jpg.download"]),
            entry("a RAR archive", &["y.rar"]),
            entry("damaged", &["broken.tar"]),
            entry("other", &["empty", "notes.txt"]),
        ]
    );
    let warnings = images.warnings();
    assert_eq!(warnings.len(), 5, "{warnings:?}");
    assert!(
        warnings[0].starts_with("left out: 1 HEIC image, which is not read (IMG_1.HEIC): convert it to JPEG")
    );
    // Whoever names a file means it.
    let named = Images::open(&[folder.path().join("noextension"), folder.path().join("IMG_1.HEIC")]).unwrap();
    assert_eq!(names(&named), ["IMG_1.HEIC", "noextension"]);
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_named_and_the_rest_used() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let png = encode(quartered(8), ImageFormat::Png);
    put(&folder.path().join("a/one.png"), &png);
    // The system refuses to follow it, whoever asks: a folder without permissions is no obstacle for root.
    symlink("loop", folder.path().join("loop")).unwrap();
    symlink("nowhere", folder.path().join("gone.jpg")).unwrap();
    // Deeper than a path may be long: two halves, one moved into the other.
    let half = |name: &str| format!("{name}/{}", vec!["d".repeat(120); 20].join("/"));
    let [upper, lower] = ["upper", "lower"].map(|name| folder.path().join(half(name)));
    put(&lower.join("x.png"), &png);
    fs::create_dir_all(&upper).unwrap();
    fs::rename(folder.path().join("lower"), upper.join("lower")).unwrap();
    let images = Images::open(&[folder.path()]).unwrap();
    assert_eq!(names(&images), ["a/one.png"]);
    let unreadable: Vec<String> = left_out(&images).into_iter().flat_map(|(_, _, names)| names).collect();
    assert_eq!(unreadable.len(), 3, "{unreadable:?}");
    assert!(unreadable.iter().any(|name| name == "gone.jpg"), "{unreadable:?}");
    assert!(unreadable.iter().any(|name| name.starts_with("upper/dddd")), "{unreadable:?}");
}

#[test]
fn results_are_never_photographs() {
    let folder = tempfile::tempdir().unwrap();
    let png = encode(quartered(8), ImageFormat::Png);
    // As relievo writes them: the chunk behind the header.
    let result = with_chunk(&png, b"tEXt", format!("{}\0made by relievo", mark::PNG_KEY).as_bytes());
    assert_close(middles(&Image::decode(&result).unwrap()), QUARTERS, 0);
    put(&folder.path().join("a.png"), &png);
    put(&folder.path().join("a.panel.png"), &result);
    put(&folder.path().join("results/b.png"), &png);
    put(&folder.path().join("results/below/c.jpg"), &png);
    put(&folder.path().join("results/below/d.png"), &result);
    put(&folder.path().join("crops.tar"), &archive(&[("x.png", &png), ("y.png", &result)]));
    mark::mark_folder(&folder.path().join("results")).unwrap();
    let images = Images::open(&[folder.path()]).unwrap();
    assert_eq!(names(&images), ["a.png", "crops.tar/x.png"]);
    let mut found = left_out(&images);
    found[0].2.sort();
    let all =
        ["a.panel.png", "crops.tar/y.png", "results/b.png", "results/below/c.jpg", "results/below/d.png"];
    assert_eq!(found, [entry("result", &all)]);
    // A folder of results that is named: what somebody put there counts, what relievo made does not.
    assert_eq!(names(&Images::open(&[folder.path().join("results")]).unwrap()), ["b.png", "below/c.jpg"]);
    let only = Images::open(&[folder.path().join("a.panel.png")]).err().unwrap().to_string();
    assert!(only.ends_with("; left out: 1 image that relievo made (a.panel.png)"), "{only}");
}

#[test]
fn patterns_are_expanded_where_no_shell_did() {
    let folder = tempfile::tempdir().unwrap();
    let png = encode(quartered(8), ImageFormat::Png);
    for name in ["b1.png", "a1.png", "a2.png", ".a3.png", "sub/a4.png", "[x].png"] {
        put(&folder.path().join(name), &png);
    }
    let open = |pattern: &str| names(&Images::open(&[folder.path().join(pattern)]).unwrap());
    assert_eq!(open("a*.png"), ["a1.png", "a2.png"]);
    assert_eq!(open("?1.png"), ["a1.png", "b1.png"]);
    // A file of that very name is no pattern.
    assert_eq!(open("[x].png"), ["[x].png"]);
}

#[test]
fn zip_and_zstd_archives_read_like_folders() {
    let folder = tempfile::tempdir().unwrap();
    let png = encode(quartered(8), ImageFormat::Png);
    let bmp = encode(quartered(8), ImageFormat::Bmp);
    let members: [relievo_zip::testing::Member<'_>; 5] = [
        ("set/b.png", &png, false, false),
        ("set/a.bmp", &bmp, true, false),
        ("set/c.bmp", &bmp, true, true),
        ("set/", b"", false, false),
        ("__MACOSX/set/._a.png", b"", false, false),
    ];
    put(&folder.path().join("all.ZIP"), &relievo_zip::testing::archive(&members, 0));
    put(&folder.path().join("secret.zip"), &relievo_zip::testing::archive(&members[..1], 1));
    let tar = archive(&[("a.png", &png), ("b.bmp", &bmp)]);
    let zstd = ruzstd::encoding::compress_to_vec(tar.as_slice(), ruzstd::encoding::CompressionLevel::Fastest);
    put(&folder.path().join("all.tar.zst"), &zstd);
    let images = Images::open(&[folder.path()]).unwrap();
    let expected = [
        "all.ZIP/set/a.bmp",
        "all.ZIP/set/b.png",
        "all.ZIP/set/c.bmp",
        "all.tar.zst/a.png",
        "all.tar.zst/b.bmp",
    ];
    assert_eq!(names(&images), expected);
    for index in 0..images.len() {
        assert_close(middles(&images.image(index).unwrap()), QUARTERS, 0);
    }
    assert_eq!(left_out(&images), [entry("unreadable", &["secret.zip/set/b.png"])]);
    // Damage: a byte of the content, the end, the list.
    let mut changed = relievo_zip::testing::archive(&members[..1], 0);
    let at = changed.windows(4).position(|bytes| bytes == b"IDAT").unwrap();
    changed[at + 6] ^= 1;
    put(&folder.path().join("changed.zip"), &changed);
    let message =
        Images::open(&[folder.path().join("changed.zip")]).unwrap().image(0).unwrap_err().to_string();
    assert!(message.contains("its checksum is another"), "{message}");
    let whole = relievo_zip::testing::archive(&members, 0);
    for length in 4..whole.len() {
        put(&folder.path().join("cut.zip"), &whole[..length]);
        if let Ok(images) = Images::open(&[folder.path().join("cut.zip")]) {
            // Only the comment at the end is cut off.
            assert!(length >= whole.len() - 3 && images.len() == 3, "{length}");
        }
    }
    put(&folder.path().join("cut.tar.zst"), &zstd[..zstd.len() / 2]);
    let cut = Images::open(&[folder.path().join("cut.tar.zst")]).err().unwrap();
    assert!(matches!(cut, OpenError::DamagedShard { .. }), "{cut}");
    put(&folder.path().join("other.zip"), b"7z\xbc\xaf\x27\x1c and more");
    let other = Images::open(&[folder.path().join("other.zip")]).err().unwrap().to_string();
    assert!(other.ends_with("is a 7-Zip archive, which is not read; unpack it"), "{other}");
}

#[test]
fn folders_are_objects_and_what_is_given_is_none() {
    let root = tempfile::tempdir().unwrap();
    let png = encode(quartered(8), ImageFormat::Png);
    let members = |names: &[&str]| archive(&names.iter().map(|name| (*name, &png[..])).collect::<Vec<_>>());
    let [folder, other, crops] = ["one", "other", "crops"].map(|name| root.path().join(name));
    for name in ["top.png", "anna/1.png", "anna/2.png", "by year/1999/x.png"] {
        put(&folder.join(name), &png);
    }
    for name in ["anna/1.png", "top.png"] {
        put(&other.join(name), &png);
    }
    put(&folder.join("more.tar"), &members(&["top.png", "anna/3.png"]));
    put(&crops.join(CROPS), b"{}");
    put(&crops.join("faces-00000.tar"), &members(&["anna/1.png", "top.png"]));
    put(&crops.join("faces-00001.tar"), &members(&["anna/2.png"]));
    let objects = |paths: &[&Path]| -> Vec<(String, Option<String>)> {
        let images = Images::open(paths).unwrap();
        (0..images.len()).map(|index| (images.name(index), images.object(index))).collect()
    };
    let expected = |pairs: &[(&str, &str)]| -> Vec<(String, Option<String>)> {
        let object = |name: &&str| Some((*name).to_owned()).filter(|name| !name.is_empty());
        pairs.iter().map(|(name, of)| ((*name).to_owned(), object(of))).collect()
    };
    let of_folder = [
        ("anna/1.png", "anna"),
        ("anna/2.png", "anna"),
        ("by year/1999/x.png", "by year/1999"),
        ("more.tar/anna/3.png", "more.tar/anna"),
        ("more.tar/top.png", ""),
        ("top.png", ""),
    ];
    assert_eq!(objects(&[&folder]), expected(&of_folder));
    // Beside another folder, names begin with those of the folders, which are no objects.
    let of_both: Vec<(String, Option<String>)> = objects(&[&folder, &other]);
    assert_eq!(of_both[0], ("one/anna/1.png".into(), Some("one/anna".into())));
    assert_eq!(
        of_both[5..],
        expected(&[("one/top.png", ""), ("other/anna/1.png", "other/anna"), ("other/top.png", "")])
    );
    // The shards of one set of crops go on where another ends.
    let of_crops = [
        ("faces-00000.tar/anna/1.png", "anna"),
        ("faces-00000.tar/top.png", ""),
        ("faces-00001.tar/anna/2.png", "anna"),
    ];
    assert_eq!(objects(&[&crops]), expected(&of_crops));
}
