//! What JPEG files are made of (ITU-T T.81), and two ways of decoding that the crate `image` does not have: at a
//! reduced size, and to the inks of a CMYK image.

use std::io::Cursor;

use image::{DynamicImage, GrayImage, RgbImage};
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::DecodeError;
use super::profile;

const END: u8 = 0xd9;
const SCAN: u8 = 0xda;

/// What the markers of a file say.
pub(super) struct Structure {
    /// Whether the file goes on to its end-of-image marker. The decoder fills what is missing with grey and says
    /// nothing.
    pub is_complete: bool,
    /// Components: 1 for grey, 3 for colours, 4 for inks; 0 if there is no frame.
    pub components: usize,
    is_progressive: bool,
    /// Samples of all components for one of the finest, from their sampling factors.
    samples_per_pixel: f64,
}

impl Structure {
    /// Walks through the markers.
    ///
    /// # Errors
    /// A coding that no decoder here knows.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut structure =
            Self { is_complete: false, components: 0, is_progressive: false, samples_per_pixel: 0.0 };
        let mut at = 2; // behind the start marker, which the format was recognised by
        loop {
            // Markers may be preceded by any number of fill bytes.
            while bytes.get(at) == Some(&0xff) && bytes.get(at + 1) == Some(&0xff) {
                at += 1;
            }
            let (Some(0xff), Some(&marker)) = (bytes.get(at), bytes.get(at + 1)) else {
                return Ok(structure);
            };
            if marker == END {
                structure.is_complete = true;
                return Ok(structure);
            }
            let Some(length) = bytes.get(at + 2..at + 4) else { return Ok(structure) };
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
                structure.read_frame(marker, bytes.get(at + 4..).unwrap_or_default())?;
            }
            at += 2 + length;
            if marker == SCAN {
                // Compressed data run to the next marker that is neither an escaped 0xff nor a restart.
                loop {
                    let rest = bytes.get(at..).unwrap_or_default();
                    let Some(skip) = rest.iter().position(|&b| b == 0xff) else { return Ok(structure) };
                    at += skip;
                    match bytes.get(at + 1) {
                        Some(0x00 | 0xd0..=0xd7) => at += 2,
                        Some(0xff) => at += 1,
                        Some(_) => break,
                        None => return Ok(structure),
                    }
                }
            }
        }
    }

    /// A frame's header behind its length: precision, extents, components with their sampling factors.
    fn read_frame(&mut self, marker: u8, header: &[u8]) -> Result<(), DecodeError> {
        let refuse =
            |what| Err(DecodeError::NotRead { kind: what, remedy: "save it as an ordinary JPEG or as PNG" });
        match marker {
            0xc0..=0xc2 => {}
            0xc9..=0xcf => return refuse("a JPEG image with arithmetic coding"),
            _ => return refuse("a lossless or hierarchical JPEG image"),
        }
        if header.first().is_some_and(|bits| *bits != 8) {
            return refuse("a JPEG image of more than 8 bits");
        }
        self.is_progressive = marker == 0xc2;
        self.components = header.get(5).map_or(0, |count| usize::from(*count));
        let factors = header.get(6..).unwrap_or_default().chunks_exact(3).take(self.components);
        let samples: Vec<f64> =
            factors.map(|part| f64::from(part[1] >> 4) * f64::from(part[1] & 15)).collect();
        let finest = samples.iter().copied().fold(1.0, f64::max);
        self.samples_per_pixel = samples.iter().sum::<f64>() / finest;
        Ok(())
    }

    /// Memory for the coefficients, in bytes: a progressive image is held as those until it is whole.
    pub fn coefficient_bytes(&self, [width, height]: [u32; 2]) -> u64 {
        if !self.is_progressive {
            return 0;
        }
        (f64::from(width) * f64::from(height) * self.samples_per_pixel) as u64 * size_of::<i16>() as u64
    }
}

/// Rows at the lower edge that are nothing but the grey that stands for missing data.
pub(super) fn missing_rows(image: &DynamicImage) -> u32 {
    const GREY: u8 = 128;
    let row_bytes = image.width() as usize * usize::from(image.color().bytes_per_pixel());
    let rows = image.as_bytes().rchunks_exact(row_bytes.max(1));
    rows.take_while(|row| row.iter().all(|value| *value == GREY)).count() as u32
}

/// A JPEG image at a half, a quarter or an eighth of its width and height. The decoder leaves high frequencies out, so
/// memory and time shrink as well.
pub(super) struct Reduced([u32; 2]);

impl Reduced {
    /// The largest whose pixels take `max_bytes` at most; `None` if none does.
    pub fn within([width, height]: [u32; 2], max_bytes: u64) -> Option<Self> {
        let extents = |factor: u32| Self([width.div_ceil(factor), height.div_ceil(factor)]);
        [2, 4, 8].map(extents).into_iter().find(|reduced| reduced.bytes() <= max_bytes)
    }

    /// Memory of its pixels, in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.map(u64::from).iter().product::<u64>() * 3
    }

    /// The image.
    pub fn decode(&self, bytes: &[u8]) -> Result<DynamicImage, DecodeError> {
        let [width, height] = self.0;
        decode_reduced(bytes, width as u16, height as u16)
    }
}

fn decode_reduced(bytes: &[u8], width: u16, height: u16) -> Result<DynamicImage, DecodeError> {
    use jpeg_decoder::PixelFormat;
    let damaged = |error: jpeg_decoder::Error| DecodeError::Damaged(error.to_string());
    let mut decoder = jpeg_decoder::Decoder::new(Cursor::new(bytes));
    let (width, height) = decoder.scale(width, height).map_err(damaged)?;
    let pixels = decoder.decode().map_err(damaged)?;
    let (width, height) = (u32::from(width), u32::from(height));
    let image = match decoder.info().map(|info| info.pixel_format) {
        Some(PixelFormat::L8) => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
        Some(PixelFormat::RGB24) => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
        // Inks, the other way round: 255 is none.
        Some(PixelFormat::CMYK32) => {
            let colour = |ink: u8, black: u8| ((u16::from(ink) * u16::from(black) + 127) / 255) as u8;
            let rgb = pixels
                .as_chunks::<4>()
                .0
                .iter()
                .flat_map(|[c, m, y, k]| [c, m, y].map(|ink| colour(*ink, *k)));
            RgbImage::from_raw(width, height, rgb.collect()).map(DynamicImage::from)
        }
        _ => None,
    };
    image.ok_or_else(|| DecodeError::Damaged("a JPEG image of an unknown kind of pixels".into()))
}

/// A CMYK or YCCK image in sRGB by its profile, and that profile's name; or why the profile cannot be used.
pub(super) fn inks(bytes: &[u8], icc: &[u8]) -> Result<(DynamicImage, String), String> {
    let profile = profile::Inks::new(icc)?;
    let open = |options| zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let limits =
        DecoderOptions::default().set_strict_mode(false).set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut headers = open(limits);
    headers.decode_headers().map_err(|error| error.to_string())?;
    let stored = headers.input_colorspace().ok_or("no frame")?;
    // As they are stored: the decoder would turn YCCK into RGB only.
    let mut decoder = open(limits.jpeg_set_out_colorspace(stored));
    let mut samples = decoder.decode().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("no extents")?;
    for sample in samples.as_chunks_mut::<4>().0 {
        *sample = ink(*sample, stored == ColorSpace::YCCK);
    }
    let rgb = profile.to_srgb(&samples)?;
    let image = RgbImage::from_raw(width as u32, height as u32, rgb).ok_or("too few pixels")?;
    Ok((image.into(), profile.name))
}

/// Inks with 255 for all of one. Files hold them the other way round, as Adobe's programs do; YCCK is that, with C, M
/// and Y turned over once more and as luma and chroma (BT.601).
fn ink([a, b, c, black]: [u8; 4], ycck: bool) -> [u8; 4] {
    if !ycck {
        return [a, b, c, black].map(|value| 255 - value);
    }
    let [luma, blue, red] = [f32::from(a), f32::from(b) - 128.0, f32::from(c) - 128.0];
    let inks = [luma + 1.402 * red, luma - 0.344_136 * blue - 0.714_136 * red, luma + 1.772 * blue];
    let [c, m, y] = inks.map(|value| (value + 0.5) as u8);
    [c, m, y, 255 - black]
}
