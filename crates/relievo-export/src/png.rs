//! PNG files: canvases, and depth in 16 bits; canvases as JPEG too.

use std::io;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use relievo_files::mark::mark_png;
use relievo_files::{WriteError, write_atomic};

use crate::canvas::Canvas;

impl Canvas {
    /// Writes an 8-bit RGB PNG, whole or not at all, with the mark of a result ([`relievo_files::mark`]): no command
    /// reads it as a photograph.
    ///
    /// # Errors
    /// See [`write_atomic`].
    pub fn write_png(&self, path: impl AsRef<Path>) -> Result<(), WriteError> {
        write_atomic(path, |file| file.write_all(&mark_png(&self.png()?)))
    }

    /// As [`Canvas::write_png`] without the mark: for images that models learn from or that are to be reconstructed.
    ///
    /// # Errors
    /// See [`write_atomic`].
    pub fn write_input_png(&self, path: impl AsRef<Path>) -> Result<(), WriteError> {
        write_atomic(path, |file| file.write_all(&self.png()?))
    }

    /// The PNG file of [`Canvas::write_input_png`] in memory.
    ///
    /// # Errors
    /// If the canvas has no pixels.
    pub fn png(&self) -> io::Result<Vec<u8>> {
        encode(self.bytes(), self.width(), self.height(), ExtendedColorType::Rgb8)
    }

    /// A JPEG file in memory, of a quality from 1 to 100.
    ///
    /// # Errors
    /// If the canvas has no pixels, or more than 65,535 rows or columns.
    pub fn jpeg(&self, quality: u8) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, quality)
            .write_image(self.bytes(), self.width() as u32, self.height() as u32, ExtendedColorType::Rgb8)
            .map_err(io::Error::other)?;
        Ok(bytes)
    }
}

/// Writes a PNG file with transparency: bytes of red, green, blue and alpha, sRGB and not multiplied by alpha, in rows of
/// `width` pixels. It carries the mark of a result.
///
/// # Errors
/// If the file cannot be written, or there are no pixels.
///
/// # Panics
/// If the bytes are not whole rows.
pub fn write_rgba_png(path: impl AsRef<Path>, rgba: &[u8], width: usize) -> Result<(), WriteError> {
    assert!(width > 0 && rgba.len().is_multiple_of(4 * width), "{} bytes in rows of {width}", rgba.len());
    let encoded = || encode(rgba, width, rgba.len() / (4 * width), ExtendedColorType::Rgba8);
    write_atomic(path, |file| file.write_all(&mark_png(&encoded()?)))
}

/// The scale of a 16-bit depth image: 0 means no depth, and v in 1..=65535 means `min + (v - 1) / 65534 * (max - min)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DepthScale {
    /// Depth of value 1, in units of the camera's frame.
    pub min: f32,
    /// Depth of value 65535.
    pub max: f32,
}

impl DepthScale {
    /// Writes depth `[H,W]` as a 16-bit grey PNG, whole or not at all and with the mark of a result, and returns its
    /// scale. The scale runs from the smallest to the largest depth, so nothing is clipped. Pixels where `mask` (if
    /// given) is 0 or depth is not finite are 0.
    ///
    /// # Errors
    /// See [`write_atomic`].
    ///
    /// # Panics
    /// If `depth` is not a whole number of rows, or the mask has another shape.
    pub fn write_png(
        path: impl AsRef<Path>,
        depth: &[f32],
        width: usize,
        mask: Option<&[u8]>,
    ) -> Result<Self, WriteError> {
        assert!(width > 0 && depth.len().is_multiple_of(width), "{} depths in rows of {width}", depth.len());
        assert!(
            mask.is_none_or(|mask| mask.len() == depth.len()),
            "the mask must have the shape of the depth"
        );
        let valid = |at: usize| depth[at].is_finite() && mask.is_none_or(|mask| mask[at] != 0);
        let seen = || (0..depth.len()).filter(|&at| valid(at)).map(|at| depth[at]);
        let scale = match seen().reduce(f32::min).zip(seen().reduce(f32::max)) {
            Some((min, max)) => Self { min, max },
            None => Self { min: 0.0, max: 0.0 },
        };
        // The encoder expects native byte order.
        let bytes: Vec<u8> = (0..depth.len())
            .flat_map(|at| if valid(at) { scale.encode(depth[at]) } else { 0 }.to_ne_bytes())
            .collect();
        let encoded = || encode(&bytes, width, depth.len() / width, ExtendedColorType::L16);
        write_atomic(path, |file| file.write_all(&mark_png(&encoded()?)))?;
        Ok(scale)
    }

    /// The value of a depth between `min` and `max`; depths outside are clamped.
    pub(crate) fn encode(self, depth: f32) -> u16 {
        let (min, max) = (f64::from(self.min), f64::from(self.max));
        let share = if max > min { (f64::from(depth) - min) / (max - min) } else { 0.0 };
        1 + (share.clamp(0.0, 1.0) * 65534.0).round() as u16
    }

    /// The depth of a value; `None` for 0.
    #[cfg(test)]
    fn decode(self, number: u16) -> Option<f32> {
        let share = f64::from(number.checked_sub(1)?) / 65534.0;
        Some((f64::from(self.min) + share * (f64::from(self.max) - f64::from(self.min))) as f32)
    }
}

/// Encodes in memory: writing through the encoder would hide the kind of an error, such as a full disk.
fn encode(bytes: &[u8], width: usize, height: usize, colour: ExtendedColorType) -> io::Result<Vec<u8>> {
    let mut encoded = Vec::new();
    PngEncoder::new(&mut encoded)
        .write_image(bytes, width as u32, height as u32, colour)
        .map_err(io::Error::other)?;
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use relievo_files::mark::PNG_HEAD;

    use super::*;

    #[test]
    fn a_canvas_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/for/it.png");
        let canvas = Canvas::from_rgb8(&(0..=251).collect::<Vec<u8>>(), 12);
        canvas.write_png(&path).unwrap();
        let read = |path: &Path| image::open(path).unwrap().into_rgb8();
        assert_eq!(read(&path).dimensions(), (12, 7));
        assert_eq!(read(&path).into_raw(), canvas.bytes());
        let input = folder.path().join("input.png");
        canvas.write_input_png(&input).unwrap();
        assert_eq!(read(&input).into_raw(), canvas.bytes());
        let is_marked =
            |path: &Path| relievo_files::mark::is_result_png(&std::fs::read(path).unwrap()[..PNG_HEAD]);
        assert!(is_marked(&path) && !is_marked(&input));
    }

    #[test]
    fn an_empty_canvas_is_an_error_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.png");
        assert!(Canvas::new(0, 0, [0; 3]).write_png(&path).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn depth_without_a_valid_pixel_is_all_zero() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("depth.png");
        DepthScale::write_png(&path, &[f32::NAN, 1.0], 2, Some(&[1, 0])).unwrap();
        assert!(relievo_files::mark::is_result_png(&std::fs::read(&path).unwrap()));
        assert_eq!(image::open(&path).unwrap().into_luma16().into_raw(), [0, 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn depth_comes_back_within_half_a_step(
            depth in proptest::collection::vec(prop_oneof![9 => 0.5_f32..1.5, 1 => Just(f32::INFINITY)], 1..40),
            background in any::<prop::sample::Index>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("depth.png");
            let mut mask = vec![1_u8; depth.len()];
            mask[background.index(depth.len())] = 0;
            let scale = DepthScale::write_png(&path, &depth, depth.len(), Some(&mask)).unwrap();
            let read = image::open(&path).unwrap();
            prop_assert_eq!(read.color(), image::ColorType::L16);
            let step = (scale.max - scale.min) / 65534.0;
            for ((number, depth), seen) in read.into_luma16().into_raw().into_iter().zip(depth).zip(mask) {
                match scale.decode(number) {
                    Some(read) => prop_assert!((read - depth).abs() <= step * 0.51 + 1e-7, "{read} {depth}"),
                    None => prop_assert!(seen == 0 || !depth.is_finite()),
                }
            }
        }
    }
}
