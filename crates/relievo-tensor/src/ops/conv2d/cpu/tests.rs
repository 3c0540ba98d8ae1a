//! The fast convolution against the plain one.

use super::*;
use crate::ops::conv2d::plain;
use crate::ops::conv2d::testing::{distance, numbers};

#[path = "../../../../benches/conv/layers.rs"]
#[allow(dead_code)]
mod layers;

/// Compares all three products with the plain ones.
fn agrees_with_plain(level: Level, g: &Conv2dGeometry) {
    let (x, w) = (numbers(1, g.x_elements()), numbers(2, g.w_elements()));
    let dy = numbers(3, g.y_elements());
    let far = |name: &str, got: &[f32], is: &[f32]| {
        let off = distance(got, is);
        // Winograd's weight gradient adds thousands of tiles before it subtracts large numbers from each other.
        let near = if name == "dw" { 2e-5 } else { 5e-6 };
        assert!(off < near, "{level:?}: {name} of {g:?} is off by {off}");
    };
    let (mut got, mut is) = (vec![f32::NAN; dy.len()], vec![0.0; dy.len()]);
    forward_at(level, g, &x, &w, &mut got, Epilogue::NONE);
    plain::forward(g, &x, &w, &mut is);
    far("y", &got, &is);
    let (mut got, mut is) = (vec![f32::NAN; x.len()], vec![0.0; x.len()]);
    input_gradient_at(level, g, &dy, &w, &mut got, Epilogue::NONE);
    plain::input_gradient(g, &dy, &w, &mut is);
    far("dx", &got, &is);
    let (mut got, mut is) = (vec![f32::NAN; w.len()], vec![0.0; w.len()]);
    weight_gradient_at(level, g, &x, &dy, &mut got);
    plain::weight_gradient(g, &x, &dy, &mut is);
    far("dw", &got, &is);
}

#[test]
fn every_layer_of_the_networks_agrees_with_the_plain_one() {
    for layer in layers::LAYERS {
        let layers::Layer { size, in_c, out_c, kernel, stride, padding, .. } = *layer;
        let g = |batch| {
            let x = [batch, size, size, in_c];
            Conv2dGeometry::new(x, [out_c, kernel, kernel, in_c], stride, padding).unwrap()
        };
        agrees_with_plain(Level::best(), &g(2));
    }
}
