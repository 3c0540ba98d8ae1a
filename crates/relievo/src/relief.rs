//! Reliefs: an object as a flat plate with a raised image, to print, to mill or to cast.
//!
//! A head that is 100 mm wide is about 60 mm deep, and a relief of it 5 mm. To divide all heights by twelve would leave a
//! disc with a bump for a nose. So slopes are compressed, steep ones more than gentle ones, and heights follow from them as
//! the surface whose slopes are nearest to those: noses are flattened, lips and eyelids stay. Source: Weyrich, Deng, Barnes,
//! Rusinkiewicz and Finkelstein, *Digital Bas-Relief from 3D Scenes*, SIGGRAPH 2007.

use std::path::Path;

use relievo_export::DepthScale;
use relievo_model::object_level;

use crate::mesh::{cubic, linear};
use crate::{Error, Reconstruction, Result};

/// What a relief is made like. Lengths are in millimetres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReliefOptions {
    /// Width of the plate.
    pub width: f32,
    /// How far the object rises above the plate.
    pub depth: f32,
    /// Thickness of the plate.
    pub base: f32,
    /// How strongly steep slopes are compressed, against gentle ones: a slope s becomes ln(1 + c s) / c. 0 divides all
    /// heights by one number.
    pub compression: f32,
    /// From one point of the surface to the next. A plate has at most 2,000 points a side.
    pub resolution: f32,
}

impl Default for ReliefOptions {
    fn default() -> Self {
        Self { width: 100.0, depth: 5.0, base: 2.0, compression: 4.0, resolution: 0.4 }
    }
}

impl ReliefOptions {
    /// Whether a plate can be made so.
    fn check(&self) -> Result<()> {
        let Self { width, depth, base, compression, resolution } = *self;
        let fits = [width, depth, base, resolution].iter().all(|length| (0.01..=10_000.0).contains(length));
        if fits && (0.0..=1000.0).contains(&compression) {
            return Ok(());
        }
        Err(Error::Relief(*self))
    }
}

/// A plate with a raised image of an object.
#[derive(Debug, Clone)]
pub struct Relief {
    columns: usize,
    /// Millimetres above the underside, row by row from the top.
    heights: Vec<f32>,
    /// Millimetres from point to point.
    pitch: f32,
}

/// Least and most points along a side.
const LEAST_POINTS: f32 = 16.0;
const MOST_POINTS: f32 = 2000.0;

/// The plate around the object, in shares of the object's width.
const MARGIN: f32 = 0.06;

impl Reconstruction {
    /// The object as a relief, seen from the front.
    ///
    /// # Errors
    /// [`NoSurface`](crate::Error::NoSurface) if the depth makes none, and [`Relief`](crate::Error::Relief) if the options
    /// make no sense.
    pub fn relief(&self, options: &ReliefOptions) -> Result<Relief> {
        options.check()?;
        let (depth, size) = (self.canonical_depth().values(), self.size());
        let level = object_level(depth, &self.settings);
        let inside = || (0..size * size).filter(|at| level[*at] > 0.0);
        let ends = |of: fn(usize, usize) -> usize| {
            let places = || inside().map(|at| of(at, size));
            Some([places().min()? as f32, places().max()? as f32])
        };
        let (Some([top, bottom]), Some([left, right])) =
            (ends(|at, size| at / size), ends(|at, size| at % size))
        else {
            return Err(Error::NoSurface);
        };
        let margin = MARGIN * (right - left);
        let (extent_x, extent_y) = (right - left + 2.0 * margin, bottom - top + 2.0 * margin);
        let columns = (options.width / options.resolution).clamp(LEAST_POINTS, MOST_POINTS) as usize;
        // Pixels of the maps from point to point.
        let step = extent_x / (columns - 1) as f32;
        let rows = ((extent_y / step).round() as usize + 1).clamp(3, MOST_POINTS as usize);
        // Heights in pixels of the maps, at the distance of the object.
        let slopes = self.settings.camera().slopes();
        let pixel = slopes[1] - slopes[0];
        let points: Vec<[f32; 3]> = depth.iter().map(|depth| [-depth / pixel, 0.0, 0.0]).collect();
        let last = (size - 1) as f32;
        let place = |at: usize| {
            [top - margin + (at / columns) as f32 * step, left - margin + (at % columns) as f32 * step]
        };
        let is_object = |at: usize| {
            let place = place(at);
            place.iter().all(|x| (0.0..=last).contains(x)) && linear(&level, size, place) > 0.0
        };
        let object: Vec<bool> = (0..columns * rows).map(is_object).collect();
        let heights: Vec<f32> = (0..columns * rows)
            .map(|at| if object[at] { cubic(&points, size, place(at))[0] / step } else { 0.0 })
            .collect();
        let raised = raised(&heights, &object, columns, options.compression);
        let most = raised.iter().copied().fold(0.0, f32::max);
        if !(most > 0.0 && most.is_finite()) {
            return Err(Error::NoSurface);
        }
        // What lies deeper than the plate's surface takes no more than half of the plate.
        let height = |raised: &f32| options.base + (options.depth / most * raised).max(-0.5 * options.base);
        let heights = raised.iter().map(height).collect();
        Ok(Relief { columns, heights, pitch: options.width / (columns - 1) as f32 })
    }
}

/// The surface whose slopes are nearest to those of `heights` after compression, where `object`; 0 elsewhere, and all around.
fn raised(heights: &[f32], object: &[bool], columns: usize, compression: f32) -> Vec<f32> {
    let compressed = |slope: f32, length: f32| {
        if compression == 0.0 || length == 0.0 {
            slope
        } else {
            slope * (1.0 + compression * length).ln() / (compression * length)
        }
    };
    let rows = object.len() / columns;
    let is_free = |at: usize| {
        let (row, column) = (at / columns, at % columns);
        object[at] && (1..rows - 1).contains(&row) && (1..columns - 1).contains(&column)
    };
    let free: Vec<bool> = (0..object.len()).map(is_free).collect();
    // Slopes to the right and down between points of the object; across its outline there are none.
    let mut divergence = vec![0.0; object.len()];
    for at in (0..object.len()).filter(|at| free[*at]) {
        let slope = |to: usize| if free[to] { heights[to] - heights[at] } else { 0.0 };
        let (right, down) = (slope(at + 1), slope(at + columns));
        let length = right.hypot(down);
        for (to, slope) in [(at + 1, right), (at + columns, down)] {
            let slope = compressed(slope, length);
            divergence[at] += slope;
            divergence[to] -= slope;
        }
    }
    solve(&free, &divergence, columns)
}

/// The u with sum over the four neighbours of (u_neighbour - u) = `divergence` at the points that are `free`, and 0 at all
/// others: by conjugate gradients.
fn solve(free: &[bool], divergence: &[f32], columns: usize) -> Vec<f32> {
    const ACCURACY: f64 = 1e-4;
    const MOST_STEPS: usize = 4000;
    let points: Vec<usize> = (0..free.len()).filter(|at| free[*at]).collect();
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { points.iter().map(|&at| f64::from(a[at]) * f64::from(b[at])).sum() };
    let mut u = vec![0.0; free.len()];
    let mut residual = vec![0.0; free.len()];
    points.iter().for_each(|&at| residual[at] = -divergence[at]);
    let mut direction = residual.clone();
    let mut image = vec![0.0; free.len()];
    let start = dot(&residual, &residual);
    let mut square = start;
    for _ in 0..MOST_STEPS {
        if square <= ACCURACY * ACCURACY * start {
            break;
        }
        for &at in &points {
            image[at] = 4.0 * direction[at]
                - direction[at - 1]
                - direction[at + 1]
                - direction[at - columns]
                - direction[at + columns];
        }
        let step = (square / dot(&direction, &image)) as f32;
        for &at in &points {
            u[at] += step * direction[at];
            residual[at] -= step * image[at];
        }
        let next = dot(&residual, &residual);
        let share = (next / square) as f32;
        square = next;
        for &at in &points {
            direction[at] = residual[at] + share * direction[at];
        }
    }
    u
}

impl Relief {
    /// Points in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Rows of points.
    pub fn rows(&self) -> usize {
        self.heights.len() / self.columns
    }

    /// Millimetres from point to point, along rows and columns.
    pub fn pitch(&self) -> f32 {
        self.pitch
    }

    /// Millimetres above the underside of the plate, row by row from the top.
    pub fn heights(&self) -> &[f32] {
        &self.heights
    }

    /// The plate as a closed surface in millimetres: x right, y up, z out of the plate, whose underside lies at 0.
    pub fn mesh(&self) -> relievo_mesh::Mesh {
        let (columns, rows) = (self.columns, self.rows());
        let place =
            |at: usize| [(at % columns) as f32 * self.pitch, (rows - 1 - at / columns) as f32 * self.pitch];
        let mut vertices: Vec<[f32; 3]> = self
            .heights
            .iter()
            .enumerate()
            .map(|(at, height)| [place(at)[0], place(at)[1], *height])
            .collect();
        let mut faces = Vec::with_capacity(2 * vertices.len());
        for row in 0..rows - 1 {
            for column in 0..columns - 1 {
                let at = row * columns + column;
                let [a, b, c, d] = [at, at + columns, at + 1, at + columns + 1].map(|at| at as u32);
                faces.extend([[a, b, c], [c, b, d]]);
            }
        }
        // The rim, counter-clockwise as seen from above: down the left side, along the lower one, up, and back.
        let last = rows * columns - 1;
        let rim = (0..rows - 1)
            .map(|row| row * columns)
            .chain((0..columns - 1).map(|column| (rows - 1) * columns + column))
            .chain((0..rows - 1).map(|row| last - row * columns))
            .chain((0..columns - 1).map(|column| columns - 1 - column));
        let rim: Vec<usize> = rim.collect();
        let lower = vertices.len() as u32;
        vertices.extend(rim.iter().map(|&at| [place(at)[0], place(at)[1], 0.0]));
        let middle = vertices.len() as u32;
        let half = [columns - 1, rows - 1].map(|count| 0.5 * count as f32 * self.pitch);
        vertices.push([half[0], half[1], 0.0]);
        for (number, &at) in rim.iter().enumerate() {
            let next = (number + 1) % rim.len();
            let (a, b) = (at as u32, rim[next] as u32);
            let (below_a, below_b) = (lower + number as u32, lower + next as u32);
            faces.extend([[a, below_a, b], [b, below_a, below_b], [below_b, below_a, middle]]);
        }
        relievo_mesh::Mesh::new(vertices, faces)
    }

    /// Writes the plate as an STL file in millimetres, closed.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_stl(&self, path: impl AsRef<Path>) -> Result<()> {
        Ok(self.mesh().write_stl(path)?)
    }

    /// Writes the heights as a 16-bit PNG file, for mills and displacement maps: V from 1 to 65535 is the height
    /// `min + (V - 1) / 65534 * (max - min)` of what is returned, in millimetres.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_height_map(&self, path: impl AsRef<Path>) -> Result<DepthScale> {
        Ok(DepthScale::write_png(path, &self.heights, self.columns, None)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const SIDE: usize = 41;

    /// A cap in the middle of a square, 8 high.
    fn cap() -> (Vec<f32>, Vec<bool>) {
        let height = |at: usize| {
            let [x, y] = [at % SIDE, at / SIDE].map(|place| (place as f32 - 20.0) / 16.0);
            8.0 * (1.0 - x * x - y * y)
        };
        let heights: Vec<f32> = (0..SIDE * SIDE).map(height).collect();
        let object = heights.iter().map(|height| *height > 0.0).collect();
        (heights, object)
    }

    #[test]
    fn slopes_that_are_not_compressed_give_the_surface_back() {
        let (heights, object) = cap();
        let raised = raised(&heights, &object, SIDE, 0.0);
        assert!(raised.iter().zip(&object).all(|(raised, is_object)| *is_object || *raised == 0.0));
        // But for the step at the outline, which no slope says.
        let off: Vec<f32> =
            (0..SIDE * SIDE).filter(|at| heights[*at] > 2.0).map(|at| raised[at] - heights[at]).collect();
        let [least, most] = [f32::min, f32::max].map(|of| off.iter().copied().reduce(of).unwrap());
        assert!(most - least < 0.3 && least > -1.2 && most < 0.0, "{least} to {most}");
    }

    #[test]
    fn compression_flattens_what_is_steep_most() {
        let (mut heights, object) = cap();
        // A gentle wave on the top of the cap.
        let wave = |at: usize| if at % SIDE % 4 < 2 { 0.1 } else { -0.1 };
        heights.iter_mut().enumerate().for_each(|(at, height)| *height += wave(at));
        // The wave's part of the whole height.
        let share = |compression: f32| {
            let raised = raised(&heights, &object, SIDE, compression);
            let row = &raised[20 * SIDE + 16..20 * SIDE + 24];
            let sum =
                |first: f32, second: f32| first * row[0] + first * row[1] + second * row[2] + second * row[3];
            sum(0.5, -0.5).abs() / raised.iter().copied().fold(0.0, f32::max)
        };
        assert!(share(10.0) > 1.3 * share(0.0), "{} {}", share(10.0), share(0.0));
    }

    #[test]
    fn a_plate_is_closed_and_has_its_measures() {
        let heights: Vec<f32> = (0..12).map(|at| 2.0 + at as f32 / 4.0).collect();
        let relief = Relief { columns: 4, heights, pitch: 0.5 };
        let mesh = relief.mesh();
        mesh.check().unwrap();
        assert_eq!(mesh.bounds().unwrap(), [[0.0; 3], [1.5, 1.0, 4.75]]);
        // Every edge lies between two faces, which pass it in opposite directions.
        let mut passed = HashMap::new();
        for [a, b, c] in &mesh.faces {
            for edge in [(a, b), (b, c), (c, a)] {
                *passed.entry(edge).or_insert(0) += 1;
            }
        }
        assert!(passed.iter().all(|((a, b), count)| *count == 1 && passed.get(&(*b, *a)) == Some(&1)));
        // The divergence theorem: six times the volume, which lies below the surface.
        let volume: f32 = mesh
            .faces
            .iter()
            .map(|face| {
                let [a, b, c] = face.map(|corner| mesh.vertices[corner as usize]);
                let [x, y, z] = std::array::from_fn(|i| {
                    let (j, k) = ((i + 1) % 3, (i + 2) % 3);
                    b[j] * c[k] - b[k] * c[j]
                });
                a[0] * x + a[1] * y + a[2] * z
            })
            .sum::<f32>()
            / 6.0;
        let mean = relief.heights().iter().sum::<f32>() / 12.0;
        assert!((volume - 1.5 * mean).abs() < 0.01, "{volume}");
    }
}
