//! The inner loops: small matrix products whose accumulators stay in registers.
//!
//! * [`GemmTile`]: rows of A are broadcast element by element and multiply two vectors of B's columns. A is read in
//!   place through a table of row pointers, so that a convolution needs no unrolled copy of its input.
//! * [`DotTile`]: dot products of rows of A with rows of B, both read along the depth in place. Nothing is packed, which
//!   pays if weights are used for few pixels, or if there are few output channels.
//! * [`OuterProductTile`]: the sum over pixels of outer products, for weight gradients.
//!
//! Each element of a result is computed by the same operations in the same order, in whatever tile it lies. Therefore
//! results do not depend on how the work is split.

use super::simd::{Scalar, Simd, SimdLevel};
use super::transforms::{self, Points};
use crate::ops::activation::Activation;
use crate::ops::conv2d::Epilogue;

/// The [`Epilogue`] of a tile, for the kernels.
#[derive(Debug, Clone, Copy)]
pub struct RawEpilogue {
    /// One number for each column, or null.
    pub bias: *const f32,
    /// The factor of negative sums, if there is an activation.
    pub slope: Option<f32>,
}

impl RawEpilogue {
    /// Neither bias nor activation.
    pub const PLAIN: Self = RawEpilogue { bias: std::ptr::null(), slope: None };

    /// The part of an epilogue that the kernels apply, for columns from `first`: the bias and piecewise linear activations.
    /// The others are left to [`Epilogue::apply`].
    pub fn new(epilogue: Epilogue<'_>, first: usize) -> Self {
        let slope = match epilogue.activation {
            Activation::Relu | Activation::LeakyRelu => Some(epilogue.activation.slope(-1.0)),
            Activation::Identity | Activation::Tanh | Activation::Softplus => None,
        };
        RawEpilogue { bias: epilogue.bias.map_or(std::ptr::null(), |bias| bias[first..].as_ptr()), slope }
    }
}

/// `y[i][j] = raw_epilogue(sum over taps t and depths c of a[t][i][c] * b[t][c][j])`.
#[derive(Debug, Clone, Copy)]
pub struct GemmTile {
    /// Rows i: 1 to [`Kernels::rows`].
    pub rows: usize,
    /// Columns j: 1 to [`Kernels::columns`].
    pub columns: usize,
    /// Taps t.
    pub taps: usize,
    /// Depths c.
    pub depth: usize,
    /// `taps * rows` pointers to `depth` elements, tap by tap.
    pub a: *const *const f32,
    /// Added to every pointer of `a`.
    pub a_offset: usize,
    /// `taps` pointers to `depth` rows of `columns` elements.
    pub b: *const *const f32,
    /// Added to every pointer of `b`.
    pub b_offset: usize,
    /// Elements from one row of b to the next.
    pub b_stride: usize,
    /// `rows` pointers to `columns` elements.
    pub y: *const *mut f32,
    /// Added to every pointer of `y`.
    pub y_offset: usize,
    /// Applied to each sum.
    pub raw_epilogue: RawEpilogue,
}

impl GemmTile {
    /// The product of one tap: rows `a` of `depth` elements with `depth` rows of `columns` elements at `b`, `b_stride`
    /// elements apart, into the rows `y`, as it is. All three outlive the tile; the tables are as long as each other.
    pub fn new(
        a: &[*const f32],
        b: &[*const f32; 1],
        y: &[*mut f32],
        [columns, depth, b_stride]: [usize; 3],
    ) -> Self {
        debug_assert_eq!(a.len(), y.len());
        GemmTile {
            rows: a.len(),
            columns,
            taps: 1,
            depth,
            a: a.as_ptr(),
            a_offset: 0,
            b: b.as_ptr(),
            b_offset: 0,
            b_stride,
            y: y.as_ptr(),
            y_offset: 0,
            raw_epilogue: RawEpilogue::PLAIN,
        }
    }
}

/// `y[i][j] = raw_epilogue(sum over taps t and depths c of a[t][i][c] * b[j][taps_b[t] + c])`.
#[derive(Debug, Clone, Copy)]
pub struct DotTile {
    /// Rows i: 1 to [`Kernels::dot`].
    pub rows: usize,
    /// Columns j: 1 to [`Kernels::dot`].
    pub columns: usize,
    /// Taps t.
    pub taps: usize,
    /// Depths c.
    pub depth: usize,
    /// `taps * rows` pointers to `depth` elements, tap by tap.
    pub a: *const *const f32,
    /// `taps` pointers to `depth` elements of b's row 0.
    pub b: *const *const f32,
    /// Added to every pointer of `b`: where column 0 of this tile starts.
    pub b_offset: usize,
    /// Elements from one row of b (one column of y) to the next.
    pub b_stride: usize,
    /// `rows` pointers to `columns` elements.
    pub y: *const *mut f32,
    /// Added to every pointer of `y`.
    pub y_offset: usize,
    /// Applied to each sum.
    pub raw_epilogue: RawEpilogue,
}

/// `y[i][j] (+)= sum over pixels p of a[p][i] * b[p][j]`.
#[derive(Debug, Clone, Copy)]
pub struct OuterProductTile {
    /// Rows i: 1 to [`Kernels::rows`].
    pub rows: usize,
    /// Columns j: 1 to [`Kernels::columns`].
    pub columns: usize,
    /// Pixels p.
    pub pixels: usize,
    /// `pixels` pairs of pointers, to `rows` elements and to `columns` elements.
    pub pairs: *const [*const f32; 2],
    /// Added to the first pointer of every pair.
    pub a_offset: usize,
    /// Added to the second pointer of every pair.
    pub b_offset: usize,
    /// The first of `rows` rows of `columns` elements.
    pub y: *mut f32,
    /// Elements from one row of y to the next.
    pub y_stride: usize,
    /// Whether to add to what y holds.
    pub accumulate: bool,
}

/// The kernels of one instruction set. All pointers of an argument must be good for what its fields say, and y must
/// not overlap a or b.
#[derive(Clone, Copy)]
pub struct Kernels {
    /// Lanes of a vector.
    pub lanes: usize,
    /// The most rows of [`GemmTile`] and [`OuterProductTile`].
    pub rows: usize,
    /// The most columns of [`GemmTile`] and [`OuterProductTile`]: two vectors.
    pub columns: usize,
    /// The most rows and columns of [`DotTile`].
    pub dot: usize,
    /// Computes a [`GemmTile`].
    pub gemm_tile: unsafe fn(&GemmTile),
    /// Computes [`DotTile`].
    pub dot_tile: unsafe fn(&DotTile),
    /// Computes an [`OuterProductTile`].
    pub outer_product_tile: unsafe fn(&OuterProductTile),
    /// [`transforms::transform_input`].
    pub transform_input: unsafe fn(&Points, *const *const f32, usize, *mut f32, usize),
    /// [`transforms::transform_output`].
    pub transform_output: unsafe fn(&Points, *const f32, usize, usize, RawEpilogue, *const *mut f32),
    /// [`transforms::transform_gradient`].
    pub transform_gradient: unsafe fn(&Points, *const *const f32, usize, *mut f32, usize),
    /// [`transforms::transform_filter`].
    pub transform_filter: unsafe fn(&Points, *const f32, [isize; 2], usize, *mut f32, usize),
    /// [`transforms::transform_filter_gradient`].
    pub transform_filter_gradient: unsafe fn(&Points, *const f32, usize, usize, *mut f32, [usize; 2]),
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

/// A function with an instruction set switched on. One of the `transforms` is compiled for each number of points.
macro_rules! entry {
    ($($feature:literal)?; $simd:ty; by_points transforms::$name:ident($p:ident: &Points $(, $arg:ident: $type:ty)*)) => {
        $(#[target_feature(enable = $feature)])?
        unsafe fn $name($p: &Points $(, $arg: $type)*) {
            // SAFETY: the caller's, who also saw to it that the instruction set is there.
            unsafe {
                match $p.n {
                    5 => transforms::$name::<$simd, 5>($p $(, $arg)*),
                    6 => transforms::$name::<$simd, 6>($p $(, $arg)*),
                    _ => transforms::$name::<$simd, 8>($p $(, $arg)*),
                }
            }
        }
    };
    ($($feature:literal)?; $simd:ty; $module:ident::$name:ident($($arg:ident: $type:ty),*)) => {
        $(#[target_feature(enable = $feature)])?
        unsafe fn $name($($arg: $type),*) {
            // SAFETY: as above.
            unsafe { $module::$name::<$simd>($($arg),*) }
        }
    };
}

/// The functions of an instruction set.
macro_rules! kernels {
    ($module:ident, $simd:ty $(, $feature:literal)?) => {
        mod $module {
            use super::*;

            pub static KERNELS: Kernels = Kernels {
                lanes: <$simd>::LANES,
                rows: <$simd>::ROWS,
                columns: 2 * <$simd>::LANES,
                dot: <$simd>::DOT,
                gemm_tile,
                dot_tile,
                outer_product_tile,
                transform_input,
                transform_output,
                transform_gradient,
                transform_filter,
                transform_filter_gradient,
            };

            entry!($($feature)?; $simd; super::gemm_tile(t: &GemmTile));
            entry!($($feature)?; $simd; super::dot_tile(d: &DotTile));
            entry!($($feature)?; $simd; super::outer_product_tile(o: &OuterProductTile));
            entry!($($feature)?; $simd; by_points transforms::transform_input(
                p: &Points, x: *const *const f32, c: usize, v: *mut f32, s: usize));
            entry!($($feature)?; $simd; by_points transforms::transform_output(
                p: &Points, m: *const f32, s: usize, c: usize, e: RawEpilogue, y: *const *mut f32));
            entry!($($feature)?; $simd; by_points transforms::transform_gradient(
                p: &Points, y: *const *const f32, c: usize, m: *mut f32, s: usize));
            entry!($($feature)?; $simd; by_points transforms::transform_filter(
                p: &Points, w: *const f32, t: [isize; 2], l: usize, u: *mut f32, s: usize));
            entry!($($feature)?; $simd; transforms::transform_filter_gradient(
                p: &Points, u: *const f32, s: usize, c: usize, w: *mut f32, t: [usize; 2]));
        }
    };
}

kernels!(scalar, Scalar);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, super::super::simd::Avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
kernels!(avx512, super::super::simd::Avx512, "avx512f,avx2,fma");
#[cfg(target_arch = "aarch64")]
kernels!(neon, super::super::simd::Neon, "neon");

/// Calls `$f::<S, n, ...>($arg)` with the run-time number `$n` as a constant.
macro_rules! with_rows {
    ($n:expr, $f:ident :: <$s:ident $(, $more:tt)*>($($arg:expr),*)) => {
        match $n {
            1 => $f::<$s, 1 $(, $more)*>($($arg),*),
            2 => $f::<$s, 2 $(, $more)*>($($arg),*),
            3 => $f::<$s, 3 $(, $more)*>($($arg),*),
            4 => $f::<$s, 4 $(, $more)*>($($arg),*),
            5 if $s::ROWS >= 5 => $f::<$s, 5 $(, $more)*>($($arg),*),
            6 if $s::ROWS >= 6 => $f::<$s, 6 $(, $more)*>($($arg),*),
            7 if $s::ROWS >= 7 => $f::<$s, 7 $(, $more)*>($($arg),*),
            8 if $s::ROWS >= 8 => $f::<$s, 8 $(, $more)*>($($arg),*),
            9 if $s::ROWS >= 9 => $f::<$s, 9 $(, $more)*>($($arg),*),
            10 if $s::ROWS >= 10 => $f::<$s, 10 $(, $more)*>($($arg),*),
            11 if $s::ROWS >= 11 => $f::<$s, 11 $(, $more)*>($($arg),*),
            12 if $s::ROWS >= 12 => $f::<$s, 12 $(, $more)*>($($arg),*),
            n => unreachable!("a tile of {n} rows"),
        }
    };
}

/// Calls `$f::<S, rows, vectors, WHOLE>($tile, from, lanes)` for a tile: once if its rows are two whole vectors, else for
/// each vector and part of one.
macro_rules! by_vectors {
    ($f:ident::<$s:ident>($tile:ident)) => {
        debug_assert!($tile.columns >= 1 && $tile.columns <= 2 * $s::LANES);
        if $tile.columns == 2 * $s::LANES {
            with_rows!($tile.rows, $f::<$s, 2, true>($tile, 0, $s::LANES));
        } else {
            let mut from = 0;
            while from < $tile.columns {
                let lanes = ($tile.columns - from).min($s::LANES);
                with_rows!($tile.rows, $f::<$s, 1, false>($tile, from, lanes));
                from += lanes;
            }
        }
    };
}

#[inline(always)]
unsafe fn gemm_tile<S: Simd>(t: &GemmTile) {
    // SAFETY: the caller's.
    unsafe {
        by_vectors!(gemm_tile_vectors::<S>(t));
    }
}

/// Rows `R`, vectors `V` to a row, of which the last has `lanes` lanes unless `WHOLE`; columns `from` onwards.
#[inline(always)]
unsafe fn gemm_tile_vectors<S: Simd, const R: usize, const V: usize, const WHOLE: bool>(
    t: &GemmTile,
    from: usize,
    lanes: usize,
) {
    // SAFETY: the caller's pointers are good for the rows, columns, taps and depths of the tile.
    unsafe {
        let mut sums = [[S::splat(0.0); V]; R];
        for tap in 0..t.taps {
            let mut a = [std::ptr::null(); R];
            for i in 0..R {
                a[i] = (*t.a.add(tap * R + i)).add(t.a_offset);
            }
            let mut b = (*t.b.add(tap)).add(t.b_offset + from);
            for c in 0..t.depth {
                let row = vectors::<S, V, WHOLE>(b, lanes);
                for i in 0..R {
                    let broadcast = S::splat(*a[i].add(c));
                    for v in 0..V {
                        sums[i][v] = S::fma(broadcast, row[v], sums[i][v]);
                    }
                }
                b = b.add(t.b_stride);
            }
        }
        if !t.raw_epilogue.bias.is_null() {
            let bias = vectors::<S, V, WHOLE>(t.raw_epilogue.bias.add(from), lanes);
            for i in 0..R {
                for v in 0..V {
                    sums[i][v] = S::add(sums[i][v], bias[v]);
                }
            }
        }
        if let Some(slope) = t.raw_epilogue.slope {
            let slope = S::splat(slope);
            for i in 0..R {
                for v in 0..V {
                    sums[i][v] = S::activate(sums[i][v], slope);
                }
            }
        }
        for i in 0..R {
            let y = (*t.y.add(i)).add(t.y_offset + from);
            for v in 0..V {
                let y = y.add(v * S::LANES);
                if WHOLE { S::store(y, sums[i][v]) } else { S::store_part(y, sums[i][v], lanes) }
            }
        }
    }
}

/// `V` vectors from memory; if not `WHOLE`, just the first `lanes` lanes of one.
#[inline(always)]
unsafe fn vectors<S: Simd, const V: usize, const WHOLE: bool>(p: *const f32, lanes: usize) -> [S::V; V] {
    debug_assert!(WHOLE || V == 1);
    // SAFETY: the caller's pointer is good for the vectors, or lanes.
    unsafe {
        let mut all = [S::splat(0.0); V];
        for (v, to) in all.iter_mut().enumerate() {
            *to = if WHOLE { S::load(p.add(v * S::LANES)) } else { S::load_part(p, lanes) };
        }
        all
    }
}

#[inline(always)]
unsafe fn dot_tile<S: Simd>(d: &DotTile) {
    // SAFETY: the caller's.
    unsafe {
        match d.rows {
            1 => dot_tile_rows::<S, 1>(d),
            2 => dot_tile_rows::<S, 2>(d),
            3 => dot_tile_rows::<S, 3>(d),
            4 if S::DOT >= 4 => dot_tile_rows::<S, 4>(d),
            5 if S::DOT >= 5 => dot_tile_rows::<S, 5>(d),
            n => unreachable!("a tile of {n} rows of dot products"),
        }
    }
}

#[inline(always)]
unsafe fn dot_tile_rows<S: Simd, const R: usize>(d: &DotTile) {
    // SAFETY: the caller's.
    unsafe {
        match d.columns {
            1 => dot_tile_sized::<S, R, 1>(d),
            2 => dot_tile_sized::<S, R, 2>(d),
            3 => dot_tile_sized::<S, R, 3>(d),
            4 if S::DOT >= 4 => dot_tile_sized::<S, R, 4>(d),
            5 if S::DOT >= 5 => dot_tile_sized::<S, R, 5>(d),
            n => unreachable!("a tile of {n} columns of dot products"),
        }
    }
}

#[inline(always)]
unsafe fn dot_tile_sized<S: Simd, const R: usize, const C: usize>(d: &DotTile) {
    // SAFETY: the caller's pointers are good for the rows, columns, taps and depths.
    unsafe {
        let mut sums = [[S::splat(0.0); C]; R];
        let whole = d.depth - d.depth % S::LANES;
        for tap in 0..d.taps {
            let mut a = [std::ptr::null(); R];
            for i in 0..R {
                a[i] = *d.a.add(tap * R + i);
            }
            let b = (*d.b.add(tap)).add(d.b_offset);
            let mut c = 0;
            while c < whole {
                dot_tile_step::<S, R, C, true>(&mut sums, &a, b, d.b_stride, c, S::LANES);
                c += S::LANES;
            }
            if whole < d.depth {
                dot_tile_step::<S, R, C, false>(&mut sums, &a, b, d.b_stride, whole, d.depth - whole);
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            let y = (*d.y.add(i)).add(d.y_offset);
            for (j, sum) in sums.iter().enumerate() {
                let mut sum = S::sum(*sum);
                if !d.raw_epilogue.bias.is_null() {
                    sum += *d.raw_epilogue.bias.add(j);
                }
                if let Some(slope) = d.raw_epilogue.slope {
                    sum = if sum > 0.0 { sum } else { slope * sum };
                }
                *y.add(j) = sum;
            }
        }
    }
}

/// The products of one vector, or its first `lanes` lanes, of each row at depth `c`.
#[inline(always)]
unsafe fn dot_tile_step<S: Simd, const R: usize, const C: usize, const WHOLE: bool>(
    sums: &mut [[S::V; C]; R],
    a: &[*const f32; R],
    b: *const f32,
    b_stride: usize,
    c: usize,
    lanes: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut row = [S::splat(0.0); R];
        for i in 0..R {
            row[i] = if WHOLE { S::load(a[i].add(c)) } else { S::load_part(a[i].add(c), lanes) };
        }
        for j in 0..C {
            let b = b.add(j * b_stride + c);
            let b = if WHOLE { S::load(b) } else { S::load_part(b, lanes) };
            for i in 0..R {
                sums[i][j] = S::fma(row[i], b, sums[i][j]);
            }
        }
    }
}

#[inline(always)]
unsafe fn outer_product_tile<S: Simd>(o: &OuterProductTile) {
    // SAFETY: the caller's.
    unsafe {
        by_vectors!(outer_product_tile_vectors::<S>(o));
    }
}

/// As `gemm_tile_vectors`.
#[inline(always)]
unsafe fn outer_product_tile_vectors<S: Simd, const R: usize, const V: usize, const WHOLE: bool>(
    o: &OuterProductTile,
    from: usize,
    lanes: usize,
) {
    // SAFETY: the caller's pointers are good for the rows, columns and pixels.
    unsafe {
        let mut sums = [[S::splat(0.0); V]; R];
        if o.accumulate {
            for (i, sums) in sums.iter_mut().enumerate() {
                *sums = vectors::<S, V, WHOLE>(o.y.add(i * o.y_stride + from), lanes);
            }
        }
        for pixel in 0..o.pixels {
            let [a, b] = *o.pairs.add(pixel);
            let (a, b) = (a.add(o.a_offset), b.add(o.b_offset + from));
            let row = vectors::<S, V, WHOLE>(b, lanes);
            for i in 0..R {
                let broadcast = S::splat(*a.add(i));
                for v in 0..V {
                    sums[i][v] = S::fma(broadcast, row[v], sums[i][v]);
                }
            }
        }
        for i in 0..R {
            for v in 0..V {
                let y = o.y.add(i * o.y_stride + from + v * S::LANES);
                if WHOLE { S::store(y, sums[i][v]) } else { S::store_part(y, sums[i][v], lanes) }
            }
        }
    }
}
