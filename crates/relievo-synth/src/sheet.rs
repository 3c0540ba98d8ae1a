//! Open surfaces that complete the head: grids of vertices.

/// A surface of its own, to be attached to the head.
pub(crate) struct Sheet {
    /// Positions, decimetres.
    pub vertices: Vec<[f32; 3]>,
    /// Corners as indices of vertices from 0, outside to the viewer.
    pub triangles: Vec<[u16; 3]>,
}

/// Triangles of a grid of vertices whose rows go down and whose columns go right, seen from outside.
pub(crate) fn grid(rows: usize, columns: usize) -> Vec<[u16; 3]> {
    let index = |row: usize, column: usize| (row * columns + column) as u16;
    (0..rows - 1)
        .flat_map(|row| (0..columns - 1).map(move |column| (row, column)))
        .flat_map(|(r, c)| {
            [
                [index(r, c), index(r + 1, c), index(r, c + 1)],
                [index(r, c + 1), index(r + 1, c), index(r + 1, c + 1)],
            ]
        })
        .collect()
}
