//! Convolutions by Winograd's method: tiles of 4x4 outputs. Those of 3x3 and 5x5 with a stride of 1 make 36 products instead
//! of 144 and 64 instead of 400 for each pair of channels. Those of 4x4 with a stride of 2 are sums of four convolutions of
//! 2x2, one for each parity of the input's rows and columns, and make 100 instead of 256. The transforms around the products
//! are in `transforms.rs`.
//!
//! Forward: the weights are transformed once; then each job takes some tiles all the way (input transform, n*n matrix
//! products, output transform) through scratch that stays in the second-level cache. The input gradient is the same with
//! weights rotated by 180 degrees, once for each parity of its pixels. Weight gradient: in rounds of tiles, first all
//! transforms, then the products, each added to its own part of the transformed gradient; so no sum depends on how the work
//! is split.

use std::ops::Range;

use rayon::prelude::*;

use super::direct::{Shared, pack_panel};
use super::kernels::{GemmTile, Kernels, OuterProductTile, RawEpilogue};
use super::transforms::{OUTPUTS, Points};
use crate::Buffer;
use crate::ops::conv2d::{Conv2dGeometry, Epilogue};

/// Elements of scratch a job aims at.
const SCRATCH: usize = 200_000;
/// Elements of transformed weights above which they are transformed panel by panel.
const MANY_WEIGHTS: usize = 700_000;
/// Jobs aimed at, whatever the number of threads.
const JOBS: usize = 16;
/// Elements of transformed tiles in a round of the weight gradient.
const ROUND: usize = 500_000;
/// Elements between matrices beyond their size, so that they do not all fall on the same lines of a cache.
const SKEW: usize = 16;

/// Every `step`-th pixel of an image, along both axes.
#[derive(Clone, Copy)]
struct Grid {
    height: usize,
    width: usize,
    channels: usize,
    step: usize,
    /// The row and column of the image that row 0 and column 0 of the grid are; before the image in its padding.
    origin: [isize; 2],
}

impl Grid {
    /// The image's row that a row of the grid is.
    fn row(&self, row: usize) -> Option<usize> {
        (row * self.step).checked_add_signed(self.origin[0]).filter(|at| *at < self.height)
    }

    /// The image's column that a column of the grid is.
    fn column(&self, column: usize) -> Option<usize> {
        (column * self.step).checked_add_signed(self.origin[1]).filter(|at| *at < self.width)
    }

    /// What `of` makes of the first element of each pixel of a square from `row` and `column` of the grid; of `None` for those
    /// outside of the image.
    #[inline(always)]
    fn square<T, const N: usize>(
        &self,
        [image, row, column]: [usize; 3],
        of: impl Fn(Option<usize>) -> T,
    ) -> [[T; N]; N] {
        let columns: [Option<usize>; N] = std::array::from_fn(|j| self.column(column + j));
        std::array::from_fn(|i| match self.row(row + i) {
            Some(y) => {
                let first = (image * self.height + y) * self.width;
                columns.map(|column| of(column.map(|x| (first + x) * self.channels)))
            }
            None => columns.map(|_| of(None)),
        })
    }
}

/// Where the taps of a correlation lie in a kernel: the number of the first, and steps from one row to the next and from tap
/// to tap in a row.
#[derive(Clone, Copy)]
struct Taps {
    first: usize,
    row: isize,
    column: isize,
}

/// The weights of a convolution, as a task reads them.
#[derive(Clone, Copy)]
struct Weights<'a> {
    w: &'a [f32],
    /// Whether the task's outputs are the convolution's inputs.
    is_transposed: bool,
}

/// A convolution's points, if its kernel is as wide as high and a multiple of its stride for which there are some.
fn points_of(g: &Conv2dGeometry) -> Option<Points> {
    let divides = g.kernel_h() == g.kernel_w() && g.kernel_h().is_multiple_of(g.stride());
    Points::for_taps(g.kernel_h() / g.stride()).filter(|_| divides)
}

/// Whether Winograd's method pays for this convolution.
pub fn suits(g: &Conv2dGeometry) -> bool {
    pays(g, [g.out_h(), g.out_w()], 16)
}

/// Whether it pays for its input gradient.
pub fn suits_input_gradient(g: &Conv2dGeometry) -> bool {
    pays(g, [g.in_h(), g.in_w()].map(|extent| extent / g.stride()), 16)
}

/// Whether it pays for its weight gradient, which writes and reads all transformed weights.
pub fn suits_weight_gradient(g: &Conv2dGeometry) -> bool {
    let weights = |points: Points| (points.n * g.stride()).pow(2) * g.in_c() * g.out_c();
    let many = points_of(g).is_some_and(|points| weights(points) > MANY_WEIGHTS);
    pays(g, [g.out_h(), g.out_w()], if many { 32 } else { 16 })
}

/// Whether there are so many channels and tiles that it pays.
fn pays(g: &Conv2dGeometry, extents: [usize; 2], tiles: usize) -> bool {
    let [rows, columns] = extents.map(|extent| extent.div_ceil(OUTPUTS));
    points_of(g).is_some() && g.in_c().min(g.out_c()) > 8 && g.batch() * rows * columns >= tiles
}

/// Correlations in progress whose sum is the result.
struct Task<'a> {
    kernels: &'a Kernels,
    points: Points,
    batch: usize,
    /// Rows and columns of tiles.
    rows: usize,
    columns: usize,
    /// What each correlation reads, and its taps.
    inputs: Vec<(Grid, Taps)>,
    output: Grid,
    /// Taps of the whole kernel.
    taps: usize,
}

impl<'a> Task<'a> {
    fn new(
        kernels: &'a Kernels,
        g: &Conv2dGeometry,
        [rows, columns]: [usize; 2],
        inputs: Vec<(Grid, Taps)>,
        output: Grid,
    ) -> Self {
        let Some(points) = points_of(g) else { unreachable!("asked for only if it suits") };
        let [rows, columns] = [rows, columns].map(|extent| extent.div_ceil(OUTPUTS));
        Task { kernels, points, batch: g.batch(), rows, columns, inputs, output, taps: g.taps() }
    }

    /// A convolution: one correlation for each parity (more generally: remainder by the stride) of input pixels.
    fn forward(kernels: &'a Kernels, g: &Conv2dGeometry) -> Self {
        let (stride, kernel) = (g.stride(), g.kernel_h());
        let of = |row: usize, column: usize| {
            let origin = [row, column].map(|at| at as isize - g.padding() as isize);
            let first = row * kernel + column;
            let taps = Taps { first, row: (stride * kernel) as isize, column: stride as isize };
            let (height, width, channels) = (g.in_h(), g.in_w(), g.in_c());
            (Grid { height, width, channels, step: stride, origin }, taps)
        };
        let inputs = (0..stride * stride).map(|at| of(at / stride, at % stride)).collect();
        let (height, width, channels) = (g.out_h(), g.out_w(), g.out_c());
        let output = Grid { height, width, channels, step: 1, origin: [0; 2] };
        Self::new(kernels, g, [height, width], inputs, output)
    }

    /// The input gradient at the pixels of one parity.
    fn input_gradient(kernels: &'a Kernels, g: &Conv2dGeometry, parity: [usize; 2]) -> Self {
        let (stride, kernel) = (g.stride(), g.kernel_h());
        let last = kernel / stride - 1;
        // Input pixel i meets output o under tap i + padding - o * stride.
        let [row, column] = parity.map(|at| (at + g.padding()) % stride);
        let origin = parity.map(|at| ((at + g.padding()) / stride) as isize - last as isize);
        let first = (last * stride + row) * kernel + last * stride + column;
        let taps = Taps { first, row: -((stride * kernel) as isize), column: -(stride as isize) };
        let (height, width, channels) = (g.out_h(), g.out_w(), g.out_c());
        let input = Grid { height, width, channels, step: 1, origin };
        let (height, width, channels) = (g.in_h(), g.in_w(), g.in_c());
        let output = Grid { height, width, channels, step: stride, origin: parity.map(|at| at as isize) };
        let [rows, columns] = [height - parity[0], width - parity[1]].map(|extent| extent.div_ceil(stride));
        Self::new(kernels, g, [rows, columns], vec![(input, taps)], output)
    }

    /// Channels of each input.
    fn channels(&self) -> usize {
        self.inputs[0].0.channels
    }

    /// Channels of all inputs, one after the other.
    fn depth(&self) -> usize {
        self.inputs.len() * self.channels()
    }

    /// Output channels.
    fn outputs(&self) -> usize {
        self.output.channels
    }

    /// Tiles of all images.
    fn tiles(&self) -> usize {
        self.batch * self.rows * self.columns
    }

    /// The image, and the first row and column of outputs, of a tile.
    fn place(&self, tile: usize) -> [usize; 3] {
        let (image, at) = (tile / (self.rows * self.columns), tile % (self.rows * self.columns));
        [image, at / self.columns * OUTPUTS, at % self.columns * OUTPUTS]
    }

    /// What `of` makes of the first element of each output pixel of a tile; of `None` where it hangs over the image.
    fn output<T>(&self, tile: usize, of: impl Fn(Option<usize>) -> T) -> [[T; OUTPUTS]; OUTPUTS] {
        self.output.square(self.place(tile), of)
    }

    /// Products for each pair of channels and each tile.
    fn products(&self) -> usize {
        self.points.n * self.points.n
    }

    /// The columns of a panel of output channels.
    fn columns_of(&self, panel: usize) -> Range<usize> {
        let width = self.kernels.columns;
        panel * width..(panel * width + width).min(self.outputs())
    }

    /// Transforms the weights of one panel of output channels: `[product][depth][width]`, `matrix` elements from product to
    /// product.
    fn transform_weights(&self, weights: Weights<'_>, panel: usize, u: *mut f32, matrix: usize) {
        let (kernels, channels) = (self.kernels, self.channels());
        let (columns, width) = (self.columns_of(panel), kernels.columns);
        // From the weight of one tap to that of the next, and from one input channel to the next.
        let (packed, tap, channel);
        let from: &[f32] = if weights.is_transposed {
            // Output channels are neighbours already.
            (tap, channel) = (self.outputs(), self.taps * self.outputs());
            &weights.w[columns.start..]
        } else {
            let depth = self.taps * channels;
            let mut panel = Buffer::empty(depth * width);
            pack_panel(&weights.w[columns.start * depth..columns.end * depth], depth, width, &mut panel);
            packed = panel;
            (tap, channel) = (channels * width, width);
            &packed
        };
        for (at, (_, taps)) in self.inputs.iter().enumerate() {
            let steps = [taps.row, taps.column].map(|step| step * tap as isize);
            for c in 0..channels {
                for first in (0..columns.len()).step_by(kernels.lanes) {
                    let lanes = (columns.len() - first).min(kernels.lanes);
                    let start = c * channel + first;
                    debug_assert!(from.len() >= (self.taps - 1) * tap + start + lanes);
                    // SAFETY: all taps of these lanes are in `from`; u has a row of `width` for each channel.
                    unsafe {
                        let w = from.as_ptr().add(taps.first * tap + start);
                        let u = u.add((at * channels + c) * width + first);
                        (kernels.transform_filter)(&self.points, w, steps, lanes, u, matrix);
                    }
                }
            }
        }
    }

    /// Transforms the inputs of some tiles: `[product][tile][depth]`, `matrix` elements from product to product.
    fn transform_input(&self, x: &[f32], zeros: &[f32], tiles: Range<usize>, v: *mut f32, matrix: usize) {
        match self.points.n {
            5 => self.transform_squares::<5>(x, zeros, tiles, v, matrix),
            6 => self.transform_squares::<6>(x, zeros, tiles, v, matrix),
            _ => self.transform_squares::<8>(x, zeros, tiles, v, matrix),
        }
    }

    /// [`Task::transform_input`] for `N` points.
    fn transform_squares<const N: usize>(
        &self,
        x: &[f32],
        zeros: &[f32],
        tiles: Range<usize>,
        v: *mut f32,
        matrix: usize,
    ) {
        for (row, tile) in tiles.enumerate() {
            let place = self.place(tile);
            for (at, (grid, _)) in self.inputs.iter().enumerate() {
                let pixels: [[_; N]; N] = grid.square(place, |at| match at {
                    Some(at) => x[at..].as_ptr(),
                    None => zeros.as_ptr(),
                });
                // SAFETY: each pointer is to a pixel of x or to zeros; the tile has its own rows of v.
                unsafe {
                    (self.kernels.transform_input)(
                        &self.points,
                        pixels.as_flattened().as_ptr(),
                        grid.channels,
                        v.add(row * self.depth() + at * grid.channels),
                        matrix,
                    );
                }
            }
        }
    }

    /// Multiplies the tiles `rows` of v (all of `[product][..][depth]`, `v_matrix` elements from product to product) with one
    /// panel of weights into m (`[product][row][stride]`, from column `first`).
    fn multiply(
        &self,
        (v, v_matrix): (*const f32, usize),
        (u, u_matrix): (*const f32, usize),
        (m, m_matrix, stride): (*mut f32, usize, usize),
        product: usize,
        rows: usize,
        columns: usize,
    ) {
        let blocks = rows.div_ceil(self.kernels.rows);
        let mut a = [std::ptr::null(); 16];
        let mut y = [std::ptr::null_mut(); 16];
        let b = [u];
        for block in 0..blocks {
            let rows = block * rows / blocks..(block + 1) * rows / blocks;
            for (i, row) in rows.clone().enumerate() {
                // SAFETY: v and m hold these rows.
                unsafe {
                    a[i] = v.add(row * self.depth());
                    y[i] = m.add(row * stride);
                }
            }
            let extents = [columns, self.depth(), self.kernels.columns];
            let tile = GemmTile {
                a_offset: product * v_matrix,
                b_offset: product * u_matrix,
                y_offset: product * m_matrix,
                ..GemmTile::new(&a[..rows.len()], &b, &y[..rows.len()], extents)
            };
            // SAFETY: rows of v and m of this product, and one panel of its matrix in u.
            unsafe { (self.kernels.gemm_tile)(&tile) }
        }
    }

    /// Transforms the products of some tiles to outputs, for the channels `channels`; m is `[product][tile][stride]` and
    /// starts at the first of the channels.
    fn transform_output(
        &self,
        (m, matrix, stride): (*const f32, usize, usize),
        tiles: Range<usize>,
        channels: Range<usize>,
        y: Shared,
        epilogue: Epilogue<'_>,
    ) {
        let raw_epilogue = RawEpilogue::new(epilogue, channels.start);
        for (at, tile) in tiles.enumerate() {
            let pixels: [[_; OUTPUTS]; OUTPUTS] = self.output(tile, |at| match at {
                // SAFETY: the pixel lies in y.
                Some(at) => unsafe { y.add(at + channels.start) },
                None => std::ptr::null_mut(),
            });
            // SAFETY: each pointer is to channels of a pixel of y that no other job writes, or null.
            unsafe {
                let m = m.add(at * stride);
                (self.kernels.transform_output)(
                    &self.points,
                    m,
                    matrix,
                    channels.len(),
                    raw_epilogue,
                    pixels.as_flattened().as_ptr(),
                );
            }
        }
    }

    /// The whole result.
    fn run(&self, x: &[f32], weights: Weights<'_>, y: Shared, epilogue: Epilogue<'_>) {
        if self.products() * self.depth() * self.outputs() > MANY_WEIGHTS {
            run_by_panels(self, x, weights, y, epilogue);
        } else {
            run_by_tiles(self, x, weights, y, epilogue);
        }
    }
}

/// `y = epilogue(conv(x, w))`.
pub fn forward(
    kernels: &Kernels,
    g: &Conv2dGeometry,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    epilogue: Epilogue<'_>,
) {
    let weights = Weights { w, is_transposed: false };
    Task::forward(kernels, g).run(x, weights, Shared(y.as_mut_ptr()), epilogue);
}

/// `dx = epilogue(the gradient of sum(conv(x, w) * dy) in x)`.
pub fn input_gradient(
    kernels: &Kernels,
    g: &Conv2dGeometry,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
    epilogue: Epilogue<'_>,
) {
    let (weights, dx) = (Weights { w, is_transposed: true }, Shared(dx.as_mut_ptr()));
    for row in 0..g.stride() {
        for column in 0..g.stride() {
            Task::input_gradient(kernels, g, [row, column]).run(dy, weights, dx, epilogue);
        }
    }
}

/// Few weights: all are transformed first, and a job takes some tiles all the way.
fn run_by_tiles(task: &Task<'_>, x: &[f32], w: Weights<'_>, y: Shared, epilogue: Epilogue<'_>) {
    let (products, width) = (task.products(), task.kernels.columns);
    let (depth, outputs) = (task.depth(), task.outputs());
    let panels = outputs.div_ceil(width);
    let (panel, u_matrix) = (depth * width, panels * depth * width + SKEW);
    let mut u = Buffer::empty(products * u_matrix);
    let to_u = Shared(u.as_mut_ptr());
    (0..panels).into_par_iter().for_each(|at| {
        // SAFETY: each panel has elements of its own.
        task.transform_weights(w, at, unsafe { to_u.add(at * panel) }, u_matrix);
    });
    let count = task.tiles();
    let rows = task.kernels.rows;
    let most = (SCRATCH / (products * (depth + outputs)) / rows * rows).max(rows);
    let jobs = count.div_ceil(most).max(JOBS.min(count / 4)).max(1);
    let zeros = Buffer::zeros(task.channels());
    (0..jobs).into_par_iter().for_each(|job| {
        let tiles = job * count / jobs..(job + 1) * count / jobs;
        let (v_matrix, m_matrix) = (tiles.len() * depth + SKEW, tiles.len() * outputs + SKEW);
        let mut v = Buffer::empty(products * v_matrix);
        let mut m = Buffer::empty(products * m_matrix);
        task.transform_input(x, &zeros, tiles.clone(), v.as_mut_ptr(), v_matrix);
        for product in 0..products {
            for at in 0..panels {
                let columns = task.columns_of(at);
                let u = (u[at * panel..].as_ptr(), u_matrix);
                let m = (m[columns.start..].as_mut_ptr(), m_matrix, outputs);
                task.multiply((v.as_ptr(), v_matrix), u, m, product, tiles.len(), columns.len());
            }
        }
        task.transform_output((m.as_ptr(), m_matrix, outputs), tiles, 0..outputs, y, epilogue);
    });
}

/// Many weights: all inputs are transformed first, and a job takes one panel of output channels all the way, so that its
/// transformed weights stay in the cache.
fn run_by_panels(task: &Task<'_>, x: &[f32], w: Weights<'_>, y: Shared, epilogue: Epilogue<'_>) {
    let (products, width) = (task.products(), task.kernels.columns);
    let (depth, outputs) = (task.depth(), task.outputs());
    let count = task.tiles();
    let v_matrix = count * depth + SKEW;
    let mut v = Buffer::empty(products * v_matrix);
    let to_v = Shared(v.as_mut_ptr());
    let zeros = Buffer::zeros(task.channels());
    (0..count.div_ceil(8)).into_par_iter().for_each(|at| {
        let tiles = at * 8..(at * 8 + 8).min(count);
        // SAFETY: each tile has rows of its own.
        let v = unsafe { to_v.add(tiles.start * depth) };
        task.transform_input(x, &zeros, tiles, v, v_matrix);
    });
    let rows = (SCRATCH / 4 / (products * width)).max(task.kernels.rows);
    (0..outputs.div_ceil(width)).into_par_iter().for_each(|panel| {
        let columns = task.columns_of(panel);
        let (u_matrix, m_matrix) = (depth * width + SKEW, rows * width + SKEW);
        let mut u = Buffer::empty(products * u_matrix);
        let mut m = Buffer::empty(products * m_matrix);
        task.transform_weights(w, panel, u.as_mut_ptr(), u_matrix);
        for first in (0..count).step_by(rows) {
            let tiles = first..(first + rows).min(count);
            let v = v[first * depth..].as_ptr();
            for product in 0..products {
                let m = (m.as_mut_ptr(), m_matrix, width);
                task.multiply((v, v_matrix), (u.as_ptr(), u_matrix), m, product, tiles.len(), columns.len());
            }
            task.transform_output((m.as_ptr(), m_matrix, width), tiles, columns.clone(), y, epilogue);
        }
    });
}

/// `dw` = the gradient of `sum(conv(x, w) * dy)` in w.
pub fn weight_gradient(kernels: &Kernels, g: &Conv2dGeometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let task = Task::forward(kernels, g);
    let (products, count) = (task.products(), task.tiles());
    let (depth, outputs) = (task.depth(), task.outputs());
    let round = (ROUND / (products * (depth + outputs))).clamp(16, count.max(16)).min(count);
    let (v_matrix, d_matrix) = (round * depth + SKEW, round * outputs + SKEW);
    let u_matrix = outputs * depth + SKEW;
    let mut v = Buffer::empty(products * v_matrix);
    let mut d = Buffer::empty(products * d_matrix);
    let mut u = Buffer::empty(products * u_matrix);
    let zeros = Buffer::zeros(task.channels().max(outputs));
    let blocks = outputs.div_ceil(kernels.rows);
    for start in (0..count).step_by(round) {
        let tiles = start..(start + round).min(count);
        let (to_v, to_d) = (Shared(v.as_mut_ptr()), Shared(d.as_mut_ptr()));
        (0..tiles.len().div_ceil(8)).into_par_iter().for_each(|at| {
            let some = tiles.start + at * 8..(tiles.start + at * 8 + 8).min(tiles.end);
            // SAFETY: each tile has rows of its own in v and d; its pixels are in dy, or zeros.
            unsafe {
                task.transform_input(x, &zeros, some.clone(), to_v.add(at * 8 * depth), v_matrix);
                for tile in some {
                    let pixels: [[_; OUTPUTS]; OUTPUTS] = task.output(tile, |at| match at {
                        Some(at) => dy[at..].as_ptr(),
                        None => zeros.as_ptr(),
                    });
                    let d = to_d.add((tile - tiles.start) * outputs);
                    let pixels = pixels.as_flattened().as_ptr();
                    (kernels.transform_gradient)(&task.points, pixels, outputs, d, d_matrix);
                }
            }
        });
        let pairs: Vec<[*const f32; 2]> =
            (0..tiles.len()).map(|at| [d[at * outputs..].as_ptr(), v[at * depth..].as_ptr()]).collect();
        let pairs = Pairs(&pairs);
        u.par_chunks_mut(u_matrix).enumerate().for_each(|(product, u)| {
            let pairs = pairs.all();
            for first in (0..depth).step_by(kernels.columns) {
                for block in 0..blocks {
                    let rows = block * outputs / blocks..(block + 1) * outputs / blocks;
                    let outer = OuterProductTile {
                        rows: rows.len(),
                        columns: (depth - first).min(kernels.columns),
                        pixels: pairs.len(),
                        pairs: pairs.as_ptr(),
                        a_offset: product * d_matrix + rows.start,
                        b_offset: product * v_matrix + first,
                        y: u[rows.start * depth + first..].as_mut_ptr(),
                        y_stride: depth,
                        accumulate: start > 0,
                    };
                    // SAFETY: pairs point at rows of d and v, which hold this product of every tile of the round.
                    unsafe { (kernels.outer_product_tile)(&outer) }
                }
            }
        });
    }
    let channels = task.channels();
    dw.par_chunks_mut(task.taps * channels).enumerate().for_each(|(output, dw)| {
        for (at, (_, taps)) in task.inputs.iter().enumerate() {
            let u = u[output * depth + at * channels..].as_ptr();
            let steps = [taps.row, taps.column].map(|step| step.unsigned_abs() * channels);
            let dw = dw[taps.first * channels..].as_mut_ptr();
            // SAFETY: u holds this output channel's row of every product; dw is the whole of its weights, with these taps.
            unsafe { (kernels.transform_filter_gradient)(&task.points, u, u_matrix, channels, dw, steps) }
        }
    });
}

impl Pairs<'_> {
    fn all(&self) -> &[[*const f32; 2]] {
        self.0
    }
}

/// A table of pointers that jobs read.
#[derive(Clone, Copy)]
struct Pairs<'a>(&'a [[*const f32; 2]]);
// SAFETY: the pointers are to data that is only read while the table is in use.
unsafe impl Send for Pairs<'_> {}
// SAFETY: as above.
unsafe impl Sync for Pairs<'_> {}
