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
use super::kernels::{Filter, KERNEL, Kernels, Product, TAPS};
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
    expand: Option<Buffer>,
    blocks: Vec<Block>,
    expand_bias: Buffer,
    /// For each vector of hidden channels, the taps.
    depthwise: Buffer,
    depthwise_bias: Buffer,
    project: Buffer,
    project_bias: Buffer,
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
        let expand = layers.expand.map(|[weight, _]| {
            let mut packed = Vec::with_capacity(vectors * lanes * inputs);
            for block in &blocks {
                for (first, count) in panels(block.vectors) {
                    for c in 0..inputs {
                        let channels = (block.first + first) * lanes..(block.first + first + count) * lanes;
                        packed.extend(
                            channels.map(|h| if h < hidden { weight.data()[h * inputs + c] } else { 0.0 }),
                        );
                    }
                }
            }
            padded(&packed, packed.len())
        });
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
            expand_bias: padded(layers.expand.map_or(&[], |[_, bias]| bias.data()), vectors * lanes),
            depthwise: padded(&depthwise, depthwise.len()),
            depthwise_bias: padded(layers.depthwise[1].data(), vectors * lanes),
            project: padded(&project, project.len()),
            project_bias: padded(layers.project[1].data(), output_vectors * lanes),
            blocks,
        }
    }
}

/// The ranges into which `extent` is divided if each has at most `most`.
fn divided(extent: usize, most: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let count = extent.div_ceil(most);
    (0..count).map(move |i| i * extent / count..(i + 1) * extent / count)
}

/// The block's result y for images x; `g` is the geometry of the depthwise convolution.
pub fn forward(packed: &Packed, g: &Conv2dGeometry, x: &[f32], y: &mut [f32]) {
    let [input, output] = [g.in_h() * g.in_w() * packed.inputs, g.out_h() * g.out_w() * packed.outputs];
    assert_eq!([x.len(), y.len()], [g.batch() * input, g.batch() * output], "{g:?}");
    let strip = g.out_w().div_ceil(g.out_w().div_ceil(STRIP));
    let rows = SUMS / (strip * packed.output_vectors * packed.kernels.lanes);
    let bands = divided(g.out_h(), rows.clamp(FEWEST_ROWS, MOST_ROWS));
    let shared = Shared(y.as_mut_ptr());
    let jobs: Vec<_> = (0..g.batch())
        .flat_map(|image| bands.clone().map(move |rows| (image, rows)))
        .flat_map(|(image, rows)| {
            divided(g.out_w(), STRIP).map(move |columns| (image, rows.clone(), columns))
        })
        .collect();
    jobs.into_par_iter().for_each(|(image, rows, columns)| {
        let job = Job { packed, g, x: &x[image * input..][..input], rows, columns };
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
            expand_at += self.packed.inputs * channels;
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
        let x = &self.x[((row - 1) * g.in_w() + inside.start - 1) * inputs..][..inside.len() * inputs];
        let Some(weights) = &self.packed.expand else {
            let from = block.first * lanes;
            let count = channels.min(inputs - from);
            for (inner, x) in inner.chunks_exact_mut(channels).zip(x.chunks_exact(inputs)) {
                inner[..count].copy_from_slice(&x[from..][..count]);
                inner[count..].fill(0.0);
            }
            return;
        };
        let weights = &weights[at..][..inputs * channels];
        let bias = &self.packed.expand_bias[block.first * lanes..][..channels];
        for (panel, count) in panels(block.vectors) {
            // SAFETY: x and `inner` have the pixels; the weights of a panel follow those of the panels before it.
            unsafe {
                (kernels.product)(&Product {
                    pixels: inside.len(),
                    depth: inputs,
                    a: (x.as_ptr(), inputs),
                    b: weights[panel * lanes * inputs..].as_ptr(),
                    vectors: count,
                    start: bias[panel * lanes..].as_ptr(),
                    relu: true,
                    y: (inner[panel * lanes..].as_mut_ptr(), channels),
                });
            }
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
                    depth: channels,
                    a: (filtered.as_ptr(), channels),
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
        let residual = self.g.stride() == 1 && inputs == outputs;
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
