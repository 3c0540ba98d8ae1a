//! Animated pictures: GIF, which everything shows, and WebP and animated PNG, which keep all colours.

use std::io;
use std::path::Path;
use std::time::Duration;

use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;
use relievo_files::mark::mark_png;
use relievo_files::{WriteError, write_atomic};

use crate::canvas::Canvas;

/// Frames of equal size that are shown in turn, again and again.
#[derive(Clone, Debug)]
pub struct Animation {
    frames: Vec<Canvas>,
    pause: Duration,
    last: Duration,
}

/// The longest side of a GIF or WebP file.
const LONGEST: usize = 16_383;

impl Animation {
    /// Frames of which each is shown for `pause`. GIF knows hundredths of a second, of which most viewers take at least 2.
    pub fn new(frames: Vec<Canvas>, pause: Duration) -> Self {
        Self { frames, pause, last: pause }
    }

    /// Shows the last frame for another time than the others.
    #[must_use]
    pub fn holding_the_last(self, last: Duration) -> Self {
        Self { last, ..self }
    }

    /// The frames.
    pub fn frames(&self) -> &[Canvas] {
        &self.frames
    }

    /// How long frame `number` is shown.
    fn pause(&self, number: usize) -> Duration {
        if number + 1 == self.frames.len() { self.last } else { self.pause }
    }

    /// Writes a GIF file, with 256 colours for each frame.
    ///
    /// # Errors
    /// If there is no frame, frames differ in size or are larger than 16,383 pixels, or the file cannot be written.
    pub fn write_gif(&self, path: impl AsRef<Path>) -> Result<(), WriteError> {
        write_atomic(path, |file| file.write_all(&self.gif()?))
    }

    /// Writes an animated WebP file without loss.
    ///
    /// # Errors
    /// As [`Animation::write_gif`].
    pub fn write_webp(&self, path: impl AsRef<Path>) -> Result<(), WriteError> {
        write_atomic(path, |file| file.write_all(&self.webp()?))
    }

    /// Writes an animated PNG file, without loss; what does not know animations shows the first frame.
    ///
    /// # Errors
    /// As [`Animation::write_gif`].
    pub fn write_apng(&self, path: impl AsRef<Path>) -> Result<(), WriteError> {
        write_atomic(path, |file| file.write_all(&mark_png(&self.apng()?)))
    }

    /// Width and height of all frames.
    fn size(&self) -> io::Result<[usize; 2]> {
        let sizes: Vec<[usize; 2]> =
            self.frames.iter().map(|frame| [frame.width(), frame.height()]).collect();
        let Some(&first) = sizes.first() else { return Err(io::Error::other("an animation without frames")) };
        if let Some(other) = sizes.iter().find(|size| **size != first) {
            return Err(io::Error::other(format!(
                "frames of {first:?} and {other:?} pixels in one animation"
            )));
        }
        if first.iter().any(|side| !(1..=LONGEST).contains(side)) {
            let message =
                format!("animations have 1 to {LONGEST} pixels a side, not {}x{}", first[0], first[1]);
            return Err(io::Error::other(message));
        }
        Ok(first)
    }

    /// The bytes of a GIF file.
    ///
    /// # Errors
    /// As [`Animation::write_gif`].
    pub fn gif(&self) -> io::Result<Vec<u8>> {
        let [width, height] = self.size()?.map(|side| side as u16);
        // Speed 10 of 1 to 30: the slower ones find hardly better colours. Frames are encoded side by side.
        let encoded = |(number, frame): (usize, &Canvas)| {
            let mut encoded = gif::Frame::from_rgb_speed(width, height, frame.bytes(), 10);
            encoded.delay = (self.pause(number).as_millis() / 10).min(u16::MAX.into()) as u16;
            encoded.make_lzw_pre_encoded();
            encoded
        };
        let frames: Vec<_> = self.frames.par_iter().enumerate().map(encoded).collect();
        let mut encoder = gif::Encoder::new(Vec::new(), width, height, &[]).map_err(io::Error::other)?;
        encoder.set_repeat(gif::Repeat::Infinite).map_err(io::Error::other)?;
        for frame in &frames {
            encoder.write_lzw_pre_encoded_frame(frame).map_err(io::Error::other)?;
        }
        encoder.into_inner().map_err(io::Error::other)
    }

    /// The bytes of an animated PNG file.
    ///
    /// # Errors
    /// As [`Animation::write_gif`].
    pub fn apng(&self) -> io::Result<Vec<u8>> {
        let [width, height] = self.size()?;
        let count = u32::try_from(self.frames.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        // `relievo turn` takes a third of the time with it, for files that are larger by a seventh (docs/performance.md).
        encoder.set_compression(png::Compression::Fast);
        encoder.set_animated(count, 0).map_err(io::Error::other)?;
        let mut writer = encoder.write_header().map_err(io::Error::other)?;
        for (number, frame) in self.frames.iter().enumerate() {
            let pause = self.pause(number).as_millis().min(u16::MAX.into()) as u16;
            writer.set_frame_delay(pause, 1000).map_err(io::Error::other)?;
            writer.write_image_data(frame.bytes()).map_err(io::Error::other)?;
        }
        writer.finish().map_err(io::Error::other)?;
        Ok(bytes)
    }

    /// The bytes of a WebP file. The crate `image` writes single pictures; an animation is a container around their
    /// bitstreams. Source: Google, *WebP Container Specification*.
    ///
    /// # Errors
    /// As [`Animation::write_gif`].
    pub fn webp(&self) -> io::Result<Vec<u8>> {
        /// Flag of the header: the file is animated.
        const ANIMATED: u8 = 2;
        /// Flag of a frame: it replaces what was there.
        const NO_BLENDING: u8 = 2;
        let [width, height] = self.size()?;
        let three_bytes = |value: usize| (value as u32).to_le_bytes().into_iter().take(3);
        let size: Vec<u8> = three_bytes(width - 1).chain(three_bytes(height - 1)).collect();
        let mut body = b"WEBP".to_vec();
        add_chunk(&mut body, b"VP8X", &[&[ANIMATED, 0, 0, 0], &size[..]].concat());
        // Background colour, and 0 for endless.
        add_chunk(&mut body, b"ANIM", &[255, 255, 255, 255, 0, 0]);
        for (number, frame) in self.frames.iter().enumerate() {
            let pause = self.pause(number).as_millis().min(0xff_ffff) as usize;
            let mut picture = Vec::new();
            WebPEncoder::new_lossless(&mut picture)
                .write_image(frame.bytes(), width as u32, height as u32, ExtendedColorType::Rgb8)
                .map_err(io::Error::other)?;
            // Behind the headers of the file: one chunk, with its padding.
            let bitstream = picture.get(12..).filter(|rest| rest.starts_with(b"VP8L"));
            let bitstream = bitstream.ok_or_else(|| io::Error::other("a WebP picture of another kind"))?;
            let mut content = vec![0; 6];
            content.extend(&size);
            content.extend(three_bytes(pause));
            content.push(NO_BLENDING);
            content.extend(bitstream);
            add_chunk(&mut body, b"ANMF", &content);
        }
        let mut bytes = b"RIFF".to_vec();
        let length =
            u32::try_from(body.len()).map_err(|_| io::Error::other("a WebP file of more than 4 GiB"))?;
        bytes.extend(length.to_le_bytes());
        bytes.extend(body);
        Ok(bytes)
    }
}

/// A chunk of RIFF: name, length, content, padding to an even length.
fn add_chunk(file: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    file.extend(name);
    file.extend((content.len() as u32).to_le_bytes());
    file.extend(content);
    file.extend((content.len() % 2 == 1).then_some(0));
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::codecs::gif::GifDecoder;
    use image::codecs::png::PngDecoder;
    use image::codecs::webp::WebPDecoder;
    use image::{AnimationDecoder, Frame};

    use super::*;

    fn frames() -> Vec<Canvas> {
        let shades = [[250, 10, 10], [10, 250, 10], [10, 10, 250]];
        shades.map(|shade| Canvas::from_rgb8(&[shade, [9; 3], [200; 3]].repeat(5).concat(), 3)).to_vec()
    }

    #[test]
    fn frames_come_back_in_turn() {
        let animation = Animation::new(frames(), Duration::from_millis(80));
        let gif = animation.gif().unwrap();
        let read = GifDecoder::new(Cursor::new(gif)).unwrap().into_frames().collect_frames().unwrap();
        let webp = animation.webp().unwrap();
        let decoder = WebPDecoder::new(Cursor::new(webp)).unwrap();
        assert!(decoder.has_animation());
        let exact = decoder.into_frames().collect_frames().unwrap();
        let apng = PngDecoder::new(Cursor::new(animation.apng().unwrap())).unwrap().apng().unwrap();
        let apng = apng.into_frames().collect_frames().unwrap();
        assert_eq!((read.len(), exact.len(), apng.len()), (3, 3, 3));
        for (((gif, webp), apng), frame) in read.iter().zip(&exact).zip(&apng).zip(frames()) {
            let rgb = |frame: &Frame| -> Vec<u8> {
                frame.buffer().pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
            };
            assert_eq!((&*rgb(webp), &*rgb(apng)), (frame.bytes(), frame.bytes()));
            assert!(rgb(gif).iter().zip(frame.bytes()).all(|(a, b)| a.abs_diff(*b) < 8));
            assert_eq!(gif.delay().numer_denom_ms(), (80, 1));
            assert_eq!(webp.delay().numer_denom_ms(), (80, 1));
            assert_eq!(apng.delay().numer_denom_ms(), (80, 1));
        }
    }

    #[test]
    fn frames_must_be_there_and_of_one_size() {
        let message = |frames| Animation::new(frames, Duration::ZERO).webp().unwrap_err().to_string();
        assert!(message(vec![]).contains("without frames"));
        let two = vec![Canvas::new(2, 2, [0; 3]), Canvas::new(2, 3, [0; 3])];
        assert!(message(two).contains("[2, 2] and [2, 3]"));
    }
}
