//! A job is a rectangle of the result. It goes through the hidden channels in blocks; a block goes through the rectangle
//! row by row with a ring of three expanded rows, and adds its share to the sums of the rectangle.
//!
//! | what a job has | size | lies in |
//! |---|---|---|
//! | ring of expanded rows, filtered row | 4 rows x [`STRIP`] pixels x [`BLOCK`] channels | the first-level cache |
//! | sums, and the input under them | [`SUMS`] numbers each | the second-level cache |
//!
//! What neighbouring jobs share is expanded twice: a column on either side, a row above and below. Jobs follow from the
//! extents alone.

use std::ops::Range;

use rayon::prelude::*;

use super::InvertedResidualLayers;
use super::kernels::{Filter, KERNEL, Kernels, MOST_RUNS, Product, TAPS};
use crate::ops::conv2d::Conv2dGeometry;
use crate::ops::conv2d::cpu::Shared;
use crate::{Buffer, SimdLevel};

/// Hidden channels in a block.
const BLOCK: usize = 48;
/// The most columns in a job.
const STRIP: usize = 32;
/// The most sums of a job, unless its rows are fewer than [`FEWEST_ROWS`].
const SUMS: usize = 1 << 15;
/// Rows of a job, if there are as many.
const FEWEST_ROWS: usize = 6;
/// The most rows of a job.
const MOST_ROWS: usize = 24;

/// The weights of a block, in the order in which they are read. Channels are filled up to whole vectors with zeros.
pub struct Packed {
    kernels: &'static Kernels,
    inputs: usize,
    outputs: usize,
    /// Vectors of output channels.
    output_vectors: usize,
    expand: Expansion,
    blocks: Vec<Block>,
    /// For each vector of hidden channels, the taps.
    depthwise: Buffer,
    depthwise_bias: Buffer,
    project: Buffer,
    project_bias: Buffer,
}

/// The convolution that makes the hidden channels.
struct Expansion {
    weights: Buffer,
    bias: Buffer,
    /// Rows and columns of its kernel: 1, or 3 with a stride of 2 and padding of 1.
    kernel: usize,
}

/// A block of hidden channels.
struct Block {
    /// The first vector.
    first: usize,
    vectors: usize,
}

/// Panels of at most three vectors: first vector and number. Pairs, because two vectors read the least for each sum, and
/// three where one would be left over.
fn panels(vectors: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let count = match vectors - first {
            0 => return None,
            left @ (1 | 3) => left,
            _ => 2,
        };
        first += count;
        Some((first - count, count))
    })
}

/// `count` numbers and zeros up to `len`.
fn padded(values: &[f32], len: usize) -> Buffer {
    let mut all = Buffer::zeros(len);
    all[..values.len()].copy_from_slice(values);
    all
}

impl Packed {
    pub fn new(
        level: SimdLevel,
        layers: InvertedResidualLayers<'_>,
        [inputs, hidden, outputs]: [usize; 3],
    ) -> Self {
        let kernels = Kernels::for_level(level);
        let lanes = kernels.lanes;
        let [vectors, output_vectors] = [hidden, outputs].map(|channels| channels.div_ceil(lanes));
        let count = vectors.div_ceil(BLOCK.div_ceil(lanes));
        let blocks: Vec<Block> = (0..count)
            .map(|block| {
                let [first, end] = [block, block + 1].map(|block| block * vectors / count);
                Block { first, vectors: end - first }
            })
            .collect();
        let [weight, bias] = layers.expand;
        let depth = weight.numel() / hidden;
        let mut expand = Vec::with_capacity(vectors * lanes * depth);
        for block in &blocks {
            for (first, count) in panels(block.vectors) {
                for c in 0..depth {
                    let channels = (block.first + first) * lanes..(block.first + first + count) * lanes;
                    let of = |h| if h < hidden { weight.data()[h * depth + c] } else { 0.0 };
                    expand.extend(channels.map(of));
                }
            }
        }
        let expand = Expansion {
            weights: padded(&expand, expand.len()),
            bias: padded(bias.data(), vectors * lanes),
            kernel: weight.shape()[1],
        };
        let mut depthwise = Vec::with_capacity(vectors * lanes * TAPS);
        for vector in 0..vectors {
            for tap in 0..TAPS {
                let channels = vector * lanes..(vector + 1) * lanes;
                let of = |h| if h < hidden { layers.depthwise[0].data()[tap * hidden + h] } else { 0.0 };
                depthwise.extend(channels.map(of));
            }
        }
        let mut project = Vec::with_capacity(vectors * output_vectors * lanes * lanes);
        for block in &blocks {
            for (first, count) in panels(output_vectors) {
                for h in block.first * lanes..(block.first + block.vectors) * lanes {
                    let channels = first * lanes..(first + count) * lanes;
                    project.extend(channels.map(|o| {
                        let inside = h < hidden && o < outputs;
                        if inside { layers.project[0].data()[o * hidden + h] } else { 0.0 }
                    }));
                }
            }
        }
        Self {
            kernels,
            inputs,
            outputs,
            output_vectors,
            expand,
            depthwise: padded(&depthwise, depthwise.len()),
            depthwise_bias: padded(layers.depthwise[1].data(), vectors * lanes),
            project: padded(&project, project.len()),
            project_bias: padded(layers.project[1].data(), output_vectors * lanes),
            blocks,
        }
    }
}

impl Packed {
    /// Whether the hidden channels come from more than a pixel each.
    fn convolves(&self) -> bool {
        self.expand.kernel > 1
    }

    /// Pixels of x from one expanded pixel to the next.
    pub fn expansion_stride(&self) -> usize {
        if self.convolves() { 2 } else { 1 }
    }

    /// Numbers of x that an expanded one comes from.
    fn expansion_depth(&self) -> usize {
        self.expand.kernel * self.expand.kernel * self.inputs
    }
}

/// The ranges into which `extent` is divided if each has at most `most`.
fn divided(extent: usize, most: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let count = extent.div_ceil(most);
    (0..count).map(move |i| i * extent / count..(i + 1) * extent / count)
}

/// The block's result y for images x of so many rows and columns; `g` is the geometry of the depthwise convolution.
pub fn forward(packed: &Packed, g: &Conv2dGeometry, x: &[f32], extents: [usize; 2], y: &mut [f32]) {
    let [input, output] = [extents[0] * extents[1] * packed.inputs, g.out_h() * g.out_w() * packed.outputs];
    assert_eq!([x.len(), y.len()], [g.batch() * input, g.batch() * output], "{g:?}");
    let strips = g.out_w().div_ceil(STRIP);
    let rows = SUMS / (g.out_w().div_ceil(strips) * packed.output_vectors * packed.kernels.lanes);
    // Small images too are work for all threads.
    let a_share = (g.out_h() * g.batch() * strips).div_ceil(rayon::current_num_threads());
    let rows = rows.clamp(FEWEST_ROWS, MOST_ROWS).min(a_share.max(FEWEST_ROWS / 2));
    let bands = divided(g.out_h(), rows);
    let zeros = Buffer::zeros(if packed.convolves() { extents[1] * packed.inputs } else { 0 });
    let zeros = &zeros[..];
    let shared = Shared(y.as_mut_ptr());
    let jobs: Vec<_> = (0..g.batch())
        .flat_map(|image| bands.clone().map(move |rows| (image, rows)))
        .flat_map(|(image, rows)| {
            divided(g.out_w(), STRIP).map(move |columns| (image, rows.clone(), columns))
        })
        .collect();
    jobs.into_par_iter().for_each(|(image, rows, columns)| {
        let job = Job { packed, g, x: &x[image * input..][..input], extents, zeros, rows, columns };
        let sums = job.sums();
        // SAFETY: the image's part of y, of which this job alone writes its rectangle.
        unsafe { job.write(&sums, shared.add(image * output)) }
    });
}

/// A rectangle of the result for one image.
struct Job<'a> {
    packed: &'a Packed,
    g: &'a Conv2dGeometry,
    x: &'a [f32],
    /// Rows and columns of x.
    extents: [usize; 2],
    /// A row of x outside the image, if the expansion is a convolution that needs it.
    zeros: &'a [f32],
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Job<'_> {
    /// Columns of expanded pixels that the job needs, those in the padding included.
    fn expanded_columns(&self) -> usize {
        (self.columns.len() - 1) * self.g.stride() + KERNEL
    }

    /// The projected sums of the rectangle, without the input, in whole vectors.
    fn sums(&self) -> Buffer {
        let Packed { kernels, blocks, .. } = self.packed;
        let lanes = kernels.lanes;
        let (stride, width) = (self.g.stride(), self.columns.len());
        let sums_row = width * self.packed.output_vectors * lanes;
        let mut sums = Buffer::empty(self.rows.len() * sums_row);
        let widest = blocks.iter().map(|block| block.vectors).max().unwrap_or(0) * lanes;
        let mut ring = Buffer::empty(KERNEL * self.expanded_columns() * widest);
        let mut filtered = Buffer::empty(width * widest);
        let (mut expand_at, mut project_at) = (0, 0);
        for block in blocks {
            let channels = block.vectors * lanes;
            let ring_row = self.expanded_columns() * channels;
            let mut next = 0;
            for (row, sums) in self.rows.clone().zip(sums.chunks_exact_mut(sums_row)) {
                // Counted with the padding: row 0 is the one above the image.
                let above = row * stride;
                for expanded in next.max(above)..above + KERNEL {
                    let slot = &mut ring[expanded % KERNEL * ring_row..][..ring_row];
                    self.expand(block, expand_at, expanded, slot);
                }
                next = above + KERNEL;
                let x = [0, 1, 2].map(|tap| ring[(above + tap) % KERNEL * ring_row..][..ring_row].as_ptr());
                let filtered = &mut filtered[..width * channels];
                // SAFETY: rows of the ring have a pixel for each tap of each of `width` pixels, of `vectors` vectors; the
                // weights have those vectors from `first`.
                unsafe {
                    (kernels.filter)(&Filter {
                        pixels: width,
                        vectors: block.vectors,
                        stride,
                        x,
                        w: self.packed.depthwise[block.first * TAPS * lanes..].as_ptr(),
                        bias: self.packed.depthwise_bias[block.first * lanes..].as_ptr(),
                        y: filtered.as_mut_ptr(),
                    });
                }
                self.project(block, project_at, filtered, sums);
            }
            expand_at += self.packed.expansion_depth() * channels;
            project_at += channels * self.packed.output_vectors * lanes;
        }
        sums
    }

    /// Expands a row for a block whose weights begin at `at`; the padding is zero. Rows are counted from the padding.
    fn expand(&self, block: &Block, at: usize, row: usize, expanded: &mut [f32]) {
        let Packed { kernels, inputs, .. } = *self.packed;
        let (lanes, g) = (kernels.lanes, self.g);
        let channels = block.vectors * lanes;
        if row == 0 || row > g.in_h() {
            return expanded.fill(0.0);
        }
        // Columns, from that of the padding.
        let first = self.columns.start * g.stride();
        let inside = first.max(1)..(first + self.expanded_columns()).min(g.in_w() + 1);
        let (left, inner) = expanded.split_at_mut((inside.start - first) * channels);
        let (inner, right) = inner.split_at_mut(inside.len() * channels);
        left.fill(0.0);
        right.fill(0.0);
        let Expansion { weights, bias, kernel } = &self.packed.expand;
        let [height, width] = self.extents;
        let (kernel, stride, padding) = (*kernel, self.packed.expansion_stride(), kernel / 2);
        let depth = kernel * inputs;
        let weights = &weights[at..][..kernel * depth * channels];
        let bias = &bias[block.first * lanes..][..channels];
        // Rows of x under the kernel's; those that the kernel does not have are not read.
        let under: [&[f32]; MOST_RUNS] = std::array::from_fn(|tap| {
            let row = ((row - 1) * stride + tap).checked_sub(padding).filter(|row| *row < height);
            row.filter(|_| tap < kernel)
                .map_or(self.zeros, |row| &self.x[row * width * inputs..][..width * inputs])
        });
        // Columns, without that of the padding, and those whose kernels lie inside x.
        let columns = inside.start - 1..inside.end - 1;
        let whole = padding.div_ceil(stride)..(width + stride).saturating_sub(1 + padding) / stride;
        let whole = whole.start.max(columns.start)..whole.end.min(columns.end);
        let whole = whole.start..whole.end.max(whole.start);
        let mut expand = |runs: [&[f32]; MOST_RUNS], first: usize, pixels: usize| {
            let inner = &mut inner[(first - columns.start) * channels..][..pixels * channels];
            for (panel, count) in panels(block.vectors) {
                // SAFETY: the runs have a kernel's row for each of the pixels, and `inner` has the pixels; the weights of a
                // panel follow those of the panels before it.
                unsafe {
                    (kernels.product)(&Product {
                        pixels,
                        runs: kernel,
                        depth,
                        a: (runs.map(<[f32]>::as_ptr), stride * inputs),
                        b: weights[panel * lanes * kernel * depth..].as_ptr(),
                        vectors: count,
                        start: bias[panel * lanes..].as_ptr(),
                        relu: true,
                        y: (inner[panel * lanes..].as_mut_ptr(), channels),
                    });
                }
            }
        };
        if !whole.is_empty() {
            let from = (whole.start * stride - padding) * inputs;
            expand(under.map(|x| x.get(from..).unwrap_or_default()), whole.start, whole.len());
        }
        for column in (columns.start..whole.start).chain(whole.end..columns.end) {
            let mut edge = vec![0.0; MOST_RUNS * depth];
            for (edge, x) in edge.chunks_exact_mut(depth).zip(under) {
                for (tap, edge) in edge.chunks_exact_mut(inputs).enumerate() {
                    let column =
                        (column * stride + tap).checked_sub(padding).filter(|column| *column < width);
                    if let Some(column) = column {
                        edge.copy_from_slice(&x[column * inputs..][..inputs]);
                    }
                }
            }
            expand([0, 1, 2].map(|run| &edge[run * depth..][..depth]), column, 1);
        }
    }

    /// Adds a block's share to a row of sums, which begin with the bias. The block's weights begin at `at`.
    fn project(&self, block: &Block, at: usize, filtered: &[f32], sums: &mut [f32]) {
        let Packed { kernels, output_vectors, .. } = *self.packed;
        let lanes = kernels.lanes;
        let (channels, outputs) = (block.vectors * lanes, output_vectors * lanes);
        let weights = &self.packed.project[at..][..channels * outputs];
        for (panel, count) in panels(output_vectors) {
            let bias = &self.packed.project_bias[panel * lanes..];
            // SAFETY: as in `expand`.
            unsafe {
                (kernels.product)(&Product {
                    pixels: self.columns.len(),
                    runs: 1,
                    depth: channels,
                    a: ([filtered.as_ptr(); MOST_RUNS], channels),
                    b: weights[panel * lanes * channels..].as_ptr(),
                    vectors: count,
                    start: if block.first == 0 { bias.as_ptr() } else { std::ptr::null() },
                    relu: false,
                    y: (sums[panel * lanes..].as_mut_ptr(), outputs),
                });
            }
        }
    }

    /// Writes the rectangle of `y`, the result of the image, with the input added where it has the same shape.
    ///
    /// # Safety
    /// `y` must be the image's whole result, and nobody else may read or write the rectangle.
    unsafe fn write(&self, sums: &[f32], y: *mut f32) {
        let Packed { kernels, inputs, outputs, output_vectors, .. } = *self.packed;
        let residual = self.g.stride() == 1 && !self.packed.convolves() && inputs == outputs;
        let pixels = sums.chunks_exact(output_vectors * kernels.lanes);
        let places = self.rows.clone().flat_map(|row| self.columns.clone().map(move |column| (row, column)));
        for (sums, (row, column)) in pixels.zip(places) {
            let at = (row * self.g.out_w() + column) * outputs;
            // SAFETY: a pixel of the rectangle.
            let y = unsafe { std::slice::from_raw_parts_mut(y.add(at), outputs) };
            if residual {
                for ((y, sum), x) in y.iter_mut().zip(sums).zip(&self.x[at..]) {
                    *y = sum + x;
                }
            } else {
                y.copy_from_slice(&sums[..outputs]);
            }
        }
    }
}
