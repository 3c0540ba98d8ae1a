//! Maps of a reconstruction, seen where they lie.

/// A square map of a reconstruction: a number (`f32`) or a vector (`[f32; 3]`) for each pixel, row-major, top row
/// first. A view: nothing is copied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Map<'a, T> {
    values: &'a [T],
    size: usize,
}

impl<'a, T> Map<'a, T> {
    pub(crate) fn new(values: &'a [T], size: usize) -> Self {
        debug_assert_eq!(values.len(), size * size);
        Self { values, size }
    }

    /// Rows and columns.
    pub fn size(&self) -> usize {
        self.size
    }

    /// All values, row by row.
    pub fn values(&self) -> &'a [T] {
        self.values
    }

    /// The value in a row and a column, if they are inside.
    pub fn get(&self, row: usize, column: usize) -> Option<&'a T> {
        (row < self.size && column < self.size).then(|| &self.values[row * self.size + column])
    }

    /// The rows, from the top.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &'a [T]> {
        self.values.chunks_exact(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_row_and_column() {
        let values = [1, 2, 3, 4];
        let map = Map::new(&values, 2);
        assert_eq!((map.get(1, 0), map.get(0, 2), map.get(2, 0)), (Some(&3), None, None));
        assert_eq!(map.rows().map(|row| row[1]).collect::<Vec<_>>(), [2, 4]);
    }
}
