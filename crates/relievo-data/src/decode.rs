//! From the bytes of a file to an RGB image, and from any image to a square of the size the networks want.

use std::io::Cursor;
use std::panic::catch_unwind;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use rayon::prelude::*;

use crate::sample::Image;

/// Memory that the pixels of one image may take, in bytes: a 12,000 x 12,000 photograph fits, a bomb does not. While
/// it is turned upright and made RGB there are up to two copies.
const MAX_DECODED_BYTES: u64 = 512 << 20;

impl Image {
    /// Decodes a JPEG, PNG or WebP file, whatever its name was.
    ///
    /// Grey, 16-bit, palette and CMYK images become 8-bit RGB; what is transparent is laid on white, as viewers
    /// do; the EXIF orientation is applied; of an animation the first frame is taken. Colour profiles are ignored.
    ///
    /// # Errors
    /// A sentence for a person, without the file's name: another format, broken, cut short (also where a decoder
    /// would fill the missing part with grey), or more than 512 MiB when decoded.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        // A decoder that panics on a strange file must not take a training or a thousand other images with it.
        catch_unwind(|| Self::decode_or_panic(bytes)).unwrap_or_else(|_| Err("its decoder panicked".into()))
    }

    fn decode_or_panic(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("the file is empty".into());
        }
        let format = image::guess_format(bytes).map_err(|_| "not a JPEG, PNG or WebP image".to_string())?;
        match format {
            ImageFormat::Jpeg if !is_complete_jpeg(bytes) => return Err("the JPEG file is cut short".into()),
            ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP => {}
            other => return Err(format!("a {other:?} image; only JPEG, PNG and WebP can be read")),
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
        // A damaged EXIF block is no reason to refuse the image.
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
    /// If the image has no pixels.
    pub fn square(&self, size: u32) -> Self {
        let side = self.width.min(self.height) as usize;
        assert!(side > 0, "an image without pixels cannot be resampled");
        let left = (self.width as usize - side) / 2;
        let top = (self.height as usize - side) / 2;
        let stride = self.width as usize * 3;
        let row = |v: usize| &self.pixels[(top + v) * stride + left * 3..][..side * 3];
        if side == size as usize {
            let pixels = (0..side).map(row).collect::<Vec<_>>().concat();
            return Self { width: size, height: size, pixels };
        }
        let taps: Vec<Taps> = (0..size as usize).map(|place| Taps::new(place, side, size as usize)).collect();
        let mut pixels = vec![0; size as usize * size as usize * 3];
        let mut mixed = vec![0.0; side * 3];
        for (target, down) in pixels.chunks_exact_mut(size as usize * 3).zip(&taps) {
            resample_row(row, down, &taps, 0, &mut mixed, target);
        }
        Self { width: size, height: size, pixels }
    }

    /// A rectangle of the image resampled to `width` x `height`, with the filter of [`Image::square`]. Outside the
    /// image the pixels of its edge are repeated. On all threads.
    ///
    /// # Panics
    /// If the image has no pixels.
    pub fn resampled(&self, rectangle: Rectangle, width: u32, height: u32) -> Self {
        assert!(!self.pixels.is_empty(), "an image without pixels cannot be resampled");
        let Rectangle { left, top, width: from_width, height: from_height } = rectangle;
        let taps = |from: f64, extent: f64, to: u32, pixels: u32| -> Vec<Taps> {
            (0..to).map(|place| Taps::anywhere(place, (from, extent), to, pixels as usize)).collect()
        };
        let across = taps(left, from_width, width, self.width);
        let down = taps(top, from_height, height, self.height);
        // Columns that are read at all: the rest of a large image need not be mixed.
        let first = across.iter().map(|taps| taps.first).min().unwrap_or(0);
        let end = across.iter().map(|taps| taps.first + taps.weights.len()).max().unwrap_or(0);
        let stride = self.width as usize * 3;
        let row = |v: usize| &self.pixels[v * stride + first * 3..v * stride + end * 3];
        let mut pixels = vec![0; width as usize * height as usize * 3];
        pixels.par_chunks_mut((width as usize * 3).max(1)).zip(&down).for_each_init(
            || vec![0.0; (end - first) * 3],
            |mixed, (target, down)| resample_row(row, down, &across, first, mixed, target),
        );
        Self { width, height, pixels }
    }
}

/// A rectangle in pixels of an image, whose upper left corner is (0, 0): pixels are squares, centres lie at + 1/2. It
/// may reach out of the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rectangle {
    /// Its left edge.
    pub left: f64,
    /// Its upper edge.
    pub top: f64,
    /// Columns.
    pub width: f64,
    /// Rows.
    pub height: f64,
}

/// One row of the result: rows of the source (which begin at column `first`) mixed into one, whose pixels are mixed.
fn resample_row<'a>(
    row: impl Fn(usize) -> &'a [u8],
    down: &Taps,
    across: &[Taps],
    first: usize,
    mixed: &mut [f32],
    target: &mut [u8],
) {
    mixed.fill(0.0);
    for (at, weight) in down.iter() {
        for (sum, &value) in mixed.iter_mut().zip(row(at)) {
            *sum += weight * f32::from(value);
        }
    }
    let (colours, _) = mixed.as_chunks::<3>();
    for (target, taps) in target.as_chunks_mut::<3>().0.iter_mut().zip(across) {
        let mut sums = [0.0; 3];
        for (colour, weight) in colours[taps.first - first..].iter().zip(&taps.weights) {
            for (sum, value) in sums.iter_mut().zip(colour) {
                *sum += weight * value;
            }
        }
        // Half a step, so that cutting the fraction off rounds to the nearest.
        *target = sums.map(|sum| (sum + 0.5) as u8);
    }
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

    /// For pixel `place` of `to`, which cover `extent` of the source from `from` on; where that lies outside the
    /// source's `pixels`, the first or the last one stands in.
    fn anywhere(place: u32, (from, extent): (f64, f64), to: u32, pixels: usize) -> Self {
        let scale = extent / f64::from(to);
        let radius = scale.max(1.0);
        let centre = from + (f64::from(place) + 0.5) * scale;
        let inside = |at: f64| (at.max(0.0) as usize).min(pixels - 1);
        let (first, last) = (inside((centre - radius).floor()), inside((centre + radius).ceil() - 1.0));
        let mut weights = vec![0.0; last - first + 1];
        let mut total = 0.0;
        // However far outside: beyond the edges all weight lies on the edge.
        let begin = ((centre - radius).floor()).max(-2.0 * radius - 1.0);
        let end = ((centre + radius).ceil()).min(pixels as f64 + 2.0 * radius + 1.0);
        let mut at = begin;
        while at < end {
            let weight = (1.0 - (at + 0.5 - centre).abs() / radius).max(0.0);
            weights[inside(at) - first] += weight;
            total += weight;
            at += 1.0;
        }
        if total <= 0.0 {
            return Self { first, weights: vec![1.0] };
        }
        Self { first, weights: weights.into_iter().map(|weight| (weight / total) as f32).collect() }
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
/// nothing, and such an image must not be trained on.
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
