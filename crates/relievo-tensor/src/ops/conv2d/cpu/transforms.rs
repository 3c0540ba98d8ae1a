//! The transforms around Winograd's products (Toom-Cook; Lavin and Gray 2016, arXiv 1509.09308), on vectors of channels:
//! of inputs, filters and outputs, and their transposes.
//!
//! Along one axis, four outputs of a correlation of `r` taps are `A^T ((G g) * (B^T d))` with `n = r + 3` products
//! (`*` element by element). The points are 0, pairs +-p and, where n is even, infinity, so that half of each transform is
//! shared between a point and its opposite: with `Q_j(x) = prod over i != j of (x^2 - p_i^2)`, the row of B^T at +-p_j holds
//! the coefficients of `x^2 Q_j(x) +- p_j x Q_j(x)`. The pairs were chosen by measured error: 3/4 and 2 for n = 5 (3e-7
//! relative, as much as that of sums in order; 5e-7 with 0, +-1, 2 and infinity), 3/4 and 3/2 for n = 6 (5e-7, half that of
//! 1 and 2), 1/2, 1 and 2 for n = 8 (2e-6).

use super::kernels::RawEpilogue;
use super::simd::Simd;

/// The outputs of a tile along one axis.
pub const OUTPUTS: usize = 4;
/// The most points: of n = 8.
const MOST: usize = 8;
/// The most taps along one axis.
const MOST_TAPS: usize = 5;

/// The points and what follows from them.
#[derive(Debug, Clone, Copy)]
pub struct Points {
    /// Products along one axis: 5, 6 or 8.
    pub n: usize,
    /// Taps along one axis: 2, 3 or 5.
    pub taps: usize,
    /// The positive one of each pair.
    pairs: [f32; 3],
    /// Coefficients of `prod (x^2 - p^2)` in x^2, constant first; the leading one is 1.
    full: [f32; 4],
    /// The same without pair j.
    without: [[f32; 3]; 3],
    /// G, n rows of `taps`.
    g: [[f32; MOST_TAPS]; MOST],
}

impl Points {
    /// The points for a square kernel of 2x2, 3x3 or 5x5 taps.
    pub fn for_taps(taps: usize) -> Option<Self> {
        let pairs: &[f64] = match taps {
            2 => &[0.75, 2.0],
            3 => &[0.75, 1.5],
            5 => &[0.5, 1.0, 2.0],
            _ => return None,
        };
        // Coefficients of prod (t - p^2), constant first.
        let product = |skip: usize| {
            let mut c = [1.0, 0.0, 0.0, 0.0];
            for p in pairs.iter().enumerate().filter(|(i, _)| *i != skip).map(|(_, p)| p) {
                for i in (0..4).rev() {
                    c[i] = if i > 0 { c[i - 1] } else { 0.0 } - p * p * c[i];
                }
            }
            c
        };
        let mut points = Points {
            n: taps + OUTPUTS - 1,
            taps,
            pairs: [0.0; 3],
            full: product(usize::MAX).map(|c| c as f32),
            without: [[0.0; 3]; 3],
            g: [[0.0; MOST_TAPS]; MOST],
        };
        let all: Vec<f64> = std::iter::once(0.0).chain(pairs.iter().flat_map(|p| [*p, -*p])).collect();
        for (j, p) in pairs.iter().enumerate() {
            points.pairs[j] = *p as f32;
            points.without[j].copy_from_slice(&product(j).map(|c| c as f32)[..3]);
        }
        for (i, p) in all.iter().enumerate() {
            let others: f64 = all.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, q)| p - q).product();
            for (k, g) in points.g[i][..taps].iter_mut().enumerate() {
                *g = (p.powi(k as i32) / others) as f32;
            }
        }
        if all.len() < points.n {
            points.g[points.n - 1][taps - 1] = 1.0;
        }
        Some(points)
    }
}

/// `B^T d`.
#[inline(always)]
unsafe fn input_transform<S: Simd, const N: usize>(points: &Points, d: &[S::V; N]) -> [S::V; N] {
    // SAFETY: the caller runs with the instruction set on.
    unsafe {
        let pairs = (N - 1) / 2;
        let mut out = [S::splat(0.0); N];
        out[0] = d[2 * pairs];
        // Without a point at infinity this is that of the last pair, which is overwritten below.
        out[N - 1] = d[N - 1];
        for i in 0..pairs {
            let c = S::splat(points.full[i]);
            out[0] = S::fma(c, d[2 * i], out[0]);
            out[N - 1] = S::fma(c, d[2 * i + 1], out[N - 1]);
        }
        for j in 0..pairs {
            let (mut even, mut odd) = (d[2 * pairs], d[2 * pairs - 1]);
            for i in 0..pairs - 1 {
                let c = S::splat(points.without[j][i]);
                even = S::fma(c, d[2 * i + 2], even);
                odd = S::fma(c, d[2 * i + 1], odd);
            }
            out[1 + 2 * j] = S::fma(S::splat(points.pairs[j]), odd, even);
            out[2 + 2 * j] = S::fma(S::splat(-points.pairs[j]), odd, even);
        }
        out
    }
}

/// `A^T m`.
#[inline(always)]
unsafe fn output_transform<S: Simd, const N: usize>(points: &Points, m: &[S::V; N]) -> [S::V; OUTPUTS] {
    // SAFETY: the caller runs with the instruction set on.
    unsafe {
        let zero = S::splat(0.0);
        let mut y = [m[0], zero, zero, if N.is_multiple_of(2) { m[N - 1] } else { zero }];
        for j in 0..(N - 1) / 2 {
            let p = points.pairs[j];
            let (even, odd) = (S::add(m[1 + 2 * j], m[2 + 2 * j]), S::sub(m[1 + 2 * j], m[2 + 2 * j]));
            y[0] = S::add(y[0], even);
            y[1] = S::fma(S::splat(p), odd, y[1]);
            y[2] = S::fma(S::splat(p * p), even, y[2]);
            y[3] = S::fma(S::splat(p * p * p), odd, y[3]);
        }
        y
    }
}

/// `A y`, the transpose of [`output_transform`].
#[inline(always)]
unsafe fn output_transform_transposed<S: Simd, const N: usize>(
    points: &Points,
    y: &[S::V; OUTPUTS],
) -> [S::V; N] {
    // SAFETY: the caller runs with the instruction set on.
    unsafe {
        let mut m = [y[0]; N];
        // Where there is no point at infinity, this is that of the last pair.
        m[N - 1] = y[3];
        for j in 0..(N - 1) / 2 {
            let p = points.pairs[j];
            let even = S::fma(S::splat(p * p), y[2], y[0]);
            let odd = S::fma(S::splat(p * p), y[3], y[1]);
            m[1 + 2 * j] = S::fma(S::splat(p), odd, even);
            m[2 + 2 * j] = S::fma(S::splat(-p), odd, even);
        }
        m
    }
}

/// Vectors of channels, with the lanes in use: all but in the last.
#[inline(always)]
fn each_vector<S: Simd>(channels: usize, mut visit: impl FnMut(usize, usize)) {
    let mut c = 0;
    while c < channels {
        visit(c, (channels - c).min(S::LANES));
        c += S::LANES;
    }
}

#[inline(always)]
unsafe fn load<S: Simd>(p: *const f32, lanes: usize) -> S::V {
    // SAFETY: the caller's pointer is good for `lanes` lanes.
    unsafe { if lanes == S::LANES { S::load(p) } else { S::load_part(p, lanes) } }
}

#[inline(always)]
unsafe fn store<S: Simd>(p: *mut f32, v: S::V, lanes: usize) {
    // SAFETY: the caller's pointer is good for `lanes` lanes.
    unsafe { if lanes == S::LANES { S::store(p, v) } else { S::store_part(p, v, lanes) } }
}

/// `B^T d B` of one tile: `pixels` are n*n pointers to `channels` elements each, row by row; product `(i, j)` goes to
/// `v + (i*n + j)*matrix`.
///
/// # Safety
/// The pointers must be good for that, the instruction set must be there and on, and `N` must be `points.n` where there is
/// one; so in all functions below.
#[inline(always)]
pub unsafe fn transform_input<S: Simd, const N: usize>(
    points: &Points,
    pixels: *const *const f32,
    channels: usize,
    v: *mut f32,
    matrix: usize,
) {
    each_vector::<S>(channels, |c, lanes| {
        // SAFETY: the caller's.
        unsafe {
            let mut half = [[S::splat(0.0); N]; N];
            for j in 0..N {
                let mut column = [S::splat(0.0); N];
                for i in 0..N {
                    column[i] = load::<S>((*pixels.add(i * N + j)).add(c), lanes);
                }
                half[j] = input_transform::<S, N>(points, &column);
            }
            for i in 0..N {
                let mut row = [S::splat(0.0); N];
                for j in 0..N {
                    row[j] = half[j][i];
                }
                let row = input_transform::<S, N>(points, &row);
                for j in 0..N {
                    store::<S>(v.add((i * N + j) * matrix + c), row[j], lanes);
                }
            }
        }
    });
}

/// `raw_epilogue(A^T m A)` of one tile: product `(i, j)` is at `m + (i*n + j)*matrix`; `pixels` are 4*4 pointers to
/// `channels` elements each, row by row, null where the tile hangs over the image.
#[inline(always)]
pub unsafe fn transform_output<S: Simd, const N: usize>(
    points: &Points,
    m: *const f32,
    matrix: usize,
    channels: usize,
    raw_epilogue: RawEpilogue,
    pixels: *const *mut f32,
) {
    each_vector::<S>(channels, |c, lanes| {
        // SAFETY: the caller's.
        unsafe {
            let mut half = [[S::splat(0.0); OUTPUTS]; N];
            for i in 0..N {
                let mut row = [S::splat(0.0); N];
                for j in 0..N {
                    row[j] = load::<S>(m.add((i * N + j) * matrix + c), lanes);
                }
                half[i] = output_transform::<S, N>(points, &row);
            }
            let bias = if raw_epilogue.bias.is_null() {
                S::splat(0.0)
            } else {
                load::<S>(raw_epilogue.bias.add(c), lanes)
            };
            for j in 0..OUTPUTS {
                let mut column = [S::splat(0.0); N];
                for i in 0..N {
                    column[i] = half[i][j];
                }
                let column = output_transform::<S, N>(points, &column);
                for i in 0..OUTPUTS {
                    let mut y = S::add(column[i], bias);
                    if let Some(slope) = raw_epilogue.slope {
                        y = S::activate(y, S::splat(slope));
                    }
                    let pixel = *pixels.add(i * OUTPUTS + j);
                    if !pixel.is_null() {
                        store::<S>(pixel.add(c), y, lanes);
                    }
                }
            }
        }
    });
}

/// `A y A^T` of one tile of gradients: `pixels` are 4*4 pointers to `channels` elements each; product `(i, j)` goes to
/// `m + (i*n + j)*matrix`.
#[inline(always)]
pub unsafe fn transform_gradient<S: Simd, const N: usize>(
    points: &Points,
    pixels: *const *const f32,
    channels: usize,
    m: *mut f32,
    matrix: usize,
) {
    each_vector::<S>(channels, |c, lanes| {
        // SAFETY: the caller's.
        unsafe {
            let mut half = [[S::splat(0.0); N]; OUTPUTS];
            for j in 0..OUTPUTS {
                let mut column = [S::splat(0.0); OUTPUTS];
                for i in 0..OUTPUTS {
                    column[i] = load::<S>((*pixels.add(i * OUTPUTS + j)).add(c), lanes);
                }
                half[j] = output_transform_transposed::<S, N>(points, &column);
            }
            for i in 0..N {
                let mut row = [S::splat(0.0); OUTPUTS];
                for j in 0..OUTPUTS {
                    row[j] = half[j][i];
                }
                let row = output_transform_transposed::<S, N>(points, &row);
                for j in 0..N {
                    store::<S>(m.add((i * N + j) * matrix + c), row[j], lanes);
                }
            }
        }
    });
}

/// `G w G^T` for `lanes` neighbouring output channels: `w` points to the first of them at the first tap; from one row of
/// taps to the next it is `row` elements, and from tap to tap in a row `column`. Product `(i, j)` goes to
/// `u + (i*n + j)*matrix`.
#[inline(always)]
pub unsafe fn transform_filter<S: Simd, const N: usize>(
    points: &Points,
    w: *const f32,
    [row, column]: [isize; 2],
    lanes: usize,
    u: *mut f32,
    matrix: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let taps = N - OUTPUTS + 1;
        // [column of the kernel][point of the rows]
        let mut half = [[S::splat(0.0); N]; MOST_TAPS];
        for s in 0..taps {
            for k in 0..taps {
                let w = load::<S>(w.offset(k as isize * row + s as isize * column), lanes);
                for i in 0..N {
                    half[s][i] = S::fma(S::splat(points.g[i][k]), w, half[s][i]);
                }
            }
        }
        for i in 0..N {
            for j in 0..N {
                let mut sum = S::splat(0.0);
                for s in 0..taps {
                    sum = S::fma(S::splat(points.g[j][s]), half[s][i], sum);
                }
                store::<S>(u.add((i * N + j) * matrix), sum, lanes);
            }
        }
    }
}

/// `G^T u G` for one output channel: product `(i, j)` is at `u + (i*n + j)*matrix`; `w` gets `channels` input channels
/// for each tap, `row` elements from one row of taps to the next and `column` from tap to tap in a row.
#[inline(always)]
pub unsafe fn transform_filter_gradient<S: Simd>(
    points: &Points,
    u: *const f32,
    matrix: usize,
    channels: usize,
    w: *mut f32,
    [row, column]: [usize; 2],
) {
    each_vector::<S>(channels, |c, lanes| {
        // SAFETY: the caller's.
        unsafe {
            let (n, r) = (points.n, points.taps);
            let mut half = [[S::splat(0.0); MOST]; MOST_TAPS];
            for i in 0..n {
                for j in 0..n {
                    let u = load::<S>(u.add((i * n + j) * matrix + c), lanes);
                    for s in 0..r {
                        half[s][i] = S::fma(S::splat(points.g[j][s]), u, half[s][i]);
                    }
                }
            }
            for k in 0..r {
                for s in 0..r {
                    let mut sum = S::splat(0.0);
                    for i in 0..n {
                        sum = S::fma(S::splat(points.g[i][k]), half[s][i], sum);
                    }
                    store::<S>(w.add(k * row + s * column + c), sum, lanes);
                }
            }
        }
    });
}
