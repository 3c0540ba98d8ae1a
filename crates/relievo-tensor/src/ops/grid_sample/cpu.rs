//! Values and the gradient of the grid: one task per row of the grid. The gradient of the images is scattered, one
//! task per image, so that what falls on one pixel is always added in the same order.

use std::ops::Range;

use rayon::prelude::*;

use crate::ops::vectorised::vectorised;

/// Extents of images and grids.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Rows of the images.
    pub height: usize,
    /// Columns of the images.
    pub width: usize,
    /// Channels of the images.
    pub channels: usize,
    /// Rows of the grids.
    pub rows: usize,
    /// Columns of the grids.
    pub columns: usize,
}

impl Layout {
    fn image(self) -> usize {
        self.height * self.width * self.channels
    }

    fn grid(self) -> usize {
        self.rows * self.columns * 2
    }

    fn output(self) -> usize {
        self.rows * self.columns * self.channels
    }
}

/// The four pixels around a place.
struct Cell {
    /// Where the top left pixel starts in the image; may lie outside of it.
    corner: isize,
    /// Which of the top left, top right, bottom left and bottom right pixels lie inside.
    inside: [bool; 4],
    /// How far the place is from the left column and the top row, in pixels.
    along: f32,
    down: f32,
}

impl Cell {
    #[inline(always)]
    fn at(layout: Layout, place: &[f32]) -> Self {
        // The first pixel at or before a coordinate, as a number that cannot overflow: -2 and `extent` stand for
        // everything that is out of reach on either side.
        let split = |coordinate: f32, extent: usize| {
            let position = (coordinate + 1.0) * 0.5 * (extent as f32 - 1.0);
            let first = position.floor();
            (first.clamp(-2.0, extent as f32) as i32 as isize, position - first)
        };
        let (column, along) = split(place[0], layout.width);
        let (row, down) = split(place[1], layout.height);
        let within = |index: isize, extent: usize| index >= 0 && index < extent as isize;
        let (left, right) = (within(column, layout.width), within(column + 1, layout.width));
        let (top, bottom) = (within(row, layout.height), within(row + 1, layout.height));
        Self {
            corner: (row * layout.width as isize + column) * layout.channels as isize,
            inside: [top && left, top && right, bottom && left, bottom && right],
            along,
            down,
        }
    }

    /// The weights of the four pixels of a place that counts for `mask`.
    #[inline(always)]
    fn weights(&self, mask: f32) -> [f32; 4] {
        let (left, top) = (1.0 - self.along, 1.0 - self.down);
        [left * top, self.along * top, left * self.down, self.along * self.down].map(|weight| mask * weight)
    }

    /// Where the two pixels above and the two below are in the image, if all four lie inside, which is the common case.
    #[inline(always)]
    fn pairs(&self, layout: Layout) -> Option<[Range<usize>; 2]> {
        let (top, pair) = (self.corner as usize, 2 * layout.channels);
        let bottom = top.wrapping_add(layout.width * layout.channels);
        (self.inside == [true; 4]).then(|| [top..top + pair, bottom..bottom + pair])
    }

    /// Of the four pixels, those inside: which it is and where it starts in the image.
    #[inline(always)]
    fn pixels(&self, layout: Layout) -> impl Iterator<Item = (usize, usize)> {
        let (channels, line) = (layout.channels as isize, (layout.width * layout.channels) as isize);
        let offsets = [0, channels, line, line + channels];
        let (corner, inside) = (self.corner, self.inside);
        (0..4).filter(move |i| inside[*i]).map(move |i| (i, (corner + offsets[i]) as usize))
    }
}

/// What a mask has for `image`: a number for each place of its grid.
fn mask_of_image(layout: Layout, mask: Option<&[f32]>, image: usize) -> Option<&[f32]> {
    let places = layout.rows * layout.columns;
    mask.map(|mask| &mask[image * places % mask.len()..][..places])
}

/// What that has for `row`.
fn mask_of_row(layout: Layout, mask: Option<&[f32]>, row: usize) -> Option<&[f32]> {
    mask.map(|mask| &mask[row * layout.columns..][..layout.columns])
}

/// y from images and grids.
pub fn forward(layout: Layout, [image, grid]: [&[f32]; 2], mask: Option<&[f32]>, y: &mut [f32]) {
    let images = image.par_chunks(layout.image());
    let outputs = grid.par_chunks(layout.grid()).zip(y.par_chunks_mut(layout.output()));
    images.zip(outputs).enumerate().for_each(|(index, (image, (grid, y)))| {
        let mask = mask_of_image(layout, mask, index);
        let rows =
            grid.par_chunks(layout.columns * 2).zip(y.par_chunks_mut(layout.columns * layout.channels));
        rows.enumerate().for_each(|(row, (grid, y))| {
            sample_row(layout, image, grid, mask_of_row(layout, mask, row), y);
        });
    });
}

/// The gradient of the images from grids and dy.
pub fn image_gradient(layout: Layout, [grid, dy]: [&[f32]; 2], mask: Option<&[f32]>, dimage: &mut [f32]) {
    let gradients = grid.par_chunks(layout.grid()).zip(dy.par_chunks(layout.output()));
    let images = dimage.par_chunks_mut(layout.image()).zip(gradients);
    images.enumerate().for_each(|(index, (dimage, (grid, dy)))| {
        scatter(layout, grid, dy, mask_of_image(layout, mask, index), dimage);
    });
}

/// The gradient of the grids from images, grids and dy.
pub fn grid_gradient(
    layout: Layout,
    [image, grid, dy]: [&[f32]; 3],
    mask: Option<&[f32]>,
    dgrid: &mut [f32],
) {
    let inputs = image.par_chunks(layout.image()).zip(grid.par_chunks(layout.grid()));
    let outputs = dy.par_chunks(layout.output()).zip(dgrid.par_chunks_mut(layout.grid()));
    let scale = [layout.width, layout.height].map(|extent| 0.5 * (extent as f32 - 1.0));
    inputs.zip(outputs).enumerate().for_each(|(index, ((image, grid), (dy, dgrid)))| {
        let mask = mask_of_image(layout, mask, index);
        let places = grid.par_chunks(layout.columns * 2).zip(dgrid.par_chunks_mut(layout.columns * 2));
        let rows = places.zip(dy.par_chunks(layout.columns * layout.channels));
        rows.enumerate().for_each(|(row, ((grid, dgrid), dy))| {
            slopes_of_row(layout, scale, [image, grid, dy], mask_of_row(layout, mask, row), dgrid);
        });
    });
}

/// Evaluates `$function(layout, ...)` with the number of channels of images constant, so that loops over the channels of a
/// pixel are unrolled.
macro_rules! with_channels {
    ($function:ident($layout:expr $(, $argument:expr)*)) => {
        match $layout.channels {
            3 => $function(Layout { channels: 3, ..$layout } $(, $argument)*),
            _ => $function($layout $(, $argument)*),
        }
    };
}

#[inline(always)]
fn sample_places(layout: Layout, image: &[f32], grid: &[f32], mask: Option<&[f32]>, y: &mut [f32]) {
    let places = grid.chunks_exact(2).zip(y.chunks_exact_mut(layout.channels));
    for (index, (place, y)) in places.enumerate() {
        let cell = Cell::at(layout, place);
        let weights = cell.weights(mask.map_or(1.0, |mask| mask[index]));
        if let Some(pairs) = cell.pairs(layout) {
            let [top, bottom] = pairs.map(|pair| &image[pair]);
            for (channel, y) in y.iter_mut().enumerate() {
                let right = channel + layout.channels;
                *y = weights[0] * top[channel] + weights[1] * top[right];
                *y = *y + weights[2] * bottom[channel] + weights[3] * bottom[right];
            }
            continue;
        }
        y.fill(0.0);
        for (i, start) in cell.pixels(layout) {
            for (y, value) in y.iter_mut().zip(&image[start..start + layout.channels]) {
                *y += weights[i] * value;
            }
        }
    }
}

#[inline(always)]
fn scatter_places(layout: Layout, grid: &[f32], dy: &[f32], mask: Option<&[f32]>, dimage: &mut [f32]) {
    dimage.fill(0.0);
    let places = grid.chunks_exact(2).zip(dy.chunks_exact(layout.channels));
    for (index, (place, dy)) in places.enumerate() {
        let cell = Cell::at(layout, place);
        let weights = cell.weights(mask.map_or(1.0, |mask| mask[index]));
        if let Some(pairs) = cell.pairs(layout) {
            for (pair, weights) in pairs.into_iter().zip(weights.chunks_exact(2)) {
                let (left, right) = dimage[pair].split_at_mut(layout.channels);
                for ((left, right), dy) in left.iter_mut().zip(right).zip(dy) {
                    *left += weights[0] * dy;
                    *right += weights[1] * dy;
                }
            }
            continue;
        }
        for (i, start) in cell.pixels(layout) {
            for (sum, dy) in dimage[start..start + layout.channels].iter_mut().zip(dy) {
                *sum += weights[i] * dy;
            }
        }
    }
}

#[inline(always)]
fn slopes_of_places(
    layout: Layout,
    scale: [f32; 2],
    [image, grid, dy]: [&[f32]; 3],
    mask: Option<&[f32]>,
    dgrid: &mut [f32],
) {
    let places = grid.chunks_exact(2).zip(dgrid.chunks_exact_mut(2));
    for (index, ((place, dplace), dy)) in places.zip(dy.chunks_exact(layout.channels)).enumerate() {
        let cell = Cell::at(layout, place);
        let scale = scale.map(|scale| scale * mask.map_or(1.0, |mask| mask[index]));
        // dy times the value of each of the four pixels.
        let mut products = [0.0f32; 4];
        if let Some(pairs) = cell.pairs(layout) {
            let [top, bottom] = pairs.map(|pair| &image[pair]);
            for (channel, dy) in dy.iter().enumerate() {
                let right = channel + layout.channels;
                let values = [top[channel], top[right], bottom[channel], bottom[right]];
                products.iter_mut().zip(values).for_each(|(product, value)| *product += value * dy);
            }
        } else {
            for (i, start) in cell.pixels(layout) {
                for (value, dy) in image[start..start + layout.channels].iter().zip(dy) {
                    products[i] += value * dy;
                }
            }
        }
        let [top_left, top_right, bottom_left, bottom_right] = products;
        let (left, top) = (1.0 - cell.along, 1.0 - cell.down);
        dplace[0] = scale[0] * (top * (top_right - top_left) + cell.down * (bottom_right - bottom_left));
        dplace[1] = scale[1] * (left * (bottom_left - top_left) + cell.along * (bottom_right - top_right));
    }
}

vectorised! {
    /// y of a row of places.
    fn sample_row(layout: Layout, image: &[f32], grid: &[f32], mask: Option<&[f32]>, y: &mut [f32]) {
        with_channels!(sample_places(layout, image, grid, mask, y));
    }

    /// The gradient of an image.
    fn scatter(layout: Layout, grid: &[f32], dy: &[f32], mask: Option<&[f32]>, dimage: &mut [f32]) {
        with_channels!(scatter_places(layout, grid, dy, mask, dimage));
    }

    /// The gradient of a row of places.
    fn slopes_of_row(layout: Layout, scale: [f32; 2], inputs: [&[f32]; 3], mask: Option<&[f32]>, dgrid: &mut [f32]) {
        with_channels!(slopes_of_places(layout, scale, inputs, mask, dgrid));
    }
}
