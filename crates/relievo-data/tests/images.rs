//! Folders and shards of real encoded files of every kind, and of broken ones.

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

/// A power curve's colours, or those of sRGB's curve, in sRGB: by the definitions of IEC 61966-2-1, from the
/// chromaticities of red, green and blue under D65.
fn to_srgb(colour: [u8; 3], primaries: [[f64; 2]; 3], gamma: Option<f64>) -> [u8; 3] {
    let linear = |value: u8| {
        let value = f64::from(value) / 255.0;
        match gamma {
            Some(gamma) => value.powf(gamma),
            None if value <= 0.04045 => value / 12.92,
            None => ((value + 0.055) / 1.055).powf(2.4),
        }
    };
    let encoded = |value: f64| {
        let value = value.clamp(0.0, 1.0);
        let curved = if value <= 0.003_130_8 { 12.92 * value } else { 1.055 * value.powf(1.0 / 2.4) - 0.055 };
        (255.0 * curved).round() as u8
    };
    // Columns: XYZ of each primary, scaled so that all together are white.
    let xyz = |[x, y]: [f64; 2]| [x / y, 1.0, (1.0 - x - y) / y];
    let white = xyz([0.3127, 0.3290]);
    let matrix = |primaries: [[f64; 2]; 3]| {
        let columns = primaries.map(xyz);
        let scale = solve(columns, white);
        [0, 1, 2].map(|at| columns[at].map(|value| value * scale[at]))
    };
    let (source, srgb) = (matrix(primaries), matrix([[0.64, 0.33], [0.30, 0.60], [0.15, 0.06]]));
    let light = colour.map(linear);
    let seen = [0, 1, 2].map(|row| (0..3).map(|at| source[at][row] * light[at]).sum::<f64>());
    solve(srgb, seen).map(encoded)
}

/// What times the columns gives the target, by Cramer's rule.
fn solve(columns: [[f64; 3]; 3], target: [f64; 3]) -> [f64; 3] {
    let determinant = |m: [[f64; 3]; 3]| {
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[1][0] * (m[0][1] * m[2][2] - m[0][2] * m[2][1])
            + m[2][0] * (m[0][1] * m[1][2] - m[0][2] * m[1][1])
    };
    [0, 1, 2].map(|at| {
        let mut with = columns;
        with[at] = target;
        determinant(with) / determinant(columns)
    })
}

const DISPLAY_P3: [[f64; 2]; 3] = [[0.680, 0.320], [0.265, 0.690], [0.150, 0.060]];
const ADOBE_RGB: [[f64; 2]; 3] = [[0.64, 0.33], [0.21, 0.71], [0.15, 0.06]];
const SRGB: [[f64; 2]; 3] = [[0.64, 0.33], [0.30, 0.60], [0.15, 0.06]];

/// The file with an ICC profile in it.
fn with_icc(image: impl Into<DynamicImage>, format: ImageFormat, icc: Vec<u8>) -> Vec<u8> {
    use image::ImageEncoder;
    let mut bytes = Vec::new();
    let image = image.into();
    match format {
        ImageFormat::Png => {
            let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
            encoder.set_icc_profile(icc).unwrap();
            image.write_with_encoder(encoder).unwrap();
        }
        ImageFormat::Jpeg => {
            let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 98);
            encoder.set_icc_profile(icc).unwrap();
            image.write_with_encoder(encoder).unwrap();
        }
        _ => {
            let mut encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut bytes);
            encoder.set_icc_profile(icc).unwrap();
            image.write_with_encoder(encoder).unwrap();
        }
    }
    bytes
}

#[test]
fn colours_are_converted_by_their_icc_profile() {
    let profiles = [
        (ColorProfile::new_display_p3(), DISPLAY_P3, None, "Display P3"),
        (ColorProfile::new_adobe_rgb(), ADOBE_RGB, Some(2.199_218_75), "Adobe RGB 1998"),
    ];
    for (profile, primaries, gamma, name) in profiles {
        let icc = profile.encode().unwrap();
        let expected = QUARTERS.map(|colour| to_srgb(colour, primaries, gamma));
        for (format, tolerance) in [(ImageFormat::Png, 2), (ImageFormat::WebP, 2), (ImageFormat::Jpeg, 6)] {
            let bytes = with_icc(quartered(32), format, icc.clone());
            let (image, notes) = decode(&bytes, &DecodeOptions::default()).unwrap();
            assert_close(middles(&image), expected, tolerance);
            assert_eq!(notes, [Note::ProfileConverted(name.into())], "{format:?}");
            let mut as_it_is = DecodeOptions::default();
            as_it_is.convert_profile = false;
            assert_close(middles(&decode(&bytes, &as_it_is).unwrap().0), QUARTERS, tolerance);
        }
        // With transparency, and in 16 bits.
        let clear = DynamicImage::from(quartered(32)).into_rgba8();
        let deep = DynamicImage::from(quartered(32)).into_rgb16();
        for image in [DynamicImage::from(clear), DynamicImage::from(deep)] {
            let bytes = with_icc(image, ImageFormat::Png, icc.clone());
            assert_close(middles(&Image::decode(&bytes).unwrap()), expected, 2);
        }
    }
    // Grey of twice the exponent.
    let mut grey = ColorProfile::new_gray_with_gamma(1.0);
    grey.gray_trc = Some(ToneReprCurve::Parametric(vec![1.0]));
    let image = ImageBuffer::<Luma<u8>, _>::from_pixel(16, 16, Luma([128]));
    let bytes = with_icc(image, ImageFormat::Png, grey.encode().unwrap());
    assert_close(middles(&Image::decode(&bytes).unwrap()), [to_srgb([128; 3], SRGB, Some(1.0)); 4], 2);
}

#[test]
fn images_in_srgb_keep_their_bits() {
    let noisy = RgbImage::from_fn(40, 40, |u, v| Rgb([(u * v) as u8, (u * 37) as u8, (v * 91) as u8]));
    let icc = ColorProfile::new_srgb().encode().unwrap();
    let mut as_it_is = DecodeOptions::default();
    as_it_is.convert_profile = false;
    let mut files: Vec<Vec<u8>> = FORMATS.iter().map(|format| encode(noisy.clone(), *format)).collect();
    files.extend(
        [ImageFormat::Png, ImageFormat::Jpeg].map(|format| with_icc(noisy.clone(), format, icc.clone())),
    );
    // What writers of sRGB put beside or in place of a profile.
    let png = encode(noisy.clone(), ImageFormat::Png);
    files.push(with_chunk(&png, b"sRGB", &[0]));
    files.push(with_chunk(&png, b"gAMA", &45_455_u32.to_be_bytes()));
    files.push(with_chunk(
        &with_chunk(&png, b"cHRM", &chromaticities(SRGB)),
        b"gAMA",
        &45_455_u32.to_be_bytes(),
    ));
    files.push(with_chunk(&png, b"cICP", &[1, 13, 0, 1]));
    for (number, bytes) in files.iter().enumerate() {
        let (image, notes) = decode(bytes, &DecodeOptions::default()).unwrap();
        assert_eq!(notes, [], "file {number}");
        assert!(image == decode(bytes, &as_it_is).unwrap().0, "file {number}");
    }
    let broken = with_icc(noisy, ImageFormat::Png, b"no profile at all".to_vec());
    let (_, notes) = decode(&broken, &DecodeOptions::default()).unwrap();
    assert!(matches!(notes[..], [Note::ProfileUnusable(_)]), "{notes:?}");
}

/// The PNG file with a chunk behind its header.
fn with_chunk(png: &[u8], kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(content);
    let length = (content.len() as u32).to_be_bytes();
    [&png[..33], &length, kind, content, &crc.sum().to_be_bytes(), &png[33..]].concat()
}

/// The content of a cHRM chunk, white D65.
fn chromaticities(primaries: [[f64; 2]; 3]) -> Vec<u8> {
    let points = [[0.3127, 0.3290]].into_iter().chain(primaries).flatten();
    points.flat_map(|value| ((value * 100_000.0).round() as u32).to_be_bytes()).collect()
}

#[test]
fn chunks_of_png_files_say_what_colours_are() {
    let png = encode(quartered(32), ImageFormat::Png);
    let converted = |primaries, gamma| QUARTERS.map(|colour| to_srgb(colour, primaries, gamma));
    let cases = [
        (with_chunk(&png, b"gAMA", &100_000_u32.to_be_bytes()), converted(SRGB, Some(1.0))),
        (with_chunk(&png, b"cHRM", &chromaticities(ADOBE_RGB)), converted(ADOBE_RGB, None)),
        (with_chunk(&png, b"cICP", &[12, 13, 0, 1]), converted(DISPLAY_P3, None)),
        // Of several, the first of cICP, iCCP, sRGB, gAMA counts.
        (
            with_chunk(&with_chunk(&png, b"gAMA", &100_000_u32.to_be_bytes()), b"cICP", &[12, 13, 0, 1]),
            converted(DISPLAY_P3, None),
        ),
        (with_chunk(&with_chunk(&png, b"gAMA", &100_000_u32.to_be_bytes()), b"sRGB", &[0]), QUARTERS),
        // Of no meaning: no chromaticity is zero.
        (with_chunk(&png, b"cHRM", &[0; 32]), QUARTERS),
    ];
    for (number, (bytes, expected)) in cases.into_iter().enumerate() {
        let found = middles(&Image::decode(&bytes).unwrap());
        let off = found.as_flattened().iter().zip(expected.as_flattened()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(off <= Some(2), "case {number}: {found:?} is not {expected:?}");
    }
}

/// An ICC profile of inks (version 2, a table of 8 bits with two steps for each ink): what it makes of all 16 corners
/// is a lightness, without colour.
fn inks(lightness: impl Fn([usize; 4]) -> u8) -> Vec<u8> {
    let mut table = b"mft1\0\0\0\0\x04\x03\x02\0".to_vec();
    for value in [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0_f64] {
        table.extend(((value * 65536.0) as i32).to_be_bytes());
    }
    let ramp: Vec<u8> = (0..=255).collect();
    table.extend(ramp.repeat(4));
    for corner in 0..16 {
        table.extend([lightness([corner >> 3 & 1, corner >> 2 & 1, corner >> 1 & 1, corner & 1]), 128, 128]);
    }
    table.extend(ramp.repeat(3));
    let mut profile = vec![0; 128];
    profile[8..12].copy_from_slice(&[2, 0x40, 0, 0]);
    profile[12..24].copy_from_slice(b"prtrCMYKLab ");
    profile[36..40].copy_from_slice(b"acsp");
    // The illuminant of the connection space, D50.
    for (at, value) in [(68, 0xf6d6_u32), (72, 0x10000), (76, 0xd32d)] {
        profile[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    profile.extend(1_u32.to_be_bytes());
    profile.extend(b"A2B0");
    profile.extend(144_u32.to_be_bytes());
    profile.extend((table.len() as u32).to_be_bytes());
    profile.extend(table);
    let length = profile.len() as u32;
    profile[..4].copy_from_slice(&length.to_be_bytes());
    profile
}

#[test]
fn inks_are_converted_by_their_profile() {
    let plain = include_bytes!("files/cmyk.jpg");
    // Only black counts, so the quarters, which have other inks, come out nearly white.
    let icc = inks(|[.., black]| if black == 1 { 0 } else { 255 });
    let mut segment = b"ICC_PROFILE\0\x01\x01".to_vec();
    segment.extend(icc);
    let length = (segment.len() as u16 + 2).to_be_bytes();
    let bytes = [&plain[..2], &[0xff, 0xe2], &length, &segment, &plain[2..]].concat();
    let (image, notes) = decode(&bytes, &DecodeOptions::default()).unwrap();
    assert!(matches!(notes[..], [Note::ProfileConverted(_)]), "{notes:?}");
    let grey = |[r, g, b]: [u8; 3]| r.abs_diff(g) <= 3 && g.abs_diff(b) <= 3;
    assert!(middles(&image).iter().all(|colour| grey(*colour)), "{:?}", middles(&image));
    assert!(middles(&image) != middles(&Image::decode(plain).unwrap()));
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
