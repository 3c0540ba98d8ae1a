//! Real encoded files of every kind, and broken ones: their pixels here, their colours in `profiles.rs`, folders and archives
//! of them in `sources.rs`.

mod objects;
mod profiles;
mod sources;

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba};
use moxcms::{ColorProfile, ToneReprCurve};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use relievo_data::{
    CROPS, DecodeError, DecodeOptions, Image, Images, LeftOutReason, Note, OpenError, Rectangle, Source,
};
use relievo_files::mark;

/// What the four quarters of every test image look like.
const QUARTERS: [[u8; 3]; 4] = [[200, 40, 40], [40, 180, 60], [40, 60, 200], [220, 200, 60]];

fn quarter(u: u32, v: u32, side: u32) -> usize {
    usize::from(u >= side / 2) + 2 * usize::from(v >= side / 2)
}

fn quartered(side: u32) -> RgbImage {
    RgbImage::from_fn(side, side, |u, v| Rgb(QUARTERS[quarter(u, v, side)]))
}

/// The PNG file with a chunk behind its header.
fn with_chunk(png: &[u8], kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(content);
    let length = (content.len() as u32).to_be_bytes();
    [&png[..33], &length, kind, content, &crc.sum().to_be_bytes(), &png[33..]].concat()
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
    for (format, tolerance) in [
        (ImageFormat::Png, 0),
        (ImageFormat::WebP, 0),
        (ImageFormat::Jpeg, 12),
        (ImageFormat::Gif, 0),
        (ImageFormat::Bmp, 0),
        (ImageFormat::Tiff, 0),
    ] {
        let image = Image::decode(&encode(rgb.clone(), format)).unwrap();
        assert_close(middles(&image), QUARTERS, tolerance);
    }
    let deep = ImageBuffer::<Rgb<u16>, _>::from_fn(32, 32, |u, v| {
        Rgb(QUARTERS[quarter(u, v, 32)].map(|c| u16::from(c) * 257 + 40))
    });
    assert_close(middles(&Image::decode(&encode(deep, ImageFormat::Png)).unwrap()), QUARTERS, 0);
    let progressive = include_bytes!("../files/progressive.jpg");
    assert_close(middles(&Image::decode(progressive).unwrap()), QUARTERS, 6);
    let lossy = include_bytes!("../files/lossy.webp");
    assert_close(middles(&Image::decode(lossy).unwrap()), QUARTERS, 12);
    let cmyk = include_bytes!("../files/cmyk.jpg");
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
    let palette = Image::decode(include_bytes!("../files/palette.png")).unwrap();
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
        kind in 0_usize..6,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(quartered(24), FORMATS[kind]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        // A panic is caught on the way and becomes this error.
        let is_sound = |bytes: &[u8], options: &DecodeOptions| match Image::decode_with(bytes, options) {
            Ok(decoded) => {
                let Image { width, height, pixels } = decoded.image;
                pixels.len() as u64 == u64::from(width) * u64::from(height) * 3
            }
            Err(error) => error != DecodeError::Panicked,
        };
        for options in [DecodeOptions::default(), DecodeOptions::lenient()] {
            prop_assert!(is_sound(&bytes, &options));
            prop_assert!(is_sound(&bytes[..cut.index(bytes.len())], &options));
        }
    }
}

const FORMATS: [ImageFormat; 6] = [
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::WebP,
    ImageFormat::Gif,
    ImageFormat::Bmp,
    ImageFormat::Tiff,
];

fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<(Image, Vec<Note>), String> {
    Image::decode_with(bytes, options)
        .map(|decoded| (decoded.image, decoded.notes))
        .map_err(|error| error.to_string())
}

#[test]
fn a_jpeg_without_its_last_bytes_is_for_those_who_ask() {
    let noisy = RgbImage::from_fn(160, 160, |u, v| Rgb([(u * v) as u8, (u * 37) as u8, (v * 91) as u8]));
    let whole = encode(noisy, ImageFormat::Jpeg);
    let image = Image::decode(&whole).unwrap();
    let cut = |missing: usize, options: &DecodeOptions| decode(&whole[..whole.len() - missing], options);
    let strict = Err("the JPEG file is cut short".to_owned());
    for missing in [1, 2] {
        assert_eq!(cut(missing, &DecodeOptions::lenient()), Ok((image.clone(), vec![Note::EndMissing(0)])));
        assert_eq!(cut(missing, &DecodeOptions::default()), strict);
    }
    let (most, notes) = cut(whole.len() / 40, &DecodeOptions::lenient()).unwrap();
    assert!(matches!(notes[..], [Note::EndMissing(0..=8)]), "{notes:?}");
    assert_eq!(most.pixels[..160 * 140 * 3], image.pixels[..160 * 140 * 3]);
    assert_eq!(cut(whole.len() / 3, &DecodeOptions::lenient()), strict);
    assert_eq!(cut(whole.len() - 100, &DecodeOptions::lenient()), strict);
}

#[test]
fn large_images_are_decoded_at_a_reduced_size() {
    let image = quartered(400);
    let mut options = DecodeOptions::default();
    for (format, most, size) in [
        (ImageFormat::Jpeg, 200 * 200 * 3, 200),
        (ImageFormat::Jpeg, 200 * 200 * 3 - 1, 100),
        (ImageFormat::Jpeg, 50 * 50 * 3, 50),
        (ImageFormat::Png, 200 * 200 * 3, 200),
        (ImageFormat::Png, 200 * 200 * 3 - 1, 133),
    ] {
        options.max_bytes = most;
        let (reduced, notes) = decode(&encode(image.clone(), format), &options).unwrap();
        assert_eq!((reduced.width, reduced.height), (size, size), "{format:?}");
        assert_eq!(notes, [Note::Reduced([400, 400])]);
        assert_close(middles(&reduced), QUARTERS, if format == ImageFormat::Jpeg { 12 } else { 0 });
    }
    // Transparent, grey, turned.
    options.max_bytes = 100 * 100 * 3;
    let clear = ImageBuffer::<LumaA<u8>, _>::from_fn(400, 400, |u, v| {
        LumaA([100, [0, 128, 255, 51][quarter(u, v, 400)]])
    });
    let (clear, _) = decode(&encode(clear, ImageFormat::Png), &options).unwrap();
    assert_close(middles(&clear), [[255; 3], [177; 3], [100; 3], [224; 3]], 1);
    options.max_bytes = 16 * 16 * 3;
    let [a, b, c, d] = QUARTERS;
    assert_close(middles(&decode(&oriented(6), &options).unwrap().0), [c, a, d, b], 12);
    // Formats that cannot, and an image that is too large even then.
    options.max_bytes = 49 * 49 * 3;
    let refusal = |format| decode(&encode(image.clone(), format), &options).unwrap_err();
    for format in [ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp] {
        assert!(refusal(format).contains("MiB"), "{format:?}: {}", refusal(format));
    }
    let cut = encode(image.clone(), ImageFormat::Png);
    assert!(decode(&cut[..cut.len() - 40], &options).is_err());
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
    let progressive = include_bytes!("../files/progressive.jpg");
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
    assert_eq!(reason.to_string(), "60000 x 60000 pixels take 10299 MiB, more than the 512 allowed");
}

#[test]
fn other_formats_and_text_are_told_apart() {
    let refusal = |bytes: &[u8]| Image::decode(bytes).unwrap_err().to_string();
    assert_eq!(refusal(b""), "the file is empty");
    assert_eq!(refusal(b"once upon a time"), "not a JPEG, PNG, WebP, GIF, BMP or TIFF image");
    let heic = refusal(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    assert!(heic.starts_with("a HEIC image, which is not read; convert it to JPEG"), "{heic}");
    let avif = refusal(b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf");
    assert!(avif.starts_with("an AVIF image, which is not read; convert it"), "{avif}");
    assert!(refusal(b"PK\x03\x04").starts_with("a zip archive, not an image"));
    assert_eq!(refusal(b"\xfd7zXZ\0"), "an xz archive, which is not read; unpack it");
    let webp = encode(quartered(40), ImageFormat::WebP);
    assert_eq!(refusal(&webp[..webp.len() / 2]), "the file is cut short");
    assert_eq!(
        refusal(&grey_of_floats()),
        "an image of an unusual kind, which is not read; save it as an ordinary JPEG or PNG"
    );
    let mut jpeg = encode(quartered(8), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|bytes| bytes == [0xff, 0xc0]).unwrap();
    jpeg[frame + 1] = 0xc9;
    assert!(refusal(&jpeg).starts_with("a JPEG image with arithmetic coding, which is not read; save it"));
    jpeg[frame + 1] = 0xc3;
    assert!(refusal(&jpeg).starts_with("a lossless or hierarchical JPEG image, which is not read"));
}

/// A TIFF image of one pixel, a floating-point number.
fn grey_of_floats() -> Vec<u8> {
    // Tags of one number each: width, height, bits, compression, black is zero, strip, samples, rows, bytes, floats.
    let tags: [(u16, u32); 10] =
        [(256, 1), (257, 1), (258, 32), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 4), (339, 3)];
    let mut bytes = b"II*\0\x0c\0\0\0\0\0\0\0".to_vec();
    bytes.extend((tags.len() as u16).to_le_bytes());
    for (tag, value) in tags {
        bytes.extend(tag.to_le_bytes());
        // A 32-bit number, one of it.
        bytes.extend([4, 0, 1, 0, 0, 0]);
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes
}
