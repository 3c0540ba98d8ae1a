//! The raster of samples of an image.

/// Columns and rows of samples. Row 0 is the **bottom**: sample (i, j) lies at ((2i + 1 - columns) / columns,
/// (2j + 1 - rows) / rows) on the screen, y up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Samples {
    pub columns: usize,
    pub rows: usize,
}

/// Position of sample `index` of `count` on the screen.
#[inline(always)]
pub(crate) fn place(index: usize, count: usize) -> f32 {
    (2 * index as i32 + 1 - count as i32) as f32 / count as f32
}

/// A coordinate of the screen in units in which samples are whole numbers.
#[inline(always)]
pub(crate) fn in_samples(coordinate: f32, count: usize) -> f32 {
    0.5 * (coordinate * count as f32 + count as f32 - 1.0)
}

impl Samples {
    pub fn count(&self) -> usize {
        self.columns * self.rows
    }
}
