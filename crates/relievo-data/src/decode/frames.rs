//! The frames of an animation.

use std::io::Cursor;

use image::codecs::gif::GifDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, DynamicImage, Frames, ImageDecoder, ImageFormat};

use super::{DecodeError, DecodeOptions, describe, flatten, format, memory_for};
use crate::sample::Image;

/// The most frames of an animation that are looked at: what follows is left out.
const MOST_FRAMES: usize = 10_000;

/// Up to `most` frames of a GIF or WebP file, spread evenly over it, and how many it has; no frames if the file is of
/// another format. The file is decoded twice, a frame in memory at a time.
pub(super) fn frames(
    bytes: &[u8],
    most: usize,
    options: &DecodeOptions,
) -> Result<(Vec<Image>, usize), DecodeError> {
    let Some(all) = open(bytes, options)? else { return Ok((Vec::new(), 0)) };
    // A file that breaks off has the frames before that.
    let count = all.take(MOST_FRAMES).take_while(Result::is_ok).count();
    let wanted = count.min(most);
    let numbers: Vec<usize> = (0..wanted).map(|number| number * count / wanted).collect();
    let Some(all) = open(bytes, options)? else { return Ok((Vec::new(), 0)) };
    let mut frames = Vec::with_capacity(wanted);
    for (number, frame) in all.take(count).enumerate() {
        if numbers.binary_search(&number).is_ok() {
            let frame = frame.map_err(|error| describe(error, options))?;
            frames.push(flatten(DynamicImage::ImageRgba8(frame.into_buffer())));
        }
    }
    Ok((frames, count))
}

fn open<'a>(bytes: &'a [u8], options: &DecodeOptions) -> Result<Option<Frames<'a>>, DecodeError> {
    let failed = |error| describe(error, options);
    match format::Content::from_head(&bytes[..bytes.len().min(format::HEAD)]) {
        format::Content::Image(ImageFormat::Gif) => {
            let decoder = GifDecoder::new(Cursor::new(bytes)).map_err(failed)?;
            ensure_size(decoder.dimensions(), options)?;
            Ok(Some(decoder.into_frames()))
        }
        format::Content::Image(ImageFormat::WebP) => {
            let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(failed)?;
            ensure_size(decoder.dimensions(), options)?;
            Ok(decoder.has_animation().then(|| decoder.into_frames()))
        }
        _ => Ok(None),
    }
}

/// Refuses frames too large for the memory that an image may take: each is composed on a canvas of four bytes a pixel.
fn ensure_size((width, height): (u32, u32), options: &DecodeOptions) -> Result<(), DecodeError> {
    let (needed, allowed) = (4 * u64::from(width) * u64::from(height), options.max_bytes);
    if needed > allowed {
        return Err(DecodeError::TooLarge { width, height, needed, allowed });
    }
    // One canvas and one frame at a time, long after this: asked for, not reserved.
    memory_for(2 * needed, 0).map(drop)
}

#[cfg(test)]
mod tests {
    use image::codecs::gif::GifEncoder;
    use image::{Delay, Frame, Rgba, RgbaImage};

    use super::*;

    /// A GIF of frames of one grey each.
    fn gif(greys: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = GifEncoder::new(&mut bytes);
        for grey in greys {
            let image = RgbaImage::from_pixel(9, 6, Rgba([*grey, *grey, *grey, 255]));
            let delay = Delay::from_numer_denom_ms(40, 1);
            encoder.encode_frame(Frame::from_parts(image, 0, 0, delay)).unwrap();
        }
        drop(encoder);
        bytes
    }

    #[test]
    fn frames_are_spread_over_the_animation() {
        let bytes = gif(&[0, 40, 80, 120, 160, 200]);
        let greys = |most: usize| -> Vec<u8> {
            let (frames, count) = Image::frames(&bytes, most, &DecodeOptions::default()).unwrap();
            assert_eq!(count, 6);
            assert!(frames.iter().all(|frame| (frame.width, frame.height) == (9, 6)));
            frames.iter().map(|frame| frame.pixels[0]).collect()
        };
        assert_eq!(greys(100), [0, 40, 80, 120, 160, 200]);
        assert_eq!(greys(3), [0, 80, 160]);
        assert!(greys(0).is_empty());
    }

    #[test]
    fn what_is_no_animation_has_no_frames_and_what_is_too_large_is_refused() {
        let options = DecodeOptions::default();
        assert_eq!(Image::frames(b"no image", 9, &options).unwrap(), (Vec::new(), 0));
        let refused = Image::frames(&gif(&[0]), 9, &options.within(100)).unwrap_err();
        assert!(matches!(refused, DecodeError::TooLarge { width: 9, height: 6, .. }), "{refused}");
        let whole = gif(&[0, 90, 180]);
        let broken = &whole[..whole.len() / 2];
        assert!(Image::frames(broken, 9, &options).is_ok_and(|(frames, _)| frames.len() < 3));
    }
}
