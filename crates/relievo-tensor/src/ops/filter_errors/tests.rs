use super::*;
use crate::testing::{Tolerance, assert_gradients, assert_operation_independent_of_threads, random_tensor};

fn separable(factor: f32, down: &[f32], along: &[f32]) -> Separable {
    Separable { factor, down: down.to_vec(), along: along.to_vec() }
}

fn filter(name: &str, scale: f32, terms: Vec<Separable>) -> Filter {
    Filter { name: name.into(), scale, terms }
}

/// A point, a slope at an angle that shares kernels with a bump, and something of rank 2, at three scales.
fn bank() -> FilterBank {
    let (one, bump, slope) = ([1.0], [0.25, 0.5, 0.25], [-0.5, 0.0, 0.5]);
    let odd = [0.1, -0.4, 0.7, 0.2, -0.3];
    let filters = vec![
        filter("wide", 2.0, vec![separable(1.0, &odd, &bump), separable(-0.5, &bump, &odd)]),
        filter("point", 0.0, vec![separable(1.0, &one, &one)]),
        filter("bump", 1.0, vec![separable(1.0, &bump, &bump)]),
        filter("slope", 1.0, vec![separable(0.6, &bump, &slope), separable(0.8, &slope, &bump)]),
    ];
    FilterBank::new(filters).unwrap()
}

fn mask_of(images: usize, height: usize, width: usize) -> Tensor {
    let is_in = |at: usize| !at.is_multiple_of(width) && at / width % height < height - 1;
    let mask: Vec<f32> = (0..images * height * width).map(|at| f32::from(u8::from(is_in(at)))).collect();
    Tensor::new(&mask, [images, height, width]).unwrap()
}

/// The errors of all scales, one after the other.
fn all_errors(x: &[Tensor], mask: &Tensor, bank: &FilterBank) -> Result<Tensor> {
    let errors = filter_errors(&x[0], &x[1], mask, bank)?;
    let mut all = errors[0].clone();
    for error in &errors[1..] {
        all = crate::ops::concat(&all, error, crate::ops::ConcatAxis::Channels)?;
    }
    Ok(all)
}

#[test]
fn errors_are_those_of_the_whole_filters() {
    let (height, width) = (6, 7);
    let (found, target) = (random_tensor(1, [4, height, width, 3]), random_tensor(2, [2, height, width, 3]));
    for masks in [2, 4] {
        let (mask, bank) = (mask_of(masks, height, width), bank());
        let errors = filter_errors(&found, &target, &mask, &bank).unwrap();
        let scales: Vec<_> = bank.scales().collect();
        assert_eq!(scales, [(0.0, 0.25), (1.0, 0.5), (2.0, 0.25)]);
        let difference = |image: usize, row: isize, column: isize, channel: usize| {
            if row < 0 || column < 0 || row >= height as isize || column >= width as isize {
                return 0.0;
            }
            let pixel = row as usize * width + column as usize;
            let at = |images: usize| (image % images * height * width + pixel) * 3 + channel;
            mask.data()[image % masks * height * width + pixel] * (found.data()[at(4)] - target.data()[at(2)])
        };
        for (errors, (scale, _)) in errors.iter().zip(scales) {
            assert_eq!(errors.shape(), [4, height, width, 1].into());
            let filters: Vec<&Filter> = bank.filters().iter().filter(|of| of.scale == scale).collect();
            for (at, error) in errors.data().iter().enumerate() {
                let (image, pixel) = (at / (height * width), at % (height * width));
                let mut right = 0.0;
                for taps in filters.iter().map(|filter| filter.taps()) {
                    for channel in 0..3 {
                        let mut response = 0.0;
                        for (v, row) in taps.iter().enumerate() {
                            for (u, tap) in row.iter().enumerate() {
                                let row = (pixel / width + v) as isize - taps.len() as isize / 2;
                                let column = (pixel % width + u) as isize - taps[0].len() as isize / 2;
                                response += tap * difference(image, row, column, channel);
                            }
                        }
                        right += response.abs() / (3 * filters.len()) as f32;
                    }
                }
                assert!((error - right).abs() < 1e-5, "{error}, {right}");
            }
        }
    }
}

#[test]
fn gradients_agree_with_differences_on_any_number_of_threads() {
    let mask = mask_of(2, 5, 6);
    let inputs = [random_tensor(1, [4, 5, 6, 3]), random_tensor(2, [2, 5, 6, 3])];
    let tolerance = Tolerance { norm: 1e-2, element: 3e-2 };
    // Of the target there is no gradient.
    assert_gradients(&inputs[..1], 1.0 / 4096.0, tolerance, |x| {
        all_errors(&[x[0].clone(), inputs[1].clone()], &mask, &bank())
    });
    let mask = mask_of(3, 17, 19);
    let inputs = [random_tensor(3, [3, 17, 19, 3]), random_tensor(4, [3, 17, 19, 3])];
    assert_operation_independent_of_threads(&inputs, |x| all_errors(x, &mask, &bank()));
}

#[test]
fn no_error_has_no_gradient() {
    let tape = crate::Tape::new();
    let image = random_tensor(1, [1, 5, 6, 3]);
    let x = tape.watch(&image);
    let errors = all_errors(&[x.clone(), image.clone()], &mask_of(1, 5, 6), &bank()).unwrap();
    assert!(errors.data().iter().all(|error| *error == 0.0));
    assert!(tape.backward(&errors).unwrap().get(&x).unwrap().data().iter().all(|dx| *dx == 0.0));
}

#[test]
fn banks_that_make_no_sense_are_refused() {
    let refusal = |filters: Vec<Filter>| FilterBank::new(filters).unwrap_err().to_string();
    assert!(refusal(vec![]).contains("0 filters"));
    assert!(refusal(vec![filter("a", 0.0, vec![])]).contains("`a` has no terms"));
    let even = refusal(vec![filter("a", 0.0, vec![separable(1.0, &[1.0, 2.0], &[1.0])])]);
    assert!(even.contains("a kernel of 2 taps"), "{even}");
    let nan = refusal(vec![filter("a", 0.0, vec![separable(f32::NAN, &[1.0], &[1.0])])]);
    assert!(nan.contains("no finite number"), "{nan}");
    let wide = refusal(vec![filter("a", f32::INFINITY, vec![separable(1.0, &[1.0], &[1.0])])]);
    assert!(wide.contains("the scale inf"), "{wide}");
    let image = random_tensor(1, [2, 4, 4, 3]);
    let other = filter_errors(&image, &random_tensor(1, [2, 4, 5, 3]), &mask_of(2, 4, 4), &bank());
    assert!(other.unwrap_err().to_string().contains("filter_errors: a reconstruction of shape [2, 4, 4, 3]"));
}
