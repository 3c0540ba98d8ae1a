//! Colour profiles and what PNG files say of their colours.

use super::*;

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
    let plain = include_bytes!("../files/cmyk.jpg");
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
