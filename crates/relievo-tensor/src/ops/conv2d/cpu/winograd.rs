//! Stride-1 convolutions of 3x3 and 5x5 by Winograd's method: tiles of 4x4 outputs, 36 products instead of 144 and 64
//! instead of 400 for each pair of channels; the transforms around the products are in `transforms.rs`.
//!
//! Forward (and the input gradient, the same with weights rotated by 180 degrees): the weights are transformed once; then
//! each job takes some tiles all the way (input transform, n*n matrix products, output transform) through scratch that
//! stays in the second-level cache. Weight gradient: in rounds of tiles, first all transforms, then the products, each added
//! to its own part of the transformed gradient; so no sum depends on how the work is split.

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

/// The tiles of an output.
struct Tiles {
    rows: usize,
    columns: usize,
}

impl Tiles {
    fn for_geometry(g: &Conv2dGeometry) -> Self {
        Tiles { rows: g.out_h().div_ceil(OUTPUTS), columns: g.out_w().div_ceil(OUTPUTS) }
    }

    fn count(&self, g: &Conv2dGeometry) -> usize {
        g.batch() * self.rows * self.columns
    }

    /// The image, and the first row and column of outputs, of a tile.
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (image, at) = (tile / (self.rows * self.columns), tile % (self.rows * self.columns));
        (image, at / self.columns * OUTPUTS, at % self.columns * OUTPUTS)
    }

    /// Pointers to the n*n input pixels of a tile, `zeros` for those outside.
    fn input(&self, g: &Conv2dGeometry, n: usize, tile: usize, x: &[f32], zeros: &[f32]) -> [*const f32; 64] {
        let (image, row, column) = self.place(tile);
        let mut pixels = [zeros.as_ptr(); 64];
        for i in 0..n {
            let Some(y) = g.source(row, i, g.in_h()) else { continue };
            for j in 0..n {
                let Some(x_at) = g.source(column, j, g.in_w()) else { continue };
                pixels[i * n + j] = x[((image * g.in_h() + y) * g.in_w() + x_at) * g.in_c()..].as_ptr();
            }
        }
        pixels
    }

    /// The first element of each output pixel of a tile; `None` where it hangs over the image.
    fn output(&self, g: &Conv2dGeometry, tile: usize) -> [Option<usize>; 16] {
        let (image, row, column) = self.place(tile);
        std::array::from_fn(|at| {
            let (y, x) = (row + at / OUTPUTS, column + at % OUTPUTS);
            (y < g.out_h() && x < g.out_w()).then_some(((image * g.out_h() + y) * g.out_w() + x) * g.out_c())
        })
    }
}

/// Whether Winograd's method pays for this convolution (for an input gradient: its flipped geometry): a square kernel of 3
/// or 5, stride 1, and enough tiles to make up for transforming the weights.
pub fn suits(g: &Conv2dGeometry) -> bool {
    let Some(points) =
        Points::for_taps(g.kernel_h()).filter(|_| g.kernel_h() == g.kernel_w() && g.stride() == 1)
    else {
        return false;
    };
    let few = if points.n * points.n * g.in_c() * g.out_c() > MANY_WEIGHTS { 32 } else { 16 };
    g.in_c().min(g.out_c()) > 8 && Tiles::for_geometry(g).count(g) >= few
}

/// A convolution in progress.
struct Task<'a> {
    kernels: &'a Kernels,
    points: Points,
    g: &'a Conv2dGeometry,
    tiles: Tiles,
}

impl<'a> Task<'a> {
    fn new(kernels: &'a Kernels, g: &'a Conv2dGeometry) -> Self {
        let Some(points) = Points::for_taps(g.kernel_h()) else { unreachable!("asked for only if it suits") };
        Task { kernels, points, g, tiles: Tiles::for_geometry(g) }
    }

    /// Products for each pair of channels and each tile.
    fn products(&self) -> usize {
        self.points.n * self.points.n
    }

    /// The columns of a panel of output channels.
    fn columns(&self, panel: usize) -> Range<usize> {
        let width = self.kernels.columns;
        panel * width..(panel * width + width).min(self.g.out_c())
    }

    /// Transforms the weights of one panel of output channels: `[product][in_c][width]`, `matrix` elements from
    /// product to product. With `rotated_180`, w is that of the convolution whose input gradient this is.
    fn transform_weights(&self, (w, rotated_180): (&[f32], bool), panel: usize, u: *mut f32, matrix: usize) {
        let Task { kernels, points, g, .. } = self;
        let (columns, width) = (self.columns(panel), kernels.columns);
        // From the weight of one tap to that of the next, and from one input channel to the next.
        let (packed, tap, channel);
        let from: &[f32] = if rotated_180 {
            // Output channels are neighbours already.
            (tap, channel) = (g.out_c(), g.taps() * g.out_c());
            &w[columns.start..]
        } else {
            let depth = g.taps() * g.in_c();
            let mut panel = Buffer::empty(depth * width);
            pack_panel(&w[columns.start * depth..columns.end * depth], depth, width, &mut panel);
            packed = panel;
            (tap, channel) = (g.in_c() * width, width);
            &packed
        };
        for c in 0..g.in_c() {
            for first in (0..columns.len()).step_by(kernels.lanes) {
                let lanes = (columns.len() - first).min(kernels.lanes);
                let from = &from[c * channel + first..];
                debug_assert!(from.len() >= (g.taps() - 1) * tap + lanes);
                // SAFETY: the last tap of these lanes is still in `from`; u has a row of `width` for each channel.
                unsafe {
                    let u = u.add(c * width + first);
                    (kernels.transform_filter)(points, from.as_ptr(), tap, lanes, rotated_180, u, matrix);
                }
            }
        }
    }

    /// Transforms the inputs of some tiles: `[product][tile][in_c]`, `matrix` elements from product to product.
    fn transform_input(&self, x: &[f32], zeros: &[f32], tiles: Range<usize>, v: *mut f32, matrix: usize) {
        for (at, tile) in tiles.enumerate() {
            let pixels = self.tiles.input(self.g, self.points.n, tile, x, zeros);
            // SAFETY: each pointer is to a pixel of x or to zeros; the tile has its own rows of v.
            unsafe {
                (self.kernels.transform_input)(
                    &self.points,
                    pixels.as_ptr(),
                    self.g.in_c(),
                    v.add(at * self.g.in_c()),
                    matrix,
                );
            }
        }
    }

    /// Multiplies the tiles `rows` of v (all of `[product][..][in_c]`, `v_matrix` elements from product to product)
    /// with one panel of weights into m (`[product][row][stride]`, from column `first`).
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
                    a[i] = v.add(row * self.g.in_c());
                    y[i] = m.add(row * stride);
                }
            }
            let extents = [columns, self.g.in_c(), self.kernels.columns];
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
            let pixels = self.tiles.output(self.g, tile).map(|at| match at {
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
                    pixels.as_ptr(),
                );
            }
        }
    }
}

/// `y = epilogue(conv(x, w))`; with `rotated_180`, `w` is that of the convolution whose input gradient this is.
pub fn forward(
    kernels: &Kernels,
    g: &Conv2dGeometry,
    x: &[f32],
    (w, rotated_180): (&[f32], bool),
    y: &mut [f32],
    epilogue: Epilogue<'_>,
) {
    let task = Task::new(kernels, g);
    let y = Shared(y.as_mut_ptr());
    if task.products() * g.in_c() * g.out_c() > MANY_WEIGHTS {
        forward_by_panels(&task, x, (w, rotated_180), y, epilogue);
    } else {
        forward_by_tiles(&task, x, (w, rotated_180), y, epilogue);
    }
}

/// Few weights: all are transformed first, and a job takes some tiles all the way.
fn forward_by_tiles(task: &Task<'_>, x: &[f32], w: (&[f32], bool), y: Shared, epilogue: Epilogue<'_>) {
    let (g, products, width) = (task.g, task.products(), task.kernels.columns);
    let panels = g.out_c().div_ceil(width);
    let (panel, u_matrix) = (g.in_c() * width, panels * g.in_c() * width + SKEW);
    let mut u = Buffer::empty(products * u_matrix);
    let to_u = Shared(u.as_mut_ptr());
    (0..panels).into_par_iter().for_each(|at| {
        // SAFETY: each panel has elements of its own.
        task.transform_weights(w, at, unsafe { to_u.add(at * panel) }, u_matrix);
    });
    let count = task.tiles.count(g);
    let rows = task.kernels.rows;
    let most = (SCRATCH / (products * (g.in_c() + g.out_c())) / rows * rows).max(rows);
    let jobs = count.div_ceil(most).max(JOBS.min(count / 4)).max(1);
    let zeros = Buffer::zeros(g.in_c());
    (0..jobs).into_par_iter().for_each(|job| {
        let tiles = job * count / jobs..(job + 1) * count / jobs;
        let (v_matrix, m_matrix) = (tiles.len() * g.in_c() + SKEW, tiles.len() * g.out_c() + SKEW);
        let mut v = Buffer::empty(products * v_matrix);
        let mut m = Buffer::empty(products * m_matrix);
        task.transform_input(x, &zeros, tiles.clone(), v.as_mut_ptr(), v_matrix);
        for product in 0..products {
            for at in 0..panels {
                let columns = task.columns(at);
                let u = (u[at * panel..].as_ptr(), u_matrix);
                let m = (m[columns.start..].as_mut_ptr(), m_matrix, g.out_c());
                task.multiply((v.as_ptr(), v_matrix), u, m, product, tiles.len(), columns.len());
            }
        }
        task.transform_output((m.as_ptr(), m_matrix, g.out_c()), tiles, 0..g.out_c(), y, epilogue);
    });
}

/// Many weights: all inputs are transformed first, and a job takes one panel of output channels all the way, so that its
/// transformed weights stay in the cache.
fn forward_by_panels(task: &Task<'_>, x: &[f32], w: (&[f32], bool), y: Shared, epilogue: Epilogue<'_>) {
    let (g, products, width) = (task.g, task.products(), task.kernels.columns);
    let count = task.tiles.count(g);
    let v_matrix = count * g.in_c() + SKEW;
    let mut v = Buffer::empty(products * v_matrix);
    let to_v = Shared(v.as_mut_ptr());
    let zeros = Buffer::zeros(g.in_c());
    (0..count.div_ceil(8)).into_par_iter().for_each(|at| {
        let tiles = at * 8..(at * 8 + 8).min(count);
        // SAFETY: each tile has rows of its own.
        let v = unsafe { to_v.add(tiles.start * g.in_c()) };
        task.transform_input(x, &zeros, tiles, v, v_matrix);
    });
    let rows = (SCRATCH / 4 / (products * width)).max(task.kernels.rows);
    (0..g.out_c().div_ceil(width)).into_par_iter().for_each(|panel| {
        let columns = task.columns(panel);
        let (u_matrix, m_matrix) = (g.in_c() * width + SKEW, rows * width + SKEW);
        let mut u = Buffer::empty(products * u_matrix);
        let mut m = Buffer::empty(products * m_matrix);
        task.transform_weights(w, panel, u.as_mut_ptr(), u_matrix);
        for first in (0..count).step_by(rows) {
            let tiles = first..(first + rows).min(count);
            let v = v[first * g.in_c()..].as_ptr();
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
    let task = Task::new(kernels, g);
    let (products, count) = (task.products(), task.tiles.count(g));
    let round = (ROUND / (products * (g.in_c() + g.out_c()))).clamp(16, count.max(16)).min(count);
    let (v_matrix, d_matrix) = (round * g.in_c() + SKEW, round * g.out_c() + SKEW);
    let u_matrix = g.out_c() * g.in_c() + SKEW;
    let mut v = Buffer::empty(products * v_matrix);
    let mut d = Buffer::empty(products * d_matrix);
    let mut u = Buffer::empty(products * u_matrix);
    let zeros = Buffer::zeros(g.in_c().max(g.out_c()));
    let blocks = g.out_c().div_ceil(kernels.rows);
    for start in (0..count).step_by(round) {
        let tiles = start..(start + round).min(count);
        let (to_v, to_d) = (Shared(v.as_mut_ptr()), Shared(d.as_mut_ptr()));
        (0..tiles.len().div_ceil(8)).into_par_iter().for_each(|at| {
            let some = tiles.start + at * 8..(tiles.start + at * 8 + 8).min(tiles.end);
            // SAFETY: each tile has rows of its own in v and d; its pixels are in dy, or zeros.
            unsafe {
                task.transform_input(x, &zeros, some.clone(), to_v.add(at * 8 * g.in_c()), v_matrix);
                for tile in some {
                    let pixels = task
                        .tiles
                        .output(g, tile)
                        .map(|at| at.map_or(zeros.as_ptr(), |at| dy[at..].as_ptr()));
                    let d = to_d.add((tile - tiles.start) * g.out_c());
                    (kernels.transform_gradient)(&task.points, pixels.as_ptr(), g.out_c(), d, d_matrix);
                }
            }
        });
        let pairs: Vec<[*const f32; 2]> =
            (0..tiles.len()).map(|at| [d[at * g.out_c()..].as_ptr(), v[at * g.in_c()..].as_ptr()]).collect();
        let pairs = Pairs(&pairs);
        u.par_chunks_mut(u_matrix).enumerate().for_each(|(product, u)| {
            let pairs = pairs.all();
            for first in (0..g.in_c()).step_by(kernels.columns) {
                for block in 0..blocks {
                    let rows = block * g.out_c() / blocks..(block + 1) * g.out_c() / blocks;
                    let outer = OuterProductTile {
                        rows: rows.len(),
                        columns: (g.in_c() - first).min(kernels.columns),
                        pixels: pairs.len(),
                        pairs: pairs.as_ptr(),
                        a_offset: product * d_matrix + rows.start,
                        b_offset: product * v_matrix + first,
                        y: u[rows.start * g.in_c() + first..].as_mut_ptr(),
                        y_stride: g.in_c(),
                        accumulate: start > 0,
                    };
                    // SAFETY: pairs point at rows of d and v, which hold this product of every tile of the round.
                    unsafe { (kernels.outer_product_tile)(&outer) }
                }
            }
        });
    }
    dw.par_chunks_mut(g.taps() * g.in_c()).enumerate().for_each(|(output, dw)| {
        let u = u[output * g.in_c()..].as_ptr();
        // SAFETY: u holds this output channel's row of every product; dw is the whole of its weights.
        unsafe { (kernels.transform_filter_gradient)(&task.points, u, u_matrix, g.in_c(), dw.as_mut_ptr()) }
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
