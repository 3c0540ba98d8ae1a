//! Images from single files and from buffers.

use std::fs;
use std::path::Path;

use crate::sample::{Image, SampleError};

impl Image {
    /// Reads and decodes an image file; see [`Image::decode`].
    ///
    /// # Errors
    /// If the file cannot be read or decoded; the error names it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SampleError> {
        let path = path.as_ref();
        let failed = |reason| SampleError { name: path.display().to_string(), reason };
        let bytes = fs::read(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
        Self::decode(&bytes).map_err(|error| failed(error.to_string()))
    }

    /// An image from a buffer `[height, width, 3]` of 8-bit sRGB values, row-major, top row first.
    ///
    /// # Errors
    /// If the buffer does not hold `width * height * 3` bytes, or none.
    pub fn from_rgb(width: u32, height: u32, pixels: Vec<u8>) -> Result<Self, SampleError> {
        let bytes = u64::from(width).checked_mul(u64::from(height)).and_then(|count| count.checked_mul(3));
        if pixels.is_empty() || bytes != Some(pixels.len() as u64) {
            let reason = format!("{width} x {height} pixels of RGB are not {} bytes", pixels.len());
            return Err(SampleError { name: "the buffer".into(), reason });
        }
        Ok(Self { width, height, pixels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_must_hold_the_pixels_that_it_is_said_to() {
        let image = Image::from_rgb(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!((image.width, image.height, image.pixels[5]), (2, 1, 6));
        for (width, height, bytes) in [(2, 1, 5), (0, 4, 0), (u32::MAX, u32::MAX, 3)] {
            let error = Image::from_rgb(width, height, vec![0; bytes]).unwrap_err().to_string();
            assert!(error.starts_with("the buffer: ") && error.ends_with(" bytes"), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = Image::open("no/such.jpg").unwrap_err();
        assert_eq!(error.name, "no/such.jpg");
        assert!(error.reason.starts_with("cannot be read: "), "{error}");
    }
}
