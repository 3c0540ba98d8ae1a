//! Sheets: images on a grid, with captions over columns and beside rows.

use crate::canvas::{Canvas, Colour};
use crate::text::Text;

const PAPER: Colour = [255, 255, 255];
const INK: Colour = [40, 44, 52];
/// In place of a missing image.
const MISSING: Colour = [238, 239, 242];
/// Around images, which may be as white as the paper.
const EDGE: Colour = [222, 223, 226];

/// Between two images, in pixels.
const GAP: usize = 6;
/// Around the sheet, in pixels.
const MARGIN: usize = 16;
/// Between a caption and the image, in pixels.
const CAPTION_GAP: usize = 6;
/// Longest caption of a row, in pixels.
const ROW_CAPTION: usize = 200;

/// A grid of images with captions. Images of any size are scaled to equal squares.
#[derive(Clone, Debug)]
pub struct Sheet {
    tile: usize,
    title: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<Option<Canvas>>)>,
}

impl Sheet {
    /// An empty sheet whose images will be squares of `tile` pixels. A multiple of the images' size looks best: 128 or
    /// 192 for images of 64.
    pub fn new(tile: usize) -> Self {
        Self { tile, title: String::new(), columns: Vec::new(), rows: Vec::new() }
    }

    /// A line over the whole sheet.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Captions over the columns, from left to right. One wider than an image is shortened.
    #[must_use]
    pub fn columns<S: Into<String>>(mut self, captions: impl IntoIterator<Item = S>) -> Self {
        self.columns = captions.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a row below the others. An empty caption takes no room; `None` leaves a cell empty.
    pub fn row(
        &mut self,
        caption: impl Into<String>,
        images: impl IntoIterator<Item = impl Into<Option<Canvas>>>,
    ) {
        self.rows.push((caption.into(), images.into_iter().map(Into::into).collect()));
    }

    /// Draws the sheet, with as many columns as its longest row or the captions.
    pub fn draw(&self) -> Canvas {
        let text = Text::Small;
        let columns = self.rows.iter().map(|(_, images)| images.len()).chain([self.columns.len()]).max();
        let columns = columns.unwrap_or(0);
        let captions: Vec<String> =
            self.rows.iter().map(|(caption, _)| text.fitted(caption, ROW_CAPTION)).collect();
        let widest = captions.iter().map(|caption| text.width(caption)).max().unwrap_or(0);
        let left = MARGIN + if widest > 0 { widest + 2 * CAPTION_GAP } else { 0 };
        let title = if self.title.is_empty() { 0 } else { Text::Large.height() + 2 * CAPTION_GAP };
        let header = if self.columns.is_empty() { 0 } else { text.height() + CAPTION_GAP };
        let top = MARGIN + title + header;
        let grid = |count: usize| (count * (self.tile + GAP)).saturating_sub(GAP);
        let width = (left + grid(columns) + MARGIN).max(2 * MARGIN + Text::Large.width(&self.title));
        let mut sheet = Canvas::new(width, top + grid(self.rows.len()) + MARGIN, PAPER);

        Text::Large.draw(&mut sheet, &self.title, MARGIN as i64, MARGIN as i64, INK);
        for (number, caption) in self.columns.iter().enumerate() {
            let caption = text.fitted(caption, self.tile + GAP);
            let centre = (left + number * (self.tile + GAP)) as i64 + self.tile as i64 / 2;
            let x = centre - text.width(&caption) as i64 / 2;
            text.draw(&mut sheet, &caption, x, (MARGIN + title) as i64, INK);
        }
        for (number, ((_, images), caption)) in self.rows.iter().zip(&captions).enumerate() {
            let y = top + number * (self.tile + GAP);
            let x = left as i64 - 2 * CAPTION_GAP as i64 - text.width(caption) as i64;
            text.draw(&mut sheet, caption, x, (y + self.tile / 2) as i64 - text.height() as i64 / 2, INK);
            for column in 0..columns {
                let x = left + column * (self.tile + GAP);
                match images.get(column) {
                    Some(Some(image)) => {
                        sheet.fill(x - 1, y - 1, self.tile + 2, self.tile + 2, EDGE);
                        sheet.paste(&image.resized(self.tile, self.tile), x, y);
                    }
                    _ => sheet.fill(x, y, self.tile, self.tile, MISSING),
                }
            }
        }
        sheet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_stand_where_they_should() {
        let mut sheet = Sheet::new(32);
        sheet.row("", [Canvas::new(8, 8, [200, 0, 0]), Canvas::new(32, 32, [0, 200, 0])]);
        sheet.row("", [None, Some(Canvas::new(64, 64, [0, 0, 200]))]);
        let drawn = sheet.draw();
        assert_eq!((drawn.width(), drawn.height()), (16 + 32 + 6 + 32 + 16, 16 + 32 + 6 + 32 + 16));
        let at = |x: usize, y: usize| drawn.get(x, y).unwrap();
        assert_eq!([at(15, 16), at(16, 16), at(47, 47), at(48, 47)], [EDGE, [200, 0, 0], [200, 0, 0], EDGE]);
        assert_eq!([at(54, 16), at(54, 54), at(16, 54)], [[0, 200, 0], [0, 0, 200], MISSING]);
    }

    #[test]
    fn captions_enlarge_the_sheet_and_touch_no_image() {
        let with = |title: &str, column: &str, row: &str| {
            let mut sheet = Sheet::new(64).title(title);
            if !column.is_empty() {
                sheet = sheet.columns([column, column]);
            }
            sheet.row(row, [Canvas::new(4, 4, [9; 3]), Canvas::new(4, 4, [9; 3])]);
            sheet.draw()
        };
        let plain = with("", "", "");
        let full =
            with("Epoch 3", "a caption that is far too long", "a file name that is far longer than is good");
        assert_eq!(full.width() - plain.width(), Text::Small.width(&"x".repeat(28)) + 12);
        assert_eq!(full.height() - plain.height(), 20 + 12 + 16 + 6);
        let count = |canvas: &Canvas| canvas.bytes().chunks_exact(3).filter(|p| *p == [9; 3]).count();
        assert_eq!((count(&plain), count(&full)), (2 * 64 * 64, 2 * 64 * 64));
    }

    #[test]
    fn an_empty_sheet_is_only_margin() {
        let drawn = Sheet::new(64).draw();
        assert_eq!((drawn.width(), drawn.height()), (32, 32));
    }
}
