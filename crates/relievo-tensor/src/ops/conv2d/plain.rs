//! The convolution the plain way: unroll the input into a matrix (im2col), then one matrix product by the `gemm`
//! crate. Short enough to be trusted; the fast kernels are tested and timed against it.

use gemm::Parallelism;
use rayon::prelude::*;

use super::geometry::Conv2dGeometry;
use crate::Buffer;

/// A row-major matrix product `c[m,n] = a * b`, where `a` and `b` are given by their strides (row, column).
fn product(
    [m, n, k]: [usize; 3],
    c: &mut [f32],
    (a, a_strides): (&[f32], [usize; 2]),
    (b, b_strides): (&[f32], [usize; 2]),
) {
    let last =
        |extent: [usize; 2], strides: [usize; 2]| (extent[0] - 1) * strides[0] + (extent[1] - 1) * strides[1];
    assert!(last([m, k], a_strides) < a.len() && last([k, n], b_strides) < b.len() && c.len() == m * n);
    // SAFETY: the assertion above keeps every element the strides reach inside its slice.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            a_strides[1] as isize,
            a_strides[0] as isize,
            b.as_ptr(),
            b_strides[1] as isize,
            b_strides[0] as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}

/// Unrolls x: row = output pixel, columns = (tap row, tap column, channel).
fn im2col(g: &Conv2dGeometry, x: &[f32]) -> Buffer {
    let row = g.taps() * g.in_c;
    let mut columns = Buffer::empty(g.batch * g.out_h * g.out_w * row);
    columns.par_chunks_mut(g.out_w * row).enumerate().for_each(|(line, columns)| {
        let (b, oy) = (line / g.out_h, line % g.out_h);
        for (place, to) in columns.chunks_exact_mut(g.in_c).enumerate() {
            let (ox, tap) = (place / g.taps(), place % g.taps());
            let y = g.source(oy, tap / g.kernel_w, g.in_h);
            let x_at = g.source(ox, tap % g.kernel_w, g.in_w);
            match (y, x_at) {
                (Some(y), Some(x_at)) => {
                    let from = ((b * g.in_h + y) * g.in_w + x_at) * g.in_c;
                    to.copy_from_slice(&x[from..from + g.in_c]);
                }
                _ => to.fill(0.0),
            }
        }
    });
    columns
}

/// `y = conv(x, w)`.
pub fn forward(g: &Conv2dGeometry, x: &[f32], w: &[f32], y: &mut [f32]) {
    let (pixels, k) = (g.batch * g.out_h * g.out_w, g.taps() * g.in_c);
    product([pixels, g.out_c, k], y, (&im2col(g, x), [k, 1]), (w, [1, k]));
}

/// `dx` = the gradient of `sum(conv(x, w) * dy)` in x: the transposed convolution of dy.
pub fn input_gradient(g: &Conv2dGeometry, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    let (pixels, k) = (g.batch * g.out_h * g.out_w, g.taps() * g.in_c);
    let mut columns = Buffer::empty(pixels * k);
    product([pixels, k, g.out_c], &mut columns, (dy, [g.out_c, 1]), (w, [k, 1]));
    let image = g.out_h * g.out_w * k;
    let dx = dx.par_chunks_mut(g.in_h * g.in_w * g.in_c);
    dx.zip(columns.par_chunks(image)).for_each(|(dx, columns)| {
        dx.fill(0.0);
        for (place, from) in columns.chunks_exact(g.in_c).enumerate() {
            let (pixel, tap) = (place / g.taps(), place % g.taps());
            let y = g.source(pixel / g.out_w, tap / g.kernel_w, g.in_h);
            let x_at = g.source(pixel % g.out_w, tap % g.kernel_w, g.in_w);
            if let (Some(y), Some(x_at)) = (y, x_at) {
                let to = (y * g.in_w + x_at) * g.in_c;
                for (to, from) in dx[to..to + g.in_c].iter_mut().zip(from) {
                    *to += from;
                }
            }
        }
    });
}

/// `dw` = the gradient of `sum(conv(x, w) * dy)` in w.
pub fn weight_gradient(g: &Conv2dGeometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let (pixels, k) = (g.batch * g.out_h * g.out_w, g.taps() * g.in_c);
    product([g.out_c, k, pixels], dw, (dy, [1, g.out_c]), (&im2col(g, x), [k, 1]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::conv2d::testing::{distance, numbers};

    /// Calls `visit(x index, w index, y index)` for every product of the definition.
    fn each_product(g: &Conv2dGeometry, mut visit: impl FnMut(usize, usize, usize)) {
        for b in 0..g.batch {
            for (oy, ox) in (0..g.out_h).flat_map(|oy| (0..g.out_w).map(move |ox| (oy, ox))) {
                for (r, s) in (0..g.kernel_h).flat_map(|r| (0..g.kernel_w).map(move |s| (r, s))) {
                    let (y, x) = (g.source(oy, r, g.in_h), g.source(ox, s, g.in_w));
                    let (Some(y), Some(x)) = (y, x) else { continue };
                    for (o, c) in (0..g.out_c).flat_map(|o| (0..g.in_c).map(move |c| (o, c))) {
                        visit(
                            ((b * g.in_h + y) * g.in_w + x) * g.in_c + c,
                            ((o * g.kernel_h + r) * g.kernel_w + s) * g.in_c + c,
                            ((b * g.out_h + oy) * g.out_w + ox) * g.out_c + o,
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn agrees_with_the_definition() {
        for (x, w, stride, padding) in [
            ([2, 5, 6, 3], [4, 3, 3, 3], 1, 1),
            ([1, 8, 7, 2], [5, 4, 4, 2], 2, 1),
            ([3, 4, 4, 6], [7, 4, 4, 6], 1, 0),
            ([1, 7, 5, 3], [2, 5, 3, 3], 1, 2),
            ([2, 6, 6, 4], [3, 3, 2, 4], 2, 0),
        ] {
            let g = Conv2dGeometry::new(x, w, stride, padding).unwrap();
            let (x, w) = (numbers(1, g.x_elements()), numbers(2, g.w_elements()));
            let dy = numbers(3, g.y_elements());
            let (mut y_is, mut dx_is) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
            let mut dw_is = vec![0.0; w.len()];
            each_product(&g, |xi, wi, yi| {
                y_is[yi] += x[xi] * w[wi];
                dx_is[xi] += dy[yi] * w[wi];
                dw_is[wi] += dy[yi] * x[xi];
            });
            let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
            forward(&g, &x, &w, &mut y);
            input_gradient(&g, &dy, &w, &mut dx);
            weight_gradient(&g, &x, &dy, &mut dw);
            for (name, got, is) in [("y", &y, &y_is), ("dx", &dx, &dx_is), ("dw", &dw, &dw_is)] {
                assert!(distance(got, is) < 1e-6, "{name} of {g:?} is off by {}", distance(got, is));
            }
        }
    }
}
