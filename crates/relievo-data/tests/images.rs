//! Folders and shards of real encoded files of every kind, and of broken ones.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use relievo_data::{Image, Images, OpenError, Rectangle, Source};

/// What the four quarters of every test image look like.
const QUARTERS: [[u8; 3]; 4] = [[200, 40, 40], [40, 180, 60], [40, 60, 200], [220, 200, 60]];

fn quarter(u: u32, v: u32, side: u32) -> usize {
    usize::from(u >= side / 2) + 2 * usize::from(v >= side / 2)
}

fn quartered(side: u32) -> RgbImage {
    RgbImage::from_fn(side, side, |u, v| Rgb(QUARTERS[quarter(u, v, side)]))
}

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The colour in the middle of each quarter.
fn middles(image: &Image) -> [[u8; 3]; 4] {
    assert_eq!(image.pixels.len() as u32, image.width * image.height * 3);
    [(1, 1), (3, 1), (1, 3), (3, 3)].map(|(u, v)| {
        let at = (v * image.height / 4 * image.width + u * image.width / 4) as usize * 3;
        image.pixels[at..at + 3].try_into().unwrap()
    })
}

fn assert_close(got: [[u8; 3]; 4], expected: [[u8; 3]; 4], tolerance: u8) {
    let off = got.as_flattened().iter().zip(expected.as_flattened()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(off <= Some(tolerance), "{got:?} is not {expected:?}");
}

#[test]
fn every_kind_of_file_decodes_to_the_same_colours() {
    let rgb = quartered(32);
    for (format, tolerance) in [(ImageFormat::Png, 0), (ImageFormat::WebP, 0), (ImageFormat::Jpeg, 12)] {
        let image = Image::decode(&encode(rgb.clone(), format)).unwrap();
        assert_close(middles(&image), QUARTERS, tolerance);
    }
    let deep = ImageBuffer::<Rgb<u16>, _>::from_fn(32, 32, |u, v| {
        Rgb(QUARTERS[quarter(u, v, 32)].map(|c| u16::from(c) * 257 + 40))
    });
    assert_close(middles(&Image::decode(&encode(deep, ImageFormat::Png)).unwrap()), QUARTERS, 0);
    let progressive = include_bytes!("files/progressive.jpg");
    assert_close(middles(&Image::decode(progressive).unwrap()), QUARTERS, 6);
    let lossy = include_bytes!("files/lossy.webp");
    assert_close(middles(&Image::decode(lossy).unwrap()), QUARTERS, 12);
    let cmyk = include_bytes!("files/cmyk.jpg");
    assert_close(middles(&Image::decode(cmyk).unwrap()), QUARTERS, 6);
}

#[test]
fn grey_becomes_equal_red_green_and_blue() {
    let shade = |u: u32, v: u32| [10_u8, 90, 170, 250][quarter(u, v, 16)];
    let expected = [[10; 3], [90; 3], [170; 3], [250; 3]];
    let grey8 = ImageBuffer::<Luma<u8>, _>::from_fn(16, 16, |u, v| Luma([shade(u, v)]));
    let grey16 = ImageBuffer::<Luma<u16>, _>::from_fn(16, 16, |u, v| Luma([u16::from(shade(u, v)) * 257]));
    let jpeg = encode(grey8.clone(), ImageFormat::Jpeg);
    assert_close(middles(&Image::decode(&encode(grey8, ImageFormat::Png)).unwrap()), expected, 0);
    assert_close(middles(&Image::decode(&encode(grey16, ImageFormat::Png)).unwrap()), expected, 0);
    assert_close(middles(&Image::decode(&jpeg).unwrap()), expected, 3);
}

#[test]
fn what_is_transparent_is_laid_on_white() {
    let alpha = |u: u32, v: u32| [0_u8, 128, 255, 51][quarter(u, v, 16)];
    let grey = ImageBuffer::<LumaA<u8>, _>::from_fn(16, 16, |u, v| LumaA([100, alpha(u, v)]));
    // 255 - (255 - 100) * alpha / 255
    let expected = [[255; 3], [177; 3], [100; 3], [224; 3]];
    assert_close(middles(&Image::decode(&encode(grey, ImageFormat::Png)).unwrap()), expected, 0);
    let colour = ImageBuffer::<Rgba<u8>, _>::from_fn(16, 16, |u, v| Rgba([0, 100, 255, alpha(u, v)]));
    let expected = [[255, 255, 255], [127, 177, 255], [0, 100, 255], [204, 224, 255]];
    let deep = DynamicImage::from(colour.clone()).into_rgba16();
    assert_close(middles(&Image::decode(&encode(colour.clone(), ImageFormat::Png)).unwrap()), expected, 0);
    assert_close(middles(&Image::decode(&encode(colour, ImageFormat::WebP)).unwrap()), expected, 0);
    assert_close(middles(&Image::decode(&encode(deep, ImageFormat::Png)).unwrap()), expected, 0);
    // In the palette of this one the colour of the last quarter is transparent.
    let palette = Image::decode(include_bytes!("files/palette.png")).unwrap();
    assert_close(middles(&palette), [QUARTERS[0], QUARTERS[1], QUARTERS[2], [255; 3]], 0);
}

/// A JPEG file with an EXIF block that holds nothing but an orientation.
fn oriented(orientation: u8) -> Vec<u8> {
    let plain = encode(quartered(32), ImageFormat::Jpeg);
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&plain[..2], &[0xff, 0xe1], &length, &exif, &plain[2..]].concat()
}

#[test]
fn the_exif_orientation_is_applied() {
    // By the EXIF standard: where the four quarters of the stored image end up.
    let [a, b, c, d] = QUARTERS;
    let cases = [
        (1, [a, b, c, d]),
        (2, [b, a, d, c]),
        (3, [d, c, b, a]),
        (4, [c, d, a, b]),
        (5, [a, c, b, d]),
        (6, [c, a, d, b]),
        (7, [d, b, c, a]),
        (8, [b, d, a, c]),
        (9, [a, b, c, d]), // no such orientation
    ];
    for (orientation, expected) in cases {
        let image = Image::decode(&oriented(orientation)).unwrap();
        assert_close(middles(&image), expected, 12);
    }
}

#[test]
fn one_pixel_fills_the_square() {
    let one = RgbImage::from_pixel(1, 1, Rgb([12, 200, 77]));
    let square = Image::decode(&encode(one, ImageFormat::Png)).unwrap().square(64);
    assert_eq!((square.width, square.height), (64, 64));
    assert!(square.pixels.chunks_exact(3).all(|pixel| pixel == [12, 200, 77]));
}

#[test]
fn the_middle_square_is_cut_out() {
    // Left quarter black, right quarter white: neither may be seen.
    let wide = RgbImage::from_fn(80, 40, |u, _| {
        Rgb(if u < 20 {
            [0; 3]
        } else if u < 60 {
            [90; 3]
        } else {
            [255; 3]
        })
    });
    let tall = image::imageops::rotate90(&wide);
    for image in [wide, tall] {
        let (width, height) = image.dimensions();
        let square = Image { width, height, pixels: image.into_raw() }.square(16);
        assert_eq!(square.pixels, [90; 16 * 16 * 3]);
    }
}

#[test]
fn shrinking_averages_and_growing_blends() {
    // A checkerboard finer than the result: nearest or bilinear sampling would pick black or white.
    let fine = RgbImage::from_fn(128, 128, |u, v| Rgb([if (u + v) % 2 == 0 { 0 } else { 255 }; 3]));
    let small = Image { width: 128, height: 128, pixels: fine.into_raw() }.square(16);
    assert!(small.pixels.iter().all(|value| (126..=129).contains(value)), "{:?}", &small.pixels[..12]);
    let two = Image { width: 2, height: 2, pixels: vec![0, 0, 0, 100, 100, 100, 0, 0, 0, 100, 100, 100] };
    let reds: Vec<u8> = two.square(4).pixels.chunks_exact(3).take(4).map(|pixel| pixel[0]).collect();
    assert_eq!(reds, [0, 25, 75, 100]);
}

#[test]
fn a_rectangle_of_whole_pixels_is_a_copy_and_outside_the_edge_is_repeated() {
    let image = Image { width: 5, height: 3, pixels: (0..45).collect() };
    let whole = Rectangle { left: 0.0, top: 0.0, width: 5.0, height: 3.0 };
    assert_eq!(image.resampled(whole, 5, 3), image);
    let corner = Rectangle { left: -2.0, top: -1.0, width: 4.0, height: 2.0 };
    let reds: Vec<u8> = image.resampled(corner, 4, 2).pixels.chunks_exact(3).map(|pixel| pixel[0]).collect();
    assert_eq!(reds, [0, 0, 0, 3, 0, 0, 0, 3]);
    // Away from the edges, the square and the same rectangle are one thing.
    let random = |at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8;
    let image = Image { width: 40, height: 40, pixels: (0..4800).map(random).collect() };
    let all = Rectangle { left: 0.0, top: 0.0, width: 40.0, height: 40.0 };
    let (square, part) = (image.square(17), image.resampled(all, 17, 17));
    for row in 2..15 {
        let inside = (row * 17 + 2) * 3..(row * 17 + 15) * 3;
        assert_eq!(square.pixels[inside.clone()], part.pixels[inside]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]
    #[test]
    fn any_rectangle_of_a_flat_image_is_flat(
        extents in (1_u32..40, 1_u32..40), to in (0_u32..40, 0_u32..40), place in (-200.0..200.0_f64, -200.0..200.0_f64),
        size in (1e-3..300.0_f64, 1e-3..300.0_f64),
    ) {
        let (width, height) = extents;
        let flat = Image { width, height, pixels: vec![77; (width * height * 3) as usize] };
        let rectangle = Rectangle { left: place.0, top: place.1, width: size.0, height: size.1 };
        let part = flat.resampled(rectangle, to.0, to.1);
        prop_assert_eq!((part.width, part.height, part.pixels.len() as u32), (to.0, to.1, to.0 * to.1 * 3));
        prop_assert!(part.pixels.iter().all(|&value| value == 77));
    }

    #[test]
    fn a_resampled_image_stays_within_its_range_and_keeps_its_mean(
        width in 1_u32..70, height in 1_u32..70, size in 1_u32..70, seed in any::<u64>(),
    ) {
        let mut state = seed | 1;
        let pixels: Vec<u8> = (0..width * height * 3).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            60 + ((state >> 33) % 100) as u8
        }).collect();
        let flat = Image { width, height, pixels: vec![77; pixels.len()] };
        prop_assert!(flat.square(size).pixels.iter().all(|&value| value == 77));
        let image = Image { width, height, pixels };
        let square = image.square(size);
        prop_assert_eq!(square.pixels.len() as u32, size * size * 3);
        prop_assert!(square.pixels.iter().all(|value| (60..160).contains(value)));
        let side = width.min(height);
        let whole = image.square(side);
        let mean = |image: &Image| {
            image.pixels.iter().map(|value| f64::from(*value)).sum::<f64>() / image.pixels.len() as f64
        };
        // Halves and quarters of a square weigh all of its pixels alike but those at the rim.
        if side % 4 == 0 && side >= 32 {
            for smaller in [side / 2, side / 4] {
                let difference = mean(&image.square(smaller)) - mean(&whole);
                prop_assert!(difference.abs() < 2.0, "{} to {}: {}", side, smaller, difference);
            }
        }
    }

    /// Whatever the bytes are, the answer is an image or a sentence.
    #[test]
    fn damaged_files_never_panic(
        kind in 0_usize..3,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let format = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP][kind];
        let mut bytes = encode(quartered(24), format);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = Image::decode(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = Image::decode(&bytes);
    }
}

#[test]
fn every_truncation_is_noticed() {
    let noisy = RgbImage::from_fn(40, 40, |u, v| Rgb([(u * v) as u8, (u * 37) as u8, (v * 91) as u8]));
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let bytes = encode(noisy.clone(), format);
        // A PNG file may lack its end mark, 12 bytes: the image is whole without.
        let end = if format == ImageFormat::Png { bytes.len() - 12 } else { bytes.len() };
        for length in 0..end {
            assert!(
                Image::decode(&bytes[..length]).is_err(),
                "{format:?} cut at {length} of {}",
                bytes.len()
            );
        }
    }
    let progressive = include_bytes!("files/progressive.jpg");
    for length in 0..progressive.len() {
        assert!(Image::decode(&progressive[..length]).is_err(), "progressive JPEG cut at {length}");
    }
}

#[test]
fn bytes_behind_the_image_do_no_harm() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png] {
        let bytes = [encode(quartered(32), format), b"motion photo".to_vec()].concat();
        assert_close(middles(&Image::decode(&bytes).unwrap()), QUARTERS, 12);
    }
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    // A PNG header that promises 60,000 x 60,000 pixels, and nothing behind it.
    let mut bytes = encode(RgbImage::new(1, 1), ImageFormat::Png);
    bytes[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    let reason = Image::decode(&bytes).unwrap_err();
    assert_eq!(reason, "60000 x 60000 pixels take 10299 MiB, more than the 512 allowed");
}

#[test]
fn other_formats_and_text_are_told_apart() {
    assert_eq!(Image::decode(b"").unwrap_err(), "the file is empty");
    assert_eq!(Image::decode(b"once upon a time").unwrap_err(), "not a JPEG, PNG or WebP image");
    let gif = Image::decode(b"GIF89a\x01\0\x01\0").unwrap_err();
    assert_eq!(gif, "a Gif image; only JPEG, PNG and WebP can be read");
}

fn put(path: &Path, bytes: &[u8]) {
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
    let expected = |others: u32| {
        format!(
            "no images in {shown}: looked for .jpg, .jpeg, .png and .webp files, in sub-folders and in .tar, \
             .tar.gz and .tgz files too, and found {others} files of other kinds"
        )
    };
    assert_eq!(message(folder.path()), expected(0));
    put(&folder.path().join("notes/a.txt"), b"x");
    put(&folder.path().join("b.gif"), b"x");
    assert_eq!(message(folder.path()), expected(2));
    let missing = folder.path().join("missing");
    assert_eq!(
        message(&missing),
        format!("{} does not exist; give a folder of images or a .tar file", missing.display())
    );
}

fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
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
    assert_eq!(reasons[2], format!("{shown}/text.jpg: not a JPEG, PNG or WebP image"));
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
