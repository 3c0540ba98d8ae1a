//! What the chunks of PNG files say of colours (PNG, third edition, section 11.3.2), and large files at a reduced size.

use std::io::Cursor;

use image::{DynamicImage, RgbImage};

use super::{DecodeError, over_white};

/// A larger file is not read, however few bytes it has: that would take minutes.
const MOST_PIXELS: u64 = 1 << 30;

/// The chunks before the pixels, by their types.
pub(super) fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (kind, behind) = behind.split_at_checked(4)?;
        let (content, behind) = behind.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        // The checksum of the chunk.
        rest = behind.get(4..)?;
        (kind != b"IDAT").then_some((kind, content))
    })
}

/// Columns and rows, from the header.
pub(super) fn size(bytes: &[u8]) -> Option<[u32; 2]> {
    let (_, header) = chunks(bytes).find(|(kind, _)| *kind == b"IHDR")?;
    let extents = header.get(..8)?.as_chunks::<4>().0;
    Some([u32::from_be_bytes(extents[0]), u32::from_be_bytes(extents[1])])
}

/// The image divided by the least whole number with which its pixels take `max_bytes` at most, each pixel the mean of a
/// block; `None` if the rows are interlaced, so that they do not come one after the other.
pub(super) fn reduced(bytes: &[u8], max_bytes: u64) -> Option<Result<DynamicImage, DecodeError>> {
    let [width, height] = size(bytes)?.map(u64::from);
    if width * height > MOST_PIXELS {
        return None;
    }
    let factor =
        (2..=width.min(height)).find(|factor| (width / factor) * (height / factor) * 3 <= max_bytes)?;
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: usize::MAX });
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let reader = match decoder.read_info() {
        Ok(reader) if reader.info().interlaced => return None,
        reader => reader,
    };
    Some(reader.and_then(|reader| mean_of_blocks(reader, factor as usize)).map_err(|error| match error {
        png::DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::CutShort { jpeg: false }
        }
        error => DecodeError::Damaged(error.to_string()),
    }))
}

fn mean_of_blocks(
    mut reader: png::Reader<Cursor<&[u8]>>,
    factor: usize,
) -> Result<DynamicImage, png::DecodingError> {
    let (width, height) = (reader.info().width as usize / factor, reader.info().height as usize / factor);
    let samples = reader.output_color_type().0.samples();
    let mut pixels = Vec::with_capacity(width * height * 3);
    let mut sums = vec![0_u64; width * 3];
    for _ in 0..height {
        sums.fill(0);
        for _ in 0..factor {
            let Some(row) = reader.next_row()? else { break };
            let blocks = row.data().chunks_exact(samples * factor);
            for (sums, block) in sums.as_chunks_mut::<3>().0.iter_mut().zip(blocks) {
                for pixel in block.chunks_exact(samples) {
                    let (colour, alpha) = match *pixel {
                        [grey] => ([grey; 3], 255),
                        [grey, alpha] => ([grey; 3], alpha),
                        [r, g, b, ref alpha @ ..] => ([r, g, b], alpha.first().copied().unwrap_or(255)),
                        [] => ([0; 3], 255),
                    };
                    for (sum, value) in sums.iter_mut().zip(colour) {
                        *sum += u64::from(over_white(value, alpha));
                    }
                }
            }
        }
        let count = (factor * factor) as u64;
        pixels.extend(sums.iter().map(|sum| ((sum + count / 2) / count) as u8));
    }
    // To the end, so that a file that is cut short is noticed.
    while reader.next_row()?.is_some() {}
    let image = RgbImage::from_raw(width as u32, height as u32, pixels);
    Ok(image.expect("as many pixels as rows and columns").into())
}
