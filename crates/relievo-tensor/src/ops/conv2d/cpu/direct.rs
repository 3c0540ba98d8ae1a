//! Forward and input gradient as implicit matrix products: rows are output pixels, columns output channels, and the
//! depth runs over taps and input channels. The input is read in place, through a table of row pointers (a row of zeros
//! stands for the padding); the table is built once for a range of pixels and used for all columns.
//!
//! The input gradient of a stride-s convolution falls into s*s phases, each a stride-1 correlation of dy with the
//! taps that reach that phase.

use rayon::prelude::*;

use super::kernels::{DotTile, GemmTile, Kernels, RawEpilogue};
use crate::Buffer;
use crate::ops::conv2d::{Conv2dGeometry, Epilogue};

/// Up to this many channels, a single tap is too short a run: each row of the kernel is read as one run from a padded copy
/// of the input.
pub const FEW_CHANNELS: usize = 8;
/// Up to this many output channels, vectors along them would be mostly empty: dot products instead.
const FEW_OUTPUTS: usize = 8;
/// Up to this many pixels, packing the weights for the input gradient costs more than it saves.
const FEW_PIXELS: usize = 32;
/// Up to this many pixels, forward reads the weights in place, by dot products.
const VERY_FEW_PIXELS: usize = 8;
/// Rows of output in a job of [`forward_by_contributions`].
const BAND: usize = 16;
/// Products in a job that is worth handing to another thread.
const JOB_PRODUCTS: usize = 1 << 18;
/// Jobs aimed at, whatever the number of threads.
const JOBS: usize = 32;

/// A pointer that jobs share; they write disjoint elements.
#[derive(Clone, Copy)]
pub struct Shared(pub *mut f32);

impl Shared {
    /// The pointer to element `at`.
    ///
    /// # Safety
    /// The element must be one of those shared, or the one after the last.
    pub unsafe fn add(self, at: usize) -> *mut f32 {
        // SAFETY: the caller's.
        unsafe { self.0.add(at) }
    }
}

// SAFETY: whoever makes one sees to it that jobs write disjoint elements.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// A tap of a correlation: the place it reads, relative to `step` times the output's, and the start of its weights.
struct Tap {
    row: isize,
    column: isize,
    weight: usize,
}

/// The correlation of an image with some taps, for a grid of output pixels.
struct Correlation<'a> {
    source: &'a [f32],
    batch: usize,
    source_h: usize,
    source_w: usize,
    /// Elements from one pixel of the source to the next.
    source_c: usize,
    /// Elements each tap reads.
    depth: usize,
    taps: Vec<Tap>,
    /// Source pixels between neighbours of the grid.
    step: usize,
    rows: usize,
    columns: usize,
    /// Elements between grid neighbours in the output: image, row, column; and the first element.
    out_strides: [usize; 3],
    out_start: usize,
}

/// The layout of a correlation's weights.
#[derive(Clone, Copy)]
enum Weights<'a> {
    /// Depth-major: `b[weight of the tap + c*stride + channel]`, in place or in packed panels.
    ByDepth { b: &'a [f32], stride: usize, panel: Option<usize> },
    /// Channel-major: `b[channel*stride + weight of the tap + c]`, for dot products.
    ByChannel { b: &'a [f32], stride: usize },
}

/// The table of a range of pixels.
#[derive(Default)]
struct Table {
    blocks: Vec<Block>,
    a: Vec<*const f32>,
    b: Vec<*const f32>,
    y: Vec<*mut f32>,
}

/// A register tile's worth of pixels.
struct Block {
    rows: usize,
    taps: usize,
    a: usize,
    b: usize,
    y: usize,
}

impl Correlation<'_> {
    fn pixels(&self) -> usize {
        self.batch * self.rows * self.columns
    }

    /// Adds the block of pixels `from..to` to the table. Taps that lie in the padding for all of them are left out.
    fn add_block(
        &self,
        table: &mut Table,
        (from, to): (usize, usize),
        batch_first: bool,
        w: &[f32],
        zeros: &[f32],
        y: Shared,
    ) {
        let mut block =
            Block { rows: to - from, taps: 0, a: table.a.len(), b: table.b.len(), y: table.y.len() };
        let mut places = [(0, 0, 0); 16];
        for (place, pixel) in places.iter_mut().zip(from..to) {
            let grid = self.rows * self.columns;
            let (image, at) = if batch_first {
                (pixel % self.batch, pixel / self.batch)
            } else {
                (pixel / grid, pixel % grid)
            };
            let (row, column) = (at / self.columns, at % self.columns);
            *place = (image * self.source_h, (row * self.step) as isize, (column * self.step) as isize);
            let out = image * self.out_strides[0] + row * self.out_strides[1] + column * self.out_strides[2];
            // SAFETY: the strides and extents of the output keep every pixel of the grid inside y.
            table.y.push(unsafe { y.add(self.out_start + out) });
        }
        for tap in &self.taps {
            let start = table.a.len();
            let mut any = false;
            for &(image, row, column) in &places[..block.rows] {
                let (row, column) = (row + tap.row, column + tap.column);
                let inside = row >= 0
                    && column >= 0
                    && (row as usize) < self.source_h
                    && (column as usize) < self.source_w;
                any |= inside;
                table.a.push(if inside {
                    self.source[((image + row as usize) * self.source_w + column as usize) * self.source_c..]
                        .as_ptr()
                } else {
                    zeros.as_ptr()
                });
            }
            if any {
                table.b.push(w[tap.weight..].as_ptr());
                block.taps += 1;
            } else {
                table.a.truncate(start);
            }
        }
        table.blocks.push(block);
    }

    /// The pixels of each block: runs of at most `most` that differ by one at most.
    fn blocks(&self, most: usize, batch_first: bool) -> Vec<(usize, usize)> {
        let run = if batch_first { self.batch } else { self.pixels() };
        let pieces = run.div_ceil(most);
        (0..self.pixels() / run * pieces)
            .map(|i| {
                let (start, piece) = (i / pieces * run, i % pieces);
                (start + piece * run / pieces, start + (piece + 1) * run / pieces)
            })
            .collect()
    }
}

/// Runs correlations that share source, weights and output channels, and write disjoint pixels of `y`.
fn correlate(
    kernels: &Kernels,
    correlations: &[Correlation<'_>],
    weights: Weights<'_>,
    channels: usize,
    y: &mut [f32],
    epilogue: Epilogue<'_>,
) {
    let depth = correlations.iter().map(|c| c.depth).max().unwrap_or(0);
    let zeros = Buffer::zeros(depth);
    let (most_rows, width) = match weights {
        Weights::ByDepth { .. } => (kernels.rows, kernels.columns),
        Weights::ByChannel { .. } => (kernels.dot, kernels.dot),
    };
    let panels = channels.div_ceil(width);
    let y_start = Shared(y.as_mut_ptr());

    // Images that are small beside the padding: blocks of the same pixel of several images, so that taps in the
    // padding can be left out.
    let plans: Vec<_> = correlations
        .iter()
        .map(|c| {
            let batch_first = c.rows * c.columns <= 64 && c.batch >= 4;
            (c, batch_first, c.blocks(most_rows, batch_first))
        })
        .collect();
    let products: usize = correlations.iter().map(|c| c.pixels() * c.taps.len() * c.depth * channels).sum();
    let jobs = (products / JOB_PRODUCTS).clamp(1, JOBS);
    // Many weights and few pixels: split the columns, so that each weight is read by one job only. Else the pixels.
    let total_blocks: usize = plans.iter().map(|(.., blocks)| blocks.len()).sum();
    let column_jobs = if total_blocks >= 4 * jobs { 1 } else { jobs.min(panels) };
    let block_jobs = jobs.div_ceil(column_jobs);
    let per_job = total_blocks.div_ceil(block_jobs).max(1);
    let work: Vec<_> = plans
        .iter()
        .flat_map(|(c, batch_first, blocks)| {
            blocks.chunks(per_job).map(move |chunk| (*c, *batch_first, chunk))
        })
        .flat_map(|(c, batch_first, chunk)| {
            (0..column_jobs).map(move |i| {
                (c, batch_first, chunk, i * panels / column_jobs..(i + 1) * panels / column_jobs)
            })
        })
        .collect();

    work.into_par_iter().for_each(|(c, batch_first, chunk, panels)| {
        let mut table = Table::default();
        let (b, stride) = match weights {
            Weights::ByDepth { b, stride, .. } | Weights::ByChannel { b, stride } => (b, stride),
        };
        for &block in chunk {
            c.add_block(&mut table, block, batch_first, b, &zeros, y_start);
        }
        for panel in panels {
            let first = panel * width;
            let columns = (channels - first).min(width);
            let raw_epilogue = RawEpilogue::new(epilogue, first);
            for block in &table.blocks {
                let (a, b, y) = (&table.a[block.a..], &table.b[block.b..], &table.y[block.y..]);
                match weights {
                    Weights::ByDepth { panel: size, .. } => {
                        let tile = GemmTile {
                            rows: block.rows,
                            columns,
                            taps: block.taps,
                            depth: c.depth,
                            a: a.as_ptr(),
                            a_offset: 0,
                            b: b.as_ptr(),
                            b_offset: size.map_or(first, |size| panel * size),
                            b_stride: stride,
                            y: y.as_ptr(),
                            y_offset: first,
                            raw_epilogue,
                        };
                        // SAFETY: the table points at pixels of the source or at zeros, all `depth` long; weights and
                        // output rows hold `columns` from `first`; other jobs write other pixels or columns.
                        unsafe { (kernels.gemm_tile)(&tile) }
                    }
                    Weights::ByChannel { .. } => {
                        let dots = DotTile {
                            rows: block.rows,
                            columns,
                            taps: block.taps,
                            depth: c.depth,
                            a: a.as_ptr(),
                            b: b.as_ptr(),
                            b_offset: first * stride,
                            b_stride: stride,
                            y: y.as_ptr(),
                            y_offset: first,
                            raw_epilogue,
                        };
                        // SAFETY: as above.
                        unsafe { (kernels.dot_tile)(&dots) }
                    }
                }
            }
        }
    });
}

/// A copy of x with its padding around it.
pub fn padded(x: &[f32], [batch, h, w, c]: [usize; 4], padding: usize) -> Buffer {
    let (rows, row) = (h + 2 * padding, (w + 2 * padding) * c);
    let mut copy = Buffer::empty(batch * rows * row);
    copy.par_chunks_mut(row).enumerate().for_each(|(line, to)| {
        match (line % rows).checked_sub(padding).filter(|&y| y < h) {
            None => to.fill(0.0),
            Some(y) => {
                let from = (line / rows * h + y) * w * c;
                let (left, rest) = to.split_at_mut(padding * c);
                let (middle, right) = rest.split_at_mut(w * c);
                left.fill(0.0);
                middle.copy_from_slice(&x[from..from + w * c]);
                right.fill(0.0);
            }
        }
    });
    copy
}

/// The weights `w[channel][k]` as panels `[channels / width][k][width]`.
fn pack_by_channel(w: &[f32], channels: usize, depth: usize, width: usize) -> Buffer {
    let mut packed = Buffer::empty(channels.div_ceil(width) * depth * width);
    packed.par_chunks_mut(depth * width).enumerate().for_each(|(panel, to)| {
        let columns = (channels - panel * width).min(width);
        pack_panel(&w[panel * width * depth..][..columns * depth], depth, width, to);
    });
    packed
}

/// The rows of `w[channel][depth]`, at most `width`, as the columns of `to[depth][width]`.
pub fn pack_panel(w: &[f32], depth: usize, width: usize, to: &mut [f32]) {
    // Sixteen depths at a time: the cache lines they span are used up before they are evicted.
    for start in (0..depth).step_by(16) {
        let end = (start + 16).min(depth);
        for (j, row) in w.chunks_exact(depth).enumerate() {
            for (k, w) in row[start..end].iter().enumerate() {
                to[(start + k) * width + j] = *w;
            }
        }
    }
}

/// The weights `w[k][channel]` as panels `[channels / width][k][width]`, where k counts (depth, tap) and the panels
/// (tap, depth).
fn pack_by_depth(w: &[f32], channels: usize, taps: usize, depth: usize, width: usize) -> Buffer {
    let mut packed = Buffer::empty(channels.div_ceil(width) * taps * depth * width);
    packed.par_chunks_mut(taps * depth * width).enumerate().for_each(|(panel, to)| {
        let first = panel * width;
        let columns = (channels - first).min(width);
        for (k, to) in to.chunks_exact_mut(width).enumerate() {
            let from = (k % depth * taps + k / depth) * channels + first;
            to[..columns].copy_from_slice(&w[from..from + columns]);
        }
    });
    packed
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
    if g.stride() == 1 && g.taps() > 1 && g.out_c() <= FEW_OUTPUTS && g.in_c() >= 2 * kernels.lanes {
        return forward_by_contributions(kernels, g, x, w, y, epilogue);
    }
    let k = g.taps() * g.in_c();
    let copy;
    let out_strides = [g.out_h() * g.out_w() * g.out_c(), g.out_w() * g.out_c(), g.out_c()];
    let mut correlation = Correlation {
        source: x,
        batch: g.batch(),
        source_h: g.in_h(),
        source_w: g.in_w(),
        source_c: g.in_c(),
        depth: g.in_c(),
        taps: Vec::new(),
        step: g.stride(),
        rows: g.out_h(),
        columns: g.out_w(),
        out_strides,
        out_start: 0,
    };
    let (mut tap_w, mut padding) = (g.kernel_w(), g.padding() as isize);
    if g.in_c() <= FEW_CHANNELS && g.kernel_w() > 1 {
        copy = padded(x, g.x_shape(), g.padding());
        correlation.source = &copy;
        correlation.source_h += 2 * g.padding();
        correlation.source_w += 2 * g.padding();
        correlation.depth *= g.kernel_w();
        (tap_w, padding) = (1, 0);
    }
    let by_dots = g.out_c() <= FEW_OUTPUTS || correlation.pixels() <= VERY_FEW_PIXELS;
    let width = kernels.columns;
    if !by_dots && 2 * correlation.pixels() < g.out_c() && correlation.depth == g.in_c() {
        return forward_by_pixels(kernels, g, x, w, y, epilogue);
    }
    for row in 0..g.kernel_h() {
        for column in 0..tap_w {
            let weight = (row * g.kernel_w() + column) * g.in_c() * if by_dots { 1 } else { width };
            correlation.taps.push(Tap {
                row: row as isize - padding,
                column: column as isize - padding,
                weight,
            });
        }
    }
    if by_dots {
        let weights = Weights::ByChannel { b: w, stride: k };
        return correlate(kernels, &[correlation], weights, g.out_c(), y, epilogue);
    }
    let packed = pack_by_channel(w, g.out_c(), k, width);
    let weights = Weights::ByDepth { b: &packed, stride: width, panel: Some(k * width) };
    correlate(kernels, &[correlation], weights, g.out_c(), y, epilogue);
}

/// A stride-1 convolution with few output channels in reverse: first the contributions of each input pixel to each tap and
/// output (a matrix product with `taps * out_c` columns), then the sum over taps of shifted contributions. The input is read
/// once instead of once for each tap. Each job computes some rows of one image, through scratch that stays in the
/// second-level cache.
fn forward_by_contributions(
    kernels: &Kernels,
    g: &Conv2dGeometry,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    epilogue: Epilogue<'_>,
) {
    let (taps, width) = (g.taps(), kernels.columns);
    let contributions = taps * g.out_c();
    // [panel][in_c][width], columns (tap, output).
    let panels = contributions.div_ceil(width);
    let mut packed = Buffer::zeros(panels * g.in_c() * width);
    for (at, w) in w.iter().enumerate() {
        let (output, tap, c) = (at / (taps * g.in_c()), at / g.in_c() % taps, at % g.in_c());
        let column = tap * g.out_c() + output;
        packed[(column / width * g.in_c() + c) * width + column % width] = *w;
    }
    let (row_in, row_out) = (g.in_w() * g.in_c(), g.out_w() * g.out_c());
    let stride = panels * width;
    y.par_chunks_mut(g.out_h() * row_out).enumerate().for_each(|(image, y)| {
        let x = &x[image * g.in_h() * row_in..][..g.in_h() * row_in];
        y.par_chunks_mut(BAND * row_out).enumerate().for_each(|(band, y)| {
            let first = (band * BAND).saturating_sub(g.padding()).min(g.in_h());
            let last = (band * BAND + y.len() / row_out - 1 + g.kernel_h() - 1).saturating_sub(g.padding());
            let (x, rows) = (&x[first * row_in..], (last + 1).min(g.in_h()).saturating_sub(first));
            let mut sums = Buffer::empty(rows * g.in_w() * stride);
            let pixels = rows * g.in_w();
            let mut a = [std::ptr::null(); 16];
            let mut to = [std::ptr::null_mut(); 16];
            let blocks = pixels.div_ceil(kernels.rows);
            for block in 0..blocks {
                let block = block * pixels / blocks..(block + 1) * pixels / blocks;
                for (i, pixel) in block.clone().enumerate() {
                    a[i] = x[pixel * g.in_c()..].as_ptr();
                    to[i] = sums[pixel * stride..].as_mut_ptr();
                }
                for panel in 0..panels {
                    let b = [packed[panel * g.in_c() * width..].as_ptr()];
                    let extents = [width, g.in_c(), width];
                    let tile = GemmTile::new(&a[..block.len()], &b, &to[..block.len()], extents);
                    let tile = GemmTile { y_offset: panel * width, ..tile };
                    // SAFETY: pixels of x with `in_c` channels, a whole panel of weights, rows of `sums`.
                    unsafe { (kernels.gemm_tile)(&tile) }
                }
            }
            match epilogue.bias {
                None => y.fill(0.0),
                Some(bias) => y.chunks_exact_mut(g.out_c()).for_each(|y| y.copy_from_slice(bias)),
            }
            for (row, y) in y.chunks_exact_mut(row_out).enumerate() {
                for tap in 0..taps {
                    let Some(from_row) = g.source(band * BAND + row, tap / g.kernel_w(), g.in_h()) else {
                        continue;
                    };
                    // The columns whose tap is not in the padding.
                    let shift = tap % g.kernel_w();
                    let columns = g.padding().saturating_sub(shift)
                        ..(g.in_w() + g.padding()).saturating_sub(shift).min(g.out_w());
                    let from = ((from_row - first) * g.in_w()) * stride + tap * g.out_c();
                    for column in columns {
                        let sums = &sums[from + (column + shift - g.padding()) * stride..][..g.out_c()];
                        for (y, sum) in y[column * g.out_c()..][..g.out_c()].iter_mut().zip(sums) {
                            *y += sum;
                        }
                    }
                }
            }
            if RawEpilogue::new(epilogue, 0).slope.is_some() {
                epilogue.activation.apply(y);
            }
        });
    });
}

/// A convolution with fewer pixels than output channels, transposed: the unrolled input is packed, with pixels along the
/// vectors, and the weights, of which there are many more, are broadcast in place and read once.
fn forward_by_pixels(
    kernels: &Kernels,
    g: &Conv2dGeometry,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    epilogue: Epilogue<'_>,
) {
    let (pixels, k, width) = (g.batch() * g.out_h() * g.out_w(), g.taps() * g.in_c(), kernels.columns);
    let panels = pixels.div_ceil(width);
    // [panel][tap][in_c][width]
    let mut packed = Buffer::empty(panels * k * width);
    packed.par_chunks_mut(g.in_c() * width).enumerate().for_each(|(at, to)| {
        let (panel, tap) = (at / g.taps(), at % g.taps());
        for (lane, pixel) in (panel * width..pixels.min(panel * width + width)).enumerate() {
            let (line, column) = (pixel / g.out_w(), pixel % g.out_w());
            let row = g.source(line % g.out_h(), tap / g.kernel_w(), g.in_h());
            let column = g.source(column, tap % g.kernel_w(), g.in_w());
            let lanes = to[lane..].iter_mut().step_by(width);
            if let (Some(row), Some(column)) = (row, column) {
                let from = ((line / g.out_h() * g.in_h() + row) * g.in_w() + column) * g.in_c();
                lanes.zip(&x[from..from + g.in_c()]).for_each(|(to, x)| *to = *x);
            } else {
                lanes.for_each(|to| *to = 0.0);
            }
        }
    });
    // [out_c][pixels]
    let mut sums = Buffer::empty(g.out_c() * pixels);
    let to = Shared(sums.as_mut_ptr());
    let blocks = g.out_c().div_ceil(kernels.rows);
    (0..blocks).into_par_iter().for_each(|block| {
        let outputs = block * g.out_c() / blocks..(block + 1) * g.out_c() / blocks;
        let mut a = [std::ptr::null(); 16];
        let mut y = [std::ptr::null_mut(); 16];
        for (i, output) in outputs.clone().enumerate() {
            a[i] = w[output * k..].as_ptr();
            // SAFETY: a row of `sums`, which no other job writes.
            y[i] = unsafe { to.add(output * pixels) };
        }
        for panel in 0..panels {
            let b = [packed[panel * k * width..].as_ptr()];
            let extents = [(pixels - panel * width).min(width), k, width];
            let tile = GemmTile::new(&a[..outputs.len()], &b, &y[..outputs.len()], extents);
            let tile = GemmTile { y_offset: panel * width, ..tile };
            // SAFETY: rows of weights of `k`, a panel of k rows, rows of `sums` of `pixels`.
            unsafe { (kernels.gemm_tile)(&tile) }
        }
    });
    let fused = RawEpilogue::new(epilogue, 0).slope.is_some();
    y.par_chunks_mut(8 * g.out_c()).enumerate().for_each(|(at, y)| {
        for (pixel, y) in y.chunks_exact_mut(g.out_c()).enumerate() {
            for (output, y) in y.iter_mut().enumerate() {
                let bias = epilogue.bias.map_or(0.0, |bias| bias[output]);
                *y = sums[output * pixels + at * 8 + pixel] + bias;
            }
        }
        if fused {
            epilogue.activation.apply(y);
        }
    });
}

/// `dx = epilogue(gradient of sum(conv(x, w) * dy) in x)`.
pub fn input_gradient(
    kernels: &Kernels,
    g: &Conv2dGeometry,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
    epilogue: Epilogue<'_>,
) {
    let few = g.in_c() <= FEW_OUTPUTS || g.out_c() <= FEW_CHANNELS;
    if let Some(flipped) = g.flipped().filter(|_| few) {
        let mut rotated_180 = Buffer::empty(w.len());
        rotate_180(g, w, &mut rotated_180);
        return forward(kernels, &flipped, dy, &rotated_180, dx, epilogue);
    }
    let (s, width) = (g.stride(), kernels.columns);
    let packed = (g.batch() * g.out_h() * g.out_w() > FEW_PIXELS)
        .then(|| pack_by_depth(w, g.in_c(), g.taps(), g.out_c(), width));
    let tap_size = if packed.is_some() { g.out_c() * width } else { g.in_c() };
    // Along one axis: the taps that reach phase `phase`, and the offset of what they read.
    let reach = |phase: usize, kernel: usize| {
        (0..kernel).filter_map(move |tap| {
            let from = (phase + g.padding()) as isize - tap as isize;
            (from.rem_euclid(s as isize) == 0).then(|| (tap, from.div_euclid(s as isize)))
        })
    };
    let phases = (0..s.min(g.in_h())).flat_map(|row| (0..s.min(g.in_w())).map(move |column| (row, column)));
    let correlations: Vec<_> = phases
        .map(|(phase_y, phase_x)| Correlation {
            source: dy,
            batch: g.batch(),
            source_h: g.out_h(),
            source_w: g.out_w(),
            source_c: g.out_c(),
            depth: g.out_c(),
            taps: reach(phase_y, g.kernel_h())
                .flat_map(|(r, row)| {
                    reach(phase_x, g.kernel_w()).map(move |(c, column)| Tap {
                        row,
                        column,
                        weight: (r * g.kernel_w() + c) * tap_size,
                    })
                })
                .collect(),
            step: 1,
            rows: (g.in_h() - phase_y).div_ceil(s),
            columns: (g.in_w() - phase_x).div_ceil(s),
            out_strides: [g.in_h() * g.in_w() * g.in_c(), s * g.in_w() * g.in_c(), s * g.in_c()],
            out_start: (phase_y * g.in_w() + phase_x) * g.in_c(),
        })
        .collect();
    let weights = match &packed {
        Some(b) => Weights::ByDepth { b, stride: width, panel: Some(g.taps() * g.out_c() * width) },
        None => Weights::ByDepth { b: w, stride: g.taps() * g.in_c(), panel: None },
    };
    correlate(kernels, &correlations, weights, g.in_c(), dx, epilogue);
}

/// Rotates the weights of `g` by 180 degrees and swaps input and output channels, for the forward convolution of dy by
/// [`Conv2dGeometry::flipped`].
pub fn rotate_180(g: &Conv2dGeometry, w: &[f32], rotated_180: &mut [f32]) {
    let taps = g.taps();
    for (at, to) in rotated_180.iter_mut().enumerate() {
        let (c, tap, o) = (at / (taps * g.out_c()), at / g.out_c() % taps, at % g.out_c());
        *to = w[(o * taps + (taps - 1 - tap)) * g.in_c() + c];
    }
}
