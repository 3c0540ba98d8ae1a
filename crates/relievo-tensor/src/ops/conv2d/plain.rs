//! The convolution by its definition, in f64: the oracle of the tests.

use rayon::prelude::*;

use super::geometry::Conv2dGeometry;

/// The dot product, in eight partial sums, so that the compiler can use vectors.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(*a) * f64::from(*b);
        }
    }
    sums.iter().sum()
}

/// `sums += factor * row`.
fn add_scaled(sums: &mut [f64], factor: f32, row: &[f32]) {
    for (sum, x) in sums.iter_mut().zip(row) {
        *sum += f64::from(factor) * f64::from(*x);
    }
}

/// Every pair of a tap's row and column, with the tap's number.
fn taps(g: &Conv2dGeometry) -> impl Iterator<Item = (usize, usize, usize)> {
    let width = g.kernel_w();
    (0..g.taps()).map(move |tap| (tap, tap / width, tap % width))
}

/// `y = conv(x, w)`.
pub fn forward(g: &Conv2dGeometry, x: &[f32], w: &[f32], y: &mut [f64]) {
    y.par_chunks_mut(g.out_c()).enumerate().for_each(|(pixel, y)| {
        let (line, column) = (pixel / g.out_w(), pixel % g.out_w());
        let (image, row) = (line / g.out_h(), line % g.out_h());
        y.fill(0.0);
        for (tap, r, s) in taps(g) {
            let (Some(row), Some(column)) = (g.source(row, r, g.in_h()), g.source(column, s, g.in_w()))
            else {
                continue;
            };
            let x = &x[((image * g.in_h() + row) * g.in_w() + column) * g.in_c()..][..g.in_c()];
            for (output, sum) in y.iter_mut().enumerate() {
                *sum += dot(x, &w[(output * g.taps() + tap) * g.in_c()..][..g.in_c()]);
            }
        }
    });
}

/// `dx` = the gradient of `sum(conv(x, w) * dy)` in x: the transposed convolution of dy.
pub fn input_gradient(g: &Conv2dGeometry, dy: &[f32], w: &[f32], dx: &mut [f64]) {
    // The output that reads coordinate `at` by tap `tap`, along one axis.
    let reader = |at: usize, tap: usize, extent: usize| {
        let from = (at + g.padding()).checked_sub(tap).filter(|from| from % g.stride() == 0)?;
        Some(from / g.stride()).filter(|out| *out < extent)
    };
    dx.par_chunks_mut(g.in_c()).enumerate().for_each(|(pixel, dx)| {
        let (line, column) = (pixel / g.in_w(), pixel % g.in_w());
        let (image, row) = (line / g.in_h(), line % g.in_h());
        dx.fill(0.0);
        for (tap, r, s) in taps(g) {
            let (Some(row), Some(column)) = (reader(row, r, g.out_h()), reader(column, s, g.out_w())) else {
                continue;
            };
            let dy = &dy[((image * g.out_h() + row) * g.out_w() + column) * g.out_c()..][..g.out_c()];
            for (output, dy) in dy.iter().enumerate() {
                add_scaled(dx, *dy, &w[(output * g.taps() + tap) * g.in_c()..][..g.in_c()]);
            }
        }
    });
}

/// `dw` = the gradient of `sum(conv(x, w) * dy)` in w.
pub fn weight_gradient(g: &Conv2dGeometry, x: &[f32], dy: &[f32], dw: &mut [f64]) {
    dw.par_chunks_mut(g.in_c()).enumerate().for_each(|(at, dw)| {
        let (output, tap) = (at / g.taps(), at % g.taps());
        dw.fill(0.0);
        for (pixel, dy) in dy.chunks_exact(g.out_c()).enumerate() {
            let (line, column) = (pixel / g.out_w(), pixel % g.out_w());
            let (image, row) = (line / g.out_h(), line % g.out_h());
            let row = g.source(row, tap / g.kernel_w(), g.in_h());
            let column = g.source(column, tap % g.kernel_w(), g.in_w());
            if let (Some(row), Some(column)) = (row, column) {
                let from = ((image * g.in_h() + row) * g.in_w() + column) * g.in_c();
                add_scaled(dw, dy[output], &x[from..from + g.in_c()]);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_tensor;

    /// Calls `visit(x index, w index, y index)` for every product of the definition.
    fn each_product(g: &Conv2dGeometry, mut visit: impl FnMut(usize, usize, usize)) {
        for b in 0..g.batch() {
            for (oy, ox) in (0..g.out_h()).flat_map(|oy| (0..g.out_w()).map(move |ox| (oy, ox))) {
                for (r, s) in (0..g.kernel_h()).flat_map(|r| (0..g.kernel_w()).map(move |s| (r, s))) {
                    let (y, x) = (g.source(oy, r, g.in_h()), g.source(ox, s, g.in_w()));
                    let (Some(y), Some(x)) = (y, x) else { continue };
                    for (o, c) in (0..g.out_c()).flat_map(|o| (0..g.in_c()).map(move |c| (o, c))) {
                        visit(
                            ((b * g.in_h() + y) * g.in_w() + x) * g.in_c() + c,
                            ((o * g.kernel_h() + r) * g.kernel_w() + s) * g.in_c() + c,
                            ((b * g.out_h() + oy) * g.out_w() + ox) * g.out_c() + o,
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
            let operands = [(1, g.x_shape()), (2, g.w_shape()), (3, g.y_shape())];
            let [x, w, dy] = operands.map(|(seed, shape)| random_tensor(seed, shape).data().to_vec());
            let (mut y_is, mut dx_is) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
            let mut dw_is = vec![0.0; w.len()];
            each_product(&g, |xi, wi, yi| {
                y_is[yi] += f64::from(x[xi]) * f64::from(w[wi]);
                dx_is[xi] += f64::from(dy[yi]) * f64::from(w[wi]);
                dw_is[wi] += f64::from(dy[yi]) * f64::from(x[xi]);
            });
            let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
            forward(&g, &x, &w, &mut y);
            input_gradient(&g, &dy, &w, &mut dx);
            weight_gradient(&g, &x, &dy, &mut dw);
            for (name, got, is) in [("y", &y, &y_is), ("dx", &dx, &dx_is), ("dw", &dw, &dw_is)] {
                // Both in f64: only the order of additions differs.
                let worst = got.iter().zip(is).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(worst < 1e-12, "{name} of {g:?} is off by {worst}");
            }
        }
    }
}
