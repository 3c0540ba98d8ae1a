//! The fast convolution against the plain one, at every level this machine has and on any number of threads.

use proptest::prelude::*;

use super::*;
use crate::ops::conv2d::plain;
use crate::testing::{distance, random_tensor};

#[path = "../../../../benches/conv/layers.rs"]
#[allow(dead_code)]
mod layers;

fn numbers(seed: u64, len: usize) -> Vec<f32> {
    random_tensor(seed, [len]).data().to_vec()
}

fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|x| f64::from(*x)).collect()
}

fn narrow(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|x| *x as f32).collect()
}

/// All three products: y, dx and dw.
fn products(level: SimdLevel, g: &Conv2dGeometry) -> [Vec<f32>; 3] {
    let (x, w, dy) = operands(g);
    // What is not written shows.
    let mut all = [g.y_elements(), g.x_elements(), g.w_elements()].map(|len| vec![f32::NAN; len]);
    forward_at(level, g, &x, &w, &mut all[0], Epilogue::NONE);
    input_gradient_at(level, g, &dy, &w, &mut all[1], Epilogue::NONE);
    weight_gradient_at(level, g, &x, &dy, &mut all[2]);
    all
}

fn operands(g: &Conv2dGeometry) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    (numbers(1, g.x_elements()), numbers(2, g.w_elements()), numbers(3, g.y_elements()))
}

/// Compares all three products with the plain ones, at each of the levels.
fn agrees_with_plain(levels: impl IntoIterator<Item = SimdLevel>, g: &Conv2dGeometry) {
    let (x, w, dy) = operands(g);
    let mut plain = [g.y_elements(), g.x_elements(), g.w_elements()].map(|len| vec![0.0; len]);
    plain::forward(g, &x, &w, &mut plain[0]);
    plain::input_gradient(g, &dy, &w, &mut plain[1]);
    plain::weight_gradient(g, &x, &dy, &mut plain[2]);
    // Winograd's weight gradient adds thousands of tiles before it subtracts large numbers from each other.
    let near = [("y", 5e-6), ("dx", 5e-6), ("dw", 2e-5)];
    for level in levels {
        for ((got, is), (name, near)) in products(level, g).iter().zip(&plain).zip(near) {
            let off = distance(got, is);
            assert!(off < near, "{level:?}: {name} of {g:?} is off by {off}");
        }
    }
}

fn geometry_of(layer: &layers::Layer, batch: usize) -> Conv2dGeometry {
    let layers::Layer { size, in_c, out_c, kernel, stride, padding, .. } = *layer;
    Conv2dGeometry::new([batch, size, size, in_c], [out_c, kernel, kernel, in_c], stride, padding).unwrap()
}

#[test]
fn every_layer_of_the_networks_agrees_with_the_plain_one() {
    for layer in layers::LAYERS {
        agrees_with_plain([SimdLevel::best()], &geometry_of(layer, 2));
        if layer.size <= 16 {
            // Enough small images for the ways that are for many.
            agrees_with_plain([SimdLevel::best()], &geometry_of(layer, 9));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn odd_shapes_agree_at_every_level(
        (batch, h, w) in (1usize..6, 1usize..18, 1usize..18),
        (in_c, out_c) in (1usize..71, 1usize..71),
        (kernel_h, kernel_w, square) in (1usize..6, 1usize..6, any::<bool>()),
        (stride, padding) in (1usize..3, 0usize..3),
    ) {
        let kernel_w = if square { kernel_h } else { kernel_w };
        let g = Conv2dGeometry::new([batch, h, w, in_c], [out_c, kernel_h, kernel_w, in_c], stride, padding);
        // Kernels larger than the padded image are refused.
        prop_assume!(g.is_ok());
        agrees_with_plain(SimdLevel::available(), &g.unwrap());
    }
}

#[test]
fn winograd_agrees_at_every_level_where_tiles_hang_over() {
    let cases = [
        ([15, 17], [33, 70], 3, 1, 1),
        ([18, 13], [20, 37], 5, 1, 1),
        ([9, 30], [140, 150], 3, 1, 1),
        ([14, 15], [20, 37], 2, 1, 1),
        ([26, 31], [33, 70], 4, 2, 1),
        ([29, 24], [20, 37], 4, 2, 0),
        ([25, 30], [90, 100], 4, 2, 3),
        ([30, 27], [18, 40], 6, 2, 2),
        ([43, 40], [11, 20], 6, 3, 1),
    ];
    for ([h, w], [in_c, out_c], kernel, stride, padding) in cases {
        let g = Conv2dGeometry::new([3, h, w, in_c], [out_c, kernel, kernel, in_c], stride, padding).unwrap();
        let ways = [winograd::suits, winograd::suits_input_gradient, winograd::suits_weight_gradient];
        assert!(ways.iter().all(|suits| suits(&g)), "{g:?}");
        agrees_with_plain(SimdLevel::available(), &g);
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for layer in layers::LAYERS.iter().filter(|layer| layer.size <= 32) {
        let g = geometry_of(layer, 5);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| products(SimdLevel::best(), &g))
        };
        let one = on(1);
        for threads in [2, 3] {
            assert!(one == on(threads), "{threads} threads: other results for {g:?}");
        }
    }
}

/// All ways but the two that convert the output afterwards load a whole tile of the bias.
#[test]
#[should_panic(expected = "the bias has another length than there are channels")]
fn a_bias_of_another_length_is_refused() {
    let g = Conv2dGeometry::new([1, 8, 8, 3], [16, 3, 3, 3], 1, 1).unwrap();
    let (x, w, mut y) = operands(&g);
    forward(&g, &x, &w, &mut y, Epilogue { bias: Some(&[0.0]), ..Epilogue::NONE });
}

#[test]
#[should_panic(expected = "the bias has another length than there are channels")]
fn a_bias_of_another_length_is_refused_by_the_input_gradient() {
    let g = Conv2dGeometry::new([1, 8, 8, 16], [3, 4, 4, 16], 2, 1).unwrap();
    let (mut dx, w, dy) = operands(&g);
    input_gradient(&g, &dy, &w, &mut dx, Epilogue { bias: Some(&[0.0; 17]), ..Epilogue::NONE });
}

#[test]
fn forward_and_input_gradient_are_linear_and_adjoint() {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    for layer in layers::LAYERS.iter().filter(|layer| layer.size <= 32) {
        let g = geometry_of(layer, 2);
        let (x, w, dy) = operands(&g);
        let [y, dx, dw] = products(SimdLevel::best(), &g);
        let (over_y, over_x, over_w) = (dot(&y, &dy), dot(&dx, &x), dot(&dw, &w));
        let scale = dot(&y, &y).sqrt() * dot(&dy, &dy).sqrt();
        assert!((over_y - over_x).abs() < 1e-6 * scale, "{g:?}: {over_y} and {over_x}");
        assert!((over_y - over_w).abs() < 1e-6 * scale, "{g:?}: {over_y} and {over_w}");
        let other = numbers(4, x.len());
        let mixed: Vec<f32> = x.iter().zip(&other).map(|(a, b)| 2.0 * a - 0.5 * b).collect();
        let (mut y_other, mut y_mixed) = (vec![0.0; y.len()], vec![0.0; y.len()]);
        forward(&g, &other, &w, &mut y_other, Epilogue::NONE);
        forward(&g, &mixed, &w, &mut y_mixed, Epilogue::NONE);
        let expected: Vec<f32> = y.iter().zip(&y_other).map(|(a, b)| 2.0 * a - 0.5 * b).collect();
        assert!(distance(&y_mixed, &wide(&expected)) < 1e-5, "{g:?} is not linear");
    }
}

#[test]
fn every_way_ends_in_bias_and_activation() {
    // Winograd by tiles, by panels, and with a stride; packed, by pixels, dot products, by contributions, and the whole
    // image as one pixel.
    let ways = [
        ([2, 16, 16, 24], [40, 3, 3, 24], 1, 1),
        ([2, 16, 16, 150], [160, 3, 3, 150], 1, 1),
        ([4, 16, 16, 24], [40, 4, 4, 24], 2, 1),
        ([2, 16, 16, 24], [40, 3, 3, 24], 2, 1),
        ([1, 8, 8, 24], [70, 4, 4, 24], 2, 1),
        ([1, 4, 4, 24], [40, 4, 4, 24], 2, 1),
        ([2, 18, 7, 40], [3, 5, 5, 40], 1, 2),
        ([2, 4, 4, 24], [40, 4, 4, 24], 1, 0),
    ];
    use Activation::{Identity, LeakyRelu, Relu, Softplus, Tanh};
    for (x, w, stride, padding) in ways {
        let g = Conv2dGeometry::new(x, w, stride, padding).unwrap();
        let (x, w, dy) = operands(&g);
        for activation in [Identity, Relu, LeakyRelu, Tanh, Softplus] {
            for level in SimdLevel::available() {
                let bias = numbers(7, g.out_c());
                let epilogue = Epilogue { bias: Some(&bias), activation };
                let (mut got, mut is) = (vec![0.0; dy.len()], vec![0.0; dy.len()]);
                forward_at(level, &g, &x, &w, &mut got, epilogue);
                plain::forward(&g, &x, &w, &mut is);
                let mut is = narrow(&is);
                epilogue.apply(&mut is, g.out_c());
                assert!(distance(&got, &wide(&is)) < 5e-6, "{level:?}: y of {g:?}, {activation:?}");

                let bias = numbers(7, g.in_c());
                let epilogue = Epilogue { bias: Some(&bias), activation };
                let (mut got, mut is) = (vec![0.0; x.len()], vec![0.0; x.len()]);
                input_gradient_at(level, &g, &dy, &w, &mut got, epilogue);
                plain::input_gradient(&g, &dy, &w, &mut is);
                let mut is = narrow(&is);
                epilogue.apply(&mut is, g.in_c());
                assert!(distance(&got, &wide(&is)) < 5e-6, "{level:?}: dx of {g:?}, {activation:?}");
            }
        }
    }
}
