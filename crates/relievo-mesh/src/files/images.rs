//! Images that meshes name: decoded to 8-bit RGB, encoded as PNG.

use std::collections::HashMap;
use std::io::{self, Cursor};
use std::sync::Arc;

use image::codecs::png::PngEncoder;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits};

use super::Fault;
use crate::mesh::Image;

/// Columns and rows at most.
const MAX_SIDE: u32 = 16384;

/// Decoded bytes that any image may have, and beyond that for each byte of its file. Compressed files of one colour
/// reach some thousand.
const FREE_BYTES: u64 = 64 << 20;
const BYTES_EACH: u64 = 4000;

/// Decoded bytes of all images of a mesh.
const MAX_TOTAL: u64 = 2 << 30;

/// The images of one mesh, each decoded once.
#[derive(Default)]
pub(super) struct Images {
    decoded: HashMap<String, Arc<Image>>,
    bytes: u64,
}

impl Images {
    /// The image that was decoded under a name.
    pub fn get(&self, name: &str) -> Option<Arc<Image>> {
        self.decoded.get(name).cloned()
    }

    /// Decodes an image; its kind is told by its content, or by its name.
    pub fn decode(&mut self, name: &str, bytes: &[u8]) -> Result<Arc<Image>, Fault> {
        let fault = |reason: String| Fault::Image { name: name.to_owned(), reason };
        let mut reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|error| fault(error.to_string()))?;
        if reader.format().is_none() {
            // TGA files begin with nothing that is certain.
            let format = ImageFormat::from_path(name).map_err(|_| fault("its format is not known".into()))?;
            reader.set_format(format);
        }
        let allowed = FREE_BYTES.max((bytes.len() as u64).saturating_mul(BYTES_EACH));
        let mut limits = Limits::default();
        limits.max_image_width = Some(MAX_SIDE);
        limits.max_image_height = Some(MAX_SIDE);
        limits.max_alloc = Some(allowed.saturating_mul(2).max(FREE_BYTES));
        reader.limits(limits);
        let decoder = reader.into_decoder().map_err(|error| fault(error.to_string()))?;
        let (width, height) = decoder.dimensions();
        let size = u64::from(width) * u64::from(height) * 3;
        if width == 0 || height == 0 {
            return Err(fault("it has no pixels".into()));
        }
        if width > MAX_SIDE || height > MAX_SIDE || decoder.total_bytes().max(size) > allowed {
            return Err(fault(format!("{width}x{height} pixels are too many for {} bytes", bytes.len())));
        }
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > MAX_TOTAL {
            return Err(fault("all images together have more than 2 GiB".into()));
        }
        let decoded = DynamicImage::from_decoder(decoder).map_err(|error| fault(error.to_string()))?;
        let rgb = decoded.into_rgb8().into_raw();
        let image = Arc::new(Image { width: width as usize, height: height as usize, rgb });
        self.decoded.insert(name.to_owned(), Arc::clone(&image));
        Ok(image)
    }
}

impl Image {
    /// The image as a PNG file.
    pub(super) fn png(&self) -> io::Result<Vec<u8>> {
        let mut encoded = Vec::new();
        PngEncoder::new(&mut encoded)
            .write_image(&self.rgb, self.width as u32, self.height as u32, ExtendedColorType::Rgb8)
            .map_err(io::Error::other)?;
        Ok(encoded)
    }

    /// The image multiplied by a colour.
    pub(super) fn tinted(&self, colour: [f32; 3]) -> Self {
        let value = |(at, &value): (usize, &u8)| (f32::from(value) * colour[at % 3]).round() as u8;
        Self { rgb: self.rgb.iter().enumerate().map(value).collect(), ..*self }
    }
}
