//! The inner loops of a block: a product of pixels with a panel of weights, and a depthwise filter, both with their sums in
//! registers.
//!
//! Every sum is made of the same operations in the same order wherever its pixel lies in a tile, so results do not depend
//! on how the work is split.

use crate::ops::conv2d::cpu::simd::{Scalar, Simd, SimdLevel};

/// Rows and columns of the depthwise filter.
pub const KERNEL: usize = 3;
/// Taps of the depthwise filter.
pub const TAPS: usize = KERNEL * KERNEL;
/// The most vectors of a panel.
pub const MOST_VECTORS: usize = 3;
/// Pixels that the depthwise filter takes together: neighbours share what they read.
const TOGETHER: usize = 4;

/// The most runs of a [`Product`].
pub const MOST_RUNS: usize = KERNEL;

/// `y[i][j] = start[i][j] + sum over c of a[i][c] * b[c][j]`, for some pixels i and the columns j of a panel. The numbers c
/// lie in runs: one for the channels of a pixel, several for the rows of a convolution.
#[derive(Clone, Copy)]
pub struct Product {
    /// Pixels i.
    pub pixels: usize,
    /// Runs, 1 to [`MOST_RUNS`].
    pub runs: usize,
    /// Numbers c in each run.
    pub depth: usize,
    /// The runs of the first pixel, and the elements from one pixel to the next.
    pub a: ([*const f32; MOST_RUNS], usize),
    /// `runs * depth` rows of `vectors` vectors.
    pub b: *const f32,
    /// Vectors of the panel, 1 to [`MOST_VECTORS`].
    pub vectors: usize,
    /// What each sum starts from, a panel of numbers; null if from what y holds.
    pub start: *const f32,
    /// Whether negative sums become zero.
    pub relu: bool,
    /// The first pixel's columns, and the elements from one pixel to the next.
    pub y: (*mut f32, usize),
}

/// `y[i] = relu(bias + sum over taps of x * w)` for each channel of some neighbouring pixels i of a row.
#[derive(Clone, Copy)]
pub struct Filter {
    /// Pixels i.
    pub pixels: usize,
    /// Vectors of channels.
    pub vectors: usize,
    /// Pixels of x from one pixel i to the next: 1 or 2.
    pub stride: usize,
    /// The first pixel of each of three rows of x. A pixel has `vectors` vectors, in x as in y.
    pub x: [*const f32; KERNEL],
    /// For each vector of channels, [`TAPS`] vectors.
    pub w: *const f32,
    /// A number for each channel.
    pub bias: *const f32,
    /// The first pixel.
    pub y: *mut f32,
}

/// The kernels of an instruction set. All pointers of an argument must be good for what its fields say, and y must not
/// overlap what is read.
#[derive(Clone, Copy)]
pub struct Kernels {
    /// Lanes of a vector.
    pub lanes: usize,
    /// Computes a [`Product`].
    pub product: unsafe fn(&Product),
    /// Computes a [`Filter`].
    pub filter: unsafe fn(&Filter),
}

impl Kernels {
    /// The kernels of a level this machine has.
    pub fn for_level(level: SimdLevel) -> &'static Kernels {
        match level {
            SimdLevel::Scalar => &scalar::KERNELS,
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx2 => &avx2::KERNELS,
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512 => &avx512::KERNELS,
            #[cfg(target_arch = "aarch64")]
            SimdLevel::Neon => &neon::KERNELS,
        }
    }
}

/// The kernels with an instruction set switched on.
macro_rules! kernels {
    ($module:ident, $simd:ty $(, $feature:literal)?) => {
        mod $module {
            use super::*;

            pub static KERNELS: Kernels = Kernels { lanes: <$simd>::LANES, product, filter };

            $(#[target_feature(enable = $feature)])?
            unsafe fn product(p: &Product) {
                // SAFETY: the caller's, who also saw to it that the instruction set is there.
                unsafe { super::product::<$simd>(p) }
            }

            $(#[target_feature(enable = $feature)])?
            unsafe fn filter(f: &Filter) {
                // SAFETY: as above.
                unsafe { super::filter::<$simd>(f) }
            }
        }
    };
}

kernels!(scalar, Scalar);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, crate::ops::conv2d::cpu::simd::Avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
kernels!(avx512, crate::ops::conv2d::cpu::simd::Avx512, "avx512f,avx2,fma");
#[cfg(target_arch = "aarch64")]
kernels!(neon, crate::ops::conv2d::cpu::simd::Neon, "neon");

/// Calls `product_tile::<S, n, V>` for the pixels left over, fewer than `$rows`.
macro_rules! rest_of_pixels {
    ($n:expr, $s:ident, $v:literal, $rows:expr, $arguments:tt) => {
        match $n {
            0 => {}
            1 => product_tile::<$s, 1, $v> $arguments,
            2 if $rows > 2 => product_tile::<$s, 2, $v> $arguments,
            3 if $rows > 3 => product_tile::<$s, 3, $v> $arguments,
            4 if $rows > 4 => product_tile::<$s, 4, $v> $arguments,
            5 if $rows > 5 => product_tile::<$s, 5, $v> $arguments,
            6 if $rows > 6 => product_tile::<$s, 6, $v> $arguments,
            7 if $rows > 7 => product_tile::<$s, 7, $v> $arguments,
            8 if $rows > 8 => product_tile::<$s, 8, $v> $arguments,
            9 if $rows > 9 => product_tile::<$s, 9, $v> $arguments,
            10 if $rows > 10 => product_tile::<$s, 10, $v> $arguments,
            11 if $rows > 11 => product_tile::<$s, 11, $v> $arguments,
            n => unreachable!("{n} pixels left over"),
        }
    };
}

/// Pixels of a tile of three vectors, which take the registers of [`Simd::ROWS`] of two.
const fn rows_of_three<S: Simd>() -> usize {
    S::ROWS * 2 / 3
}

#[inline(always)]
unsafe fn product<S: Simd>(p: &Product) {
    debug_assert!((1..=MOST_VECTORS).contains(&p.vectors));
    // SAFETY: the caller's. Tiles of as many accumulators as there are registers for.
    unsafe {
        let mut from = 0;
        // One vector has the rows of two: what limits it is reading, not the number of sums.
        let rows = if p.vectors == 3 { rows_of_three::<S>() } else { S::ROWS };
        while p.pixels - from >= rows {
            match (p.vectors, S::ROWS) {
                (1, 4) => product_tile::<S, 4, 1>(p, from),
                (1, 6) => product_tile::<S, 6, 1>(p, from),
                (1, _) => product_tile::<S, 12, 1>(p, from),
                (2, 4) => product_tile::<S, 4, 2>(p, from),
                (2, 6) => product_tile::<S, 6, 2>(p, from),
                (2, _) => product_tile::<S, 12, 2>(p, from),
                (_, 4) => product_tile::<S, 2, 3>(p, from),
                (_, 6) => product_tile::<S, 4, 3>(p, from),
                (_, _) => product_tile::<S, 8, 3>(p, from),
            }
            from += rows;
        }
        match p.vectors {
            1 => rest_of_pixels!(p.pixels - from, S, 1, S::ROWS, (p, from)),
            2 => rest_of_pixels!(p.pixels - from, S, 2, S::ROWS, (p, from)),
            _ => rest_of_pixels!(p.pixels - from, S, 3, rows_of_three::<S>(), (p, from)),
        }
    }
}

/// `R` pixels from `from`, and `V` vectors.
#[inline(always)]
unsafe fn product_tile<S: Simd, const R: usize, const V: usize>(p: &Product, from: usize) {
    // SAFETY: the caller's pointers are good for the pixels, channels and vectors.
    unsafe {
        let a_stride = p.a.1;
        let (y, y_stride) = (p.y.0.add(from * p.y.1), p.y.1);
        let mut sums = [[S::splat(0.0); V]; R];
        for (i, sums) in sums.iter_mut().enumerate() {
            let start = if p.start.is_null() { y.add(i * y_stride).cast_const() } else { p.start };
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = S::load(start.add(v * S::LANES));
            }
        }
        let mut b = p.b;
        for a in &p.a.0[..p.runs] {
            let a = a.add(from * a_stride);
            for c in 0..p.depth {
                let mut row = [S::splat(0.0); V];
                for (v, row) in row.iter_mut().enumerate() {
                    *row = S::load(b.add(v * S::LANES));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let broadcast = S::splat(*a.add(i * a_stride + c));
                    for (sum, row) in sums.iter_mut().zip(row) {
                        *sum = S::fma(broadcast, row, *sum);
                    }
                }
                b = b.add(V * S::LANES);
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let sum = if p.relu { S::relu(*sum) } else { *sum };
                S::store(y.add(i * y_stride + v * S::LANES), sum);
            }
        }
    }
}

#[inline(always)]
unsafe fn filter<S: Simd>(f: &Filter) {
    // SAFETY: the caller's.
    unsafe {
        for vector in 0..f.vectors {
            let mut from = 0;
            while f.pixels - from >= TOGETHER {
                match f.stride {
                    1 => filter_pixels::<S, TOGETHER, 1>(f, vector, from),
                    _ => filter_pixels::<S, TOGETHER, 2>(f, vector, from),
                }
                from += TOGETHER;
            }
            for from in from..f.pixels {
                match f.stride {
                    1 => filter_pixels::<S, 1, 1>(f, vector, from),
                    _ => filter_pixels::<S, 1, 2>(f, vector, from),
                }
            }
        }
    }
}

/// `P` pixels from `from`, one vector of channels.
#[inline(always)]
unsafe fn filter_pixels<S: Simd, const P: usize, const STRIDE: usize>(
    f: &Filter,
    vector: usize,
    from: usize,
) {
    // SAFETY: the caller's pointers are good for the pixels, their neighbours and the vectors.
    unsafe {
        let pixel = f.vectors * S::LANES;
        let mut sums = [S::load(f.bias.add(vector * S::LANES)); P];
        let w = f.w.add(vector * TAPS * S::LANES);
        for (row, x) in f.x.iter().enumerate() {
            let x = x.add(from * STRIDE * pixel + vector * S::LANES);
            let w = w.add(row * KERNEL * S::LANES);
            let taps: [S::V; KERNEL] = [S::load(w), S::load(w.add(S::LANES)), S::load(w.add(2 * S::LANES))];
            for (i, sum) in sums.iter_mut().enumerate() {
                for (column, tap) in taps.iter().enumerate() {
                    *sum = S::fma(S::load(x.add((i * STRIDE + column) * pixel)), *tap, *sum);
                }
            }
        }
        for (i, sum) in sums.iter().enumerate() {
            S::store(f.y.add((from + i) * pixel + vector * S::LANES), S::relu(*sum));
        }
    }
}
