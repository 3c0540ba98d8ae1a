//! From the bytes of a file to an RGB picture, and from any picture to a square of the size the networks want.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::sample::Picture;

/// Memory one picture may take while it is decoded, in bytes: a 12,000 x 12,000 photograph fits, a bomb does not.
const MAX_DECODED_BYTES: u64 = 512 << 20;

impl Picture {
    /// Decodes a JPEG, PNG or WebP file, whatever its name was.
    ///
    /// Grey, 16-bit, palette and CMYK pictures become 8-bit RGB; what is transparent is laid on white, as viewers
    /// do; the EXIF orientation is applied; of an animation the first frame is taken. Colour profiles are ignored.
    ///
    /// # Errors
    /// A sentence for a person, without the file's name: another format, broken, cut short (also where a decoder
    /// would fill the missing part with grey), or more than 512 MiB when decoded.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("the file is empty".into());
        }
        let format = image::guess_format(bytes).map_err(|_| "not a JPEG, PNG or WebP picture".to_string())?;
        match format {
            ImageFormat::Jpeg if !is_complete_jpeg(bytes) => return Err("the JPEG file is cut short".into()),
            ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP => {}
            other => return Err(format!("a {other:?} picture; only JPEG, PNG and WebP can be read")),
        }
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(MAX_DECODED_BYTES);
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(describe)?;
        let (width, height) = decoder.dimensions();
        if decoder.total_bytes() > MAX_DECODED_BYTES {
            let needed = decoder.total_bytes() >> 20;
            return Err(format!(
                "{width} x {height} pixels take {needed} MiB, more than the {} allowed",
                MAX_DECODED_BYTES >> 20
            ));
        }
        // A damaged EXIF block is no reason to refuse the picture.
        let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
        let mut decoded = DynamicImage::from_decoder(decoder).map_err(describe)?;
        decoded.apply_orientation(orientation);
        Ok(Self::from_decoded(decoded))
    }

    fn from_decoded(decoded: DynamicImage) -> Self {
        let (width, height) = (decoded.width(), decoded.height());
        let pixels = if decoded.color().has_alpha() {
            let rgba = decoded.into_rgba8();
            rgba.pixels().flat_map(|&image::Rgba([r, g, b, a])| [r, g, b].map(|c| over_white(c, a))).collect()
        } else {
            decoded.into_rgb8().into_raw()
        };
        Self { width, height, pixels }
    }

    /// The largest square around the centre, resampled to `size` x `size` with a triangle filter: as wide as the
    /// pixels of the result when it shrinks (so nothing aliases), bilinear when it grows.
    ///
    /// # Panics
    /// If the picture has no pixels.
    pub fn square(&self, size: u32) -> Self {
        let side = self.width.min(self.height) as usize;
        assert!(side > 0, "a picture without pixels cannot be resampled");
        let left = (self.width as usize - side) / 2;
        let top = (self.height as usize - side) / 2;
        let stride = self.width as usize * 3;
        let row = |v: usize| &self.pixels[(top + v) * stride + left * 3..][..side * 3];
        if side == size as usize {
            let pixels = (0..side).map(row).collect::<Vec<_>>().concat();
            return Self { width: size, height: size, pixels };
        }
        let taps: Vec<Taps> = (0..size as usize).map(|place| Taps::new(place, side, size as usize)).collect();
        // Mixing whole rows is fast, so the columns become rows in between.
        let flat = transposed(&mixed_rows(row, side * 3, &taps), side);
        let turned =
            mixed_rows(|u| &flat[u * size as usize * 3..][..size as usize * 3], size as usize * 3, &taps);
        let pixels = transposed(&turned, size as usize);
        // Half a step, so that cutting the fraction off rounds to the nearest.
        let pixels = pixels.into_iter().map(|value| (value + 0.5) as u8).collect();
        Self { width: size, height: size, pixels }
    }
}

/// Rows of `length` values, each mixed from some of the given rows.
fn mixed_rows<'a, T: Copy + Into<f32> + 'a>(
    row: impl Fn(usize) -> &'a [T],
    length: usize,
    taps: &[Taps],
) -> Vec<f32> {
    let mut mixed = vec![0.0; taps.len() * length];
    for (target, taps) in mixed.chunks_exact_mut(length).zip(taps) {
        for (at, weight) in taps.iter() {
            for (sum, &value) in target.iter_mut().zip(row(at)) {
                *sum += weight * value.into();
            }
        }
    }
    mixed
}

/// `[H,W,3]` as `[W,H,3]`.
fn transposed(values: &[f32], width: usize) -> Vec<f32> {
    let (colours, _) = values.as_chunks::<3>();
    let height = colours.len() / width;
    let mut turned = vec![[0.0; 3]; colours.len()];
    for (v, row) in colours.chunks_exact(width).enumerate() {
        for (u, &colour) in row.iter().enumerate() {
            turned[u * height + v] = colour;
        }
    }
    turned.into_flattened()
}

/// The pixels of the source that one pixel of the result is made of.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl Taps {
    /// For pixel `place` of `to`, from a line of `from` pixels; pixels are squares, so centres lie at + 1/2.
    fn new(place: usize, from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let radius = scale.max(1.0);
        let centre = (place as f64 + 0.5) * scale;
        let first = (centre - radius).floor().max(0.0) as usize;
        let end = ((centre + radius).ceil() as usize).min(from);
        let raw = (first..end).map(|at| (1.0 - (at as f64 + 0.5 - centre).abs() / radius).max(0.0));
        let total: f64 = raw.clone().sum();
        Self { first, weights: raw.map(|weight| (weight / total) as f32).collect() }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, f32)> + '_ {
        self.weights.iter().enumerate().map(|(offset, &weight)| (self.first + offset, weight))
    }
}

fn over_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

fn describe(error: ImageError) -> String {
    match error {
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the file is cut short".into()
        }
        ImageError::Limits(_) => {
            format!("takes more than {} MiB when decoded", MAX_DECODED_BYTES >> 20)
        }
        other => other.to_string(),
    }
}

/// Whether the file goes on to its end-of-image marker. The decoder fills what is missing with grey and says
/// nothing, and such a picture must not be trained on.
fn is_complete_jpeg(bytes: &[u8]) -> bool {
    const END: u8 = 0xd9;
    const SCAN: u8 = 0xda;
    let mut at = 2; // behind the start marker, which the format was recognised by
    loop {
        // Markers may be preceded by any number of fill bytes.
        while bytes.get(at) == Some(&0xff) && bytes.get(at + 1) == Some(&0xff) {
            at += 1;
        }
        let (Some(0xff), Some(&marker)) = (bytes.get(at), bytes.get(at + 1)) else { return false };
        if marker == END {
            return true;
        }
        let Some(length) = bytes.get(at + 2..at + 4) else { return false };
        at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
        if marker == SCAN {
            // Compressed data run to the next marker that is neither an escaped 0xff nor a restart.
            loop {
                let Some(skip) = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xff)) else {
                    return false;
                };
                at += skip;
                match bytes.get(at + 1) {
                    Some(0x00 | 0xd0..=0xd7) => at += 2,
                    Some(0xff) => at += 1,
                    Some(_) => break,
                    None => return false,
                }
            }
        }
    }
}
