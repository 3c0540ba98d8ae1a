//! Forward and input gradient as implicit matrix products: rows are output pixels, columns output channels, and the
//! depth runs over taps and input channels. The input is read in place, through a table of row pointers (a row of zeros
//! stands for the padding); the table is built once for a range of pixels and used for all columns.
//!
//! The input gradient of a stride-s convolution falls into s*s phases, each a stride-1 correlation of dy with the
//! taps that reach that phase.

use std::ops::Range;

use rayon::prelude::*;

use super::kernels::{DotTile, GemmTile, Kernels, RawEpilogue};
use super::{few_outputs, few_pixels};
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

/// A register tile's worth of output channels.
#[derive(Clone, Copy)]
struct Panel {
    index: usize,
    first: usize,
    columns: usize,
    raw_epilogue: RawEpilogue,
}

impl Table {
    /// The products of a block of pixels with a panel of the weights, `depth` deep at each tap.
    ///
    /// # Safety
    /// The pointers of the table must be good for `depth` elements, those of `y` for the columns of the panel, which nobody
    /// else may write; so must the weights.
    unsafe fn multiply(
        &self,
        kernels: &Kernels,
        block: &Block,
        weights: Weights<'_>,
        depth: usize,
        panel: Panel,
    ) {
        let Panel { index, first, columns, raw_epilogue } = panel;
        let (rows, taps) = (block.rows, block.taps);
        let (a, b, y) = (self.a[block.a..].as_ptr(), self.b[block.b..].as_ptr(), self.y[block.y..].as_ptr());
        match weights {
            Weights::ByDepth { stride: b_stride, panel: size, .. } => {
                let b_offset = size.map_or(first, |size| index * size);
                let (a_offset, y_offset) = (0, first);
                // SAFETY: the caller's.
                unsafe {
                    (kernels.gemm_tile)(&GemmTile {
                        rows,
                        columns,
                        taps,
                        depth,
                        a,
                        a_offset,
                        b,
                        b_offset,
                        b_stride,
                        y,
                        y_offset,
                        raw_epilogue,
                    });
                }
            }
            Weights::ByChannel { stride: b_stride, .. } => {
                let (b_offset, y_offset) = (first * b_stride, first);
                // SAFETY: the caller's.
                unsafe {
                    (kernels.dot_tile)(&DotTile {
                        rows,
                        columns,
                        taps,
                        depth,
                        a,
                        b,
                        b_offset,
                        b_stride,
                        y,
                        y_offset,
                        raw_epilogue,
                    });
                }
            }
        }
    }
}

/// The most pixels of a block.
const MOST_ROWS: usize = 16;

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
        let grid = self.rows * self.columns;
        let mut places = [(0, 0, 0); MOST_ROWS];
        let places = &mut places[..block.rows];
        // Where the pixels lie in the source without a tap, and the rows and columns that they lie between.
        let mut starts = [0isize; MOST_ROWS];
        let starts = &mut starts[..block.rows];
        let (mut rows, mut columns) = ([isize::MAX, 0], [isize::MAX, 0]);
        for ((place, start), pixel) in places.iter_mut().zip(starts.iter_mut()).zip(from..to) {
            let (image, at) = if batch_first {
                (pixel % self.batch, pixel / self.batch)
            } else {
                (pixel / grid, pixel % grid)
            };
            let (row, column) = (at / self.columns, at % self.columns);
            let out = image * self.out_strides[0] + row * self.out_strides[1] + column * self.out_strides[2];
            // SAFETY: the strides and extents of the output keep every pixel of the grid inside y.
            table.y.push(unsafe { y.add(self.out_start + out) });
            let (row, column) = ((row * self.step) as isize, (column * self.step) as isize);
            rows = [rows[0].min(row), rows[1].max(row)];
            columns = [columns[0].min(column), columns[1].max(column)];
            let image = image * self.source_h;
            *start = ((image as isize + row) * self.source_w as isize + column) * self.source_c as isize;
            *place = (image, row, column);
        }
        for tap in &self.taps {
            let all_inside = rows[0] + tap.row >= 0
                && columns[0] + tap.column >= 0
                && rows[1] + tap.row < self.source_h as isize
                && columns[1] + tap.column < self.source_w as isize;
            if all_inside {
                let shift = (tap.row * self.source_w as isize + tap.column) * self.source_c as isize;
                // SAFETY: under this tap all pixels lie within the rows and columns of the source, of one of its images.
                table
                    .a
                    .extend(starts.iter().map(|start| unsafe { self.source.as_ptr().offset(start + shift) }));
                table.b.push(w[tap.weight..].as_ptr());
                block.taps += 1;
                continue;
            }
            let start = table.a.len();
            let mut any = false;
            for &(image, row, column) in &*places {
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

/// The share of a thread in some correlations: blocks of pixels of one of them, and panels of output channels.
struct Job<'a> {
    correlation: &'a Correlation<'a>,
    batch_first: bool,
    blocks: &'a [(usize, usize)],
    panels: Range<usize>,
}

/// A correlation and the blocks of its pixels.
struct Plan<'a> {
    correlation: &'a Correlation<'a>,
    batch_first: bool,
    blocks: Vec<(usize, usize)>,
}

impl<'a> Plan<'a> {
    /// In blocks of at most `most` pixels.
    fn new(correlation: &'a Correlation<'a>, most: usize) -> Self {
        // Images that are small beside the padding: blocks of the same pixel of several images, so that taps in the
        // padding can be left out.
        let batch_first = correlation.rows * correlation.columns <= 64 && correlation.batch >= 4;
        Plan { correlation, batch_first, blocks: correlation.blocks(most, batch_first) }
    }
}

/// Divides correlations with `channels` output channels, in `panels`, into jobs: by their extents alone, so that results
/// do not depend on the number of threads.
fn divide<'a>(plans: &'a [Plan<'a>], channels: usize, panels: usize) -> Vec<Job<'a>> {
    let product = |c: &Correlation<'_>| c.pixels() * c.taps.len() * c.depth * channels;
    let products: usize = plans.iter().map(|plan| product(plan.correlation)).sum();
    let jobs = (products / JOB_PRODUCTS).clamp(1, JOBS);
    // Many weights and few pixels: split the columns, so that each weight is read by one job only. Else the pixels.
    let total_blocks: usize = plans.iter().map(|plan| plan.blocks.len()).sum();
    let column_jobs = if total_blocks >= 4 * jobs { 1 } else { jobs.min(panels) };
    let block_jobs = jobs.div_ceil(column_jobs);
    let per_job = total_blocks.div_ceil(block_jobs).max(1);
    let chunks = plans.iter().flat_map(|plan| plan.blocks.chunks(per_job).map(move |blocks| (plan, blocks)));
    let jobs = chunks.flat_map(|(plan, blocks)| {
        (0..column_jobs).map(move |i| Job {
            correlation: plan.correlation,
            batch_first: plan.batch_first,
            blocks,
            panels: i * panels / column_jobs..(i + 1) * panels / column_jobs,
        })
    });
    jobs.collect()
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
    let (Weights::ByDepth { b, .. } | Weights::ByChannel { b, .. }) = weights;
    let y = Shared(y.as_mut_ptr());
    let plans: Vec<_> = correlations.iter().map(|c| Plan::new(c, most_rows)).collect();
    divide(&plans, channels, channels.div_ceil(width)).into_par_iter().for_each(|job| {
        let (count, taps) = (job.blocks.len(), job.correlation.taps.len());
        let mut table = Table {
            blocks: Vec::with_capacity(count),
            a: Vec::with_capacity(count * taps * most_rows),
            b: Vec::with_capacity(count * taps),
            y: Vec::with_capacity(count * most_rows),
        };
        for &block in job.blocks {
            job.correlation.add_block(&mut table, block, job.batch_first, b, &zeros, y);
        }
        for index in job.panels {
            let first = index * width;
            let columns = (channels - first).min(width);
            let panel = Panel { index, first, columns, raw_epilogue: RawEpilogue::new(epilogue, first) };
            for block in &table.blocks {
                // SAFETY: the table points at pixels of the source or at zeros, all `depth` long; weights and output rows
                // hold `columns` from `first`; other jobs write other pixels or columns.
                unsafe { table.multiply(kernels, block, weights, job.correlation.depth, panel) }
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
        return few_outputs::forward(kernels, g, x, w, y, epilogue);
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
        return few_pixels::forward(kernels, g, x, w, y, epilogue);
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
