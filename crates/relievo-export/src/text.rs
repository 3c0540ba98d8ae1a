//! Captions in Noto Sans Mono, from rasterised, antialiased letters.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use crate::canvas::{Canvas, Colour};

/// The two sizes of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// Captions, numbers: lines of 16 pixels.
    Small,
    /// Titles: lines of 20 pixels.
    Large,
}

impl Text {
    fn raster(self) -> RasterHeight {
        match self {
            Self::Small => RasterHeight::Size16,
            Self::Large => RasterHeight::Size20,
        }
    }

    /// Height of a line in pixels.
    pub fn height(self) -> usize {
        self.raster().val()
    }

    /// Width of a text in pixels.
    pub fn width(self, text: &str) -> usize {
        text.chars().count() * self.advance()
    }

    /// The text if it fits into `width` pixels, otherwise its beginning and end with two dots between: paths differ at
    /// the end, sentences at the beginning.
    pub fn fitted(self, text: &str, width: usize) -> String {
        let letters: Vec<char> = text.chars().collect();
        let room = width / self.advance();
        if letters.len() <= room {
            return text.into();
        }
        let kept = room.saturating_sub(2);
        let (head, tail) = (&letters[..kept.div_ceil(2)], &letters[letters.len() - kept / 2..]);
        head.iter().chain(['.'; 2].iter().take(room)).chain(tail).collect()
    }

    /// Draws a line of text, its upper left corner at `x`, `y`. Letters missing from the font become question marks.
    pub fn draw(self, canvas: &mut Canvas, text: &str, x: i64, y: i64, colour: Colour) {
        let lacking = || get_raster('?', FontWeight::Regular, self.raster());
        let mut left = x;
        for letter in text.chars() {
            let raster = get_raster(letter, FontWeight::Regular, self.raster()).or_else(lacking);
            for (row, pixels) in raster.iter().flat_map(|raster| raster.rows().enumerate()) {
                for (column, &strength) in pixels.iter().enumerate() {
                    canvas.blend(left + column as i64, y + row as i64, colour, f32::from(strength) / 255.0);
                }
            }
            left += self.advance() as i64;
        }
    }

    fn advance(self) -> usize {
        get_raster_width(FontWeight::Regular, self.raster())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_stay_in_their_box_and_unknown_ones_are_question_marks() {
        let draw = |text: &str| {
            let mut canvas = Canvas::new(60, 30, [255; 3]);
            Text::Small.draw(&mut canvas, text, 10, 5, [0; 3]);
            canvas
        };
        let canvas = draw("Ég");
        let inked = |x: usize, y: usize| canvas.get(x, y) != Some([255; 3]);
        assert!((0..30).all(|y| (0..60).all(|x| {
            !inked(x, y) || ((10..10 + Text::Small.width("Ég")).contains(&x) && (5..21).contains(&y))
        })));
        assert!((0..30).any(|y| (0..60).any(|x| inked(x, y))));
        assert_eq!(draw("\u{4e16}"), draw("?"));
        assert_ne!(draw("a"), draw("?"));
    }

    #[test]
    fn long_texts_are_shortened() {
        let width = Text::Small.width("1234567");
        assert_eq!(Text::Small.fitted("1234567", width), "1234567");
        assert_eq!(Text::Small.fitted("12345678", width), "123..78");
        assert_eq!(Text::Small.fitted("12345678", Text::Small.width("1")), ".");
        assert_eq!(Text::Small.fitted("12345678", 0), "");
    }
}
