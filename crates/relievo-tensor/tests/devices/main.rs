//! Every operation on a GPU against the same on the CPU: outputs and gradients, in f32 and bf16 (Adam in `adam.rs`), and
//! what all of them rely on: copies, graphs, streams, launches (`runtime.rs`). On the GPU named by RELIEVO_DEVICE if
//! there is one, else on the emulator.

mod adam;
mod runtime;

use relievo_tensor::ops::{
    Activation, ColumnPrior, ConcatAxis, ConvParams, Filter, FilterBank, Separable, activate, albedo_loss,
    cast, census_errors, column_prior_error, concat, concat_flipped, concat_swapped, conv_transpose2d,
    conv2d, face_geometry, filter_errors, gaussian_mean, grid_sample, group_norm, max_pool, modulate,
    mul_columns, narrow_batch, overlap, perceptual_loss, photometric_loss, reshape, smoothness,
    structure_errors, upsample_conv2d, weighted_elements_sum, weighted_sum,
};
use relievo_tensor::testing::{
    assert_devices_agree, assert_lowerings_agree, distance, random_multiples, random_tensor,
};
use relievo_tensor::{DataType, Device, Error, Result, Tape, Tensor};

/// Runs the comparison in both types.
fn agree(inputs: &[Tensor], operation: impl Fn(&[Tensor], DataType) -> Result<Tensor>) {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    for (data_type, tolerance) in [(DataType::F32, 2e-6), (DataType::Bf16, 1e-2)] {
        assert_devices_agree(Device::Cuda(ordinal), data_type, tolerance, inputs, &operation);
    }
}

#[track_caller]
fn assert_same_bits(there: &[Tensor], here: &[Tensor]) {
    for (there, here) in there.iter().zip(here) {
        assert_eq!(there.to_device(Device::Cpu).unwrap().data(), here.data());
    }
}

#[test]
fn bf16_is_the_nearest_with_ties_to_even() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let x = [1.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -3.0e-39, f32::INFINITY, 3.4e38, f32::NAN];
    let x = Tensor::new(&x, [7]).unwrap().to_device(Device::Cuda(ordinal)).unwrap();
    let y = cast(&x, DataType::Bf16).unwrap().to_device(Device::Cpu).unwrap();
    assert_eq!(y.data()[..3], [1.0, 1.0, 1.015_625]);
    assert_eq!(y.data()[4..6], [f32::INFINITY, f32::INFINITY]);
    assert!(y.data()[3] < 0.0 && y.data()[6].is_nan());
}

#[test]
fn activations() {
    for activation in [
        Activation::Identity,
        Activation::Relu,
        Activation::LeakyRelu,
        Activation::Tanh,
        Activation::Softplus,
    ] {
        agree(&[random_tensor(1, [3, 5, 7, 11])], |x, real| activate(&cast(&x[0], real)?, activation));
    }
}

/// What is not a number passes through every activation and its slope, on every device: a broken network must not look
/// like a quiet one.
#[test]
fn slopes_of_what_is_not_a_number() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    for activation in [Activation::Relu, Activation::LeakyRelu, Activation::Tanh, Activation::Softplus] {
        let slopes = |device: Device| -> Vec<f32> {
            let tape = Tape::new();
            let x = Tensor::new(&[f32::NAN, -1.0, 0.0, 1.0], [4]).unwrap();
            let x = tape.watch(&x.to_device(device).unwrap());
            let y = activate(&x, activation).unwrap();
            assert!(y.to_device(Device::Cpu).unwrap().data()[0].is_nan(), "{activation:?} on {device}");
            let slopes = tape.backward(&y).unwrap().take(&x).unwrap().to_device(Device::Cpu).unwrap();
            slopes.data().to_vec()
        };
        for (there, here) in slopes(Device::Cuda(ordinal)).into_iter().zip(slopes(Device::Cpu)) {
            let same = there.is_nan() && here.is_nan() || (there - here).abs() < 1e-6;
            assert!(same, "{activation:?}: {there} on the GPU, {here} on the CPU");
        }
    }
}

#[test]
fn sums() {
    let inputs = [random_tensor(1, [3, 41]), random_tensor(2, [3, 41]), random_tensor(3, [3, 41])];
    agree(&inputs, |x, real| {
        let x = [cast(&x[0], real)?, cast(&x[1], real)?, cast(&x[2], real)?];
        weighted_sum(&[(2.0, &x[0]), (-0.5, &x[1]), (1.0, &x[2]), (1.0, &x[0])])
    });
}

#[test]
fn priors_of_columns() {
    let counted: Vec<f32> = (0..300).map(|row| f32::from(u8::from(row % 3 > 0))).collect();
    let counted = Tensor::new(&counted, [300]).unwrap();
    let priors = [
        ColumnPrior { column: 0, mean: None, deviation: 0.3 },
        ColumnPrior { column: 4, mean: Some(0.5), deviation: 0.7 },
    ];
    agree(&[random_tensor(1, [300, 6])], |x, _| {
        column_prior_error(&x[0], &counted.to_device(x[0].device())?, &priors)
    });
}

#[test]
fn overlaps() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let masks = [1, 2].map(|seed| {
        let noise = random_tensor(seed, [2, 19, 21]);
        let mask: Vec<f32> = noise.data().iter().map(|x| f32::from(u8::from(*x > -0.9))).collect();
        Tensor::new(&mask, [2, 19, 21]).unwrap()
    });
    let on = |device: Device| {
        let [a, b] = masks.each_ref().map(|mask| mask.to_device(device).unwrap());
        overlap(&a, &b).unwrap().to_device(Device::Cpu).unwrap()
    };
    let [right, found] = [Device::Cpu, Device::Cuda(ordinal)].map(on);
    assert_eq!(right.data(), found.data());
    assert!([0.0, 1.0].iter().all(|value| right.data().contains(value)));
}

#[test]
fn convolutions() {
    for (kernel, stride, padding) in [(4, 2, 1), (3, 1, 1), (5, 1, 2), (4, 1, 0), (1, 1, 0)] {
        // Softplus has no kink for a rounding to fall on the other side of.
        let params = ConvParams::new(stride, padding, Activation::Softplus);
        let inputs =
            [random_tensor(1, [2, 8, 8, 5]), random_tensor(2, [6, kernel, kernel, 5]), random_tensor(3, [6])];
        agree(&inputs, |x, real| {
            conv2d(&cast(&x[0], real)?, &cast(&x[1], real)?, Some(&cast(&x[2], real)?), params)
        });
        // Weights of f32 whatever the images are.
        agree(&inputs, |x, real| conv2d(&cast(&x[0], real)?, &x[1], Some(&x[2]), params));
        let inputs =
            [random_tensor(1, [2, 4, 4, 6]), random_tensor(2, [6, kernel, kernel, 5]), random_tensor(3, [5])];
        agree(&inputs, |x, real| {
            conv_transpose2d(&cast(&x[0], real)?, &cast(&x[1], real)?, Some(&cast(&x[2], real)?), params)
        });
        agree(&inputs, |x, real| conv_transpose2d(&cast(&x[0], real)?, &x[1], Some(&x[2]), params));
    }
    // More pixels and channels than a block of the bias's gradient takes; biases by fours.
    let params = ConvParams::new(1, 0, Activation::Softplus);
    let inputs = [random_tensor(1, [2, 24, 24, 5]), random_tensor(2, [36, 1, 1, 5]), random_tensor(3, [36])];
    agree(&inputs, |x, real| {
        conv2d(&cast(&x[0], real)?, &cast(&x[1], real)?, Some(&cast(&x[2], real)?), params)
    });
}

/// A weight gradient sums over all pixels of a batch, 262,144 in training: in bf16 nothing but its factors and the result
/// may be rounded. As large as in training on a GPU, and small on the emulator.
#[test]
fn weight_gradients_of_many_pixels_are_summed_in_f32() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let is_real = std::env::var_os("RELIEVO_DEVICE").is_some();
    let (batch, side, channels) = if is_real { (64, 64, 64) } else { (2, 16, 8) };
    for (kernel, stride, padding) in [(3, 1, 1), (4, 2, 1)] {
        let params = ConvParams::new(stride, padding, Activation::Identity);
        let out = side / stride;
        let rounded = |seed: u64, shape: [usize; 4]| {
            cast(&random_tensor(seed, shape).to_device(Device::Cuda(ordinal)).unwrap(), DataType::Bf16)
                .unwrap()
        };
        let x = rounded(1, [batch, side, side, channels]);
        let w = rounded(2, [channels, kernel, kernel, channels]);
        let dy = rounded(3, [batch, out, out, channels]);
        let gradient = |data_type: DataType| {
            let [x, w, dy] = [&x, &w, &dy].map(|tensor| cast(tensor, data_type).unwrap());
            let tape = Tape::new();
            let w = tape.watch(&w);
            let y = conv2d(&x, &w, None, params).unwrap();
            let gradient = tape.backward_from(&[(&y, dy)]).unwrap().take(&w).unwrap();
            cast(&gradient, DataType::F32).unwrap().to_device(Device::Cpu).unwrap()
        };
        let right: Vec<f64> = gradient(DataType::F32).data().iter().map(|x| f64::from(*x)).collect();
        let off = distance(gradient(DataType::Bf16).data(), &right);
        println!("{kernel}x{kernel}: off by {off:.1e}");
        // A result of 8 bits is off by 0.2 % at most.
        assert!(off < 4e-3, "{kernel}x{kernel}, stride {stride}: off by {off}");
    }
}

#[test]
fn convolutions_in_other_lowerings() {
    if let Some(ordinal) = relievo_cuda_emulator::test_gpu() {
        let with_relu = assert_lowerings_agree(ordinal);
        // What a GPU's cuDNN can do is not for this test to say.
        assert!(with_relu == 15 || std::env::var_os("RELIEVO_DEVICE").is_some(), "{with_relu}");
    }
}

/// `scale * x + offset`.
fn moved(x: &Tensor, scale: f32, offset: f32) -> Tensor {
    let elements: Vec<f32> = x.data().iter().map(|x| scale * x + offset).collect();
    Tensor::new(&elements, x.shape()).unwrap()
}

#[test]
fn group_normalisations() {
    // Odd sizes, one group, groups of one channel, channels that are no multiple of four, more columns than a block has
    // threads, several blocks for an image; as many pixels as a block does by itself, and one more row. Elements are
    // exact in bf16, so that kinks lie in the same places.
    for (shape, groups) in [
        ([3, 8, 8, 16], 4),
        ([2, 5, 7, 6], 2),
        ([2, 4, 3, 5], 1),
        ([2, 3, 3, 8], 8),
        ([1, 2, 3, 7], 7),
        ([2, 3, 2, 300], 25),
        ([2, 3, 3, 1040], 260),
        ([2, 31, 33, 64], 16),
        ([2, 32, 32, 24], 2),
        ([2, 32, 33, 64], 16),
        ([2, 16, 4, 48], 1),
        ([3, 1, 1, 8], 1),
    ] {
        let [.., channels] = shape;
        let x = random_multiples(1, shape, 6);
        // Far from zero, with a little of it left.
        let far = moved(&random_multiples(1, shape, 4), 8.0, 100.0);
        for (x, activation) in
            [(&x, Activation::Relu), (&x, Activation::Softplus), (&far, Activation::LeakyRelu)]
        {
            let weight = moved(&random_tensor(2, [channels]), 0.5, 1.0);
            let inputs = [x.clone(), weight, random_tensor(3, [channels])];
            agree(&inputs, |x, real| group_norm(&cast(&x[0], real)?, &x[1], &x[2], groups, 1e-5, activation));
        }
    }
    // Where squares have no digits left for the variance.
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let x = moved(&random_tensor(1, [2, 9, 8, 12]), 1.0, 10_000.0);
    let inputs = [x, random_tensor(2, [12]), random_tensor(3, [12])];
    assert_devices_agree(Device::Cuda(ordinal), DataType::F32, 1e-5, &inputs, |x, _| {
        group_norm(&x[0], &x[1], &x[2], 3, 1e-5, Activation::Identity)
    });
}

#[test]
fn modulations() {
    // One pixel, channels that are no multiple of 32, more than one block of them. Elements are exact in bf16, so that
    // kinks lie in the same places.
    for shape in [[3, 1, 1, 8], [2, 5, 7, 6], [2, 9, 8, 33], [1, 16, 15, 80]] {
        let [images, _, _, channels] = shape;
        for activation in
            [Activation::Identity, Activation::Relu, Activation::LeakyRelu, Activation::Softplus]
        {
            let inputs = [random_multiples(1, shape, 6), random_multiples(2, [images, 2 * channels], 2)];
            agree(&inputs, |x, real| modulate(&cast(&x[0], real)?, &x[1], activation));
        }
    }
}

#[test]
fn small_operations() {
    agree(&[random_tensor(1, [7, 3])], |x, real| reshape(&cast(&x[0], real)?, [3, 7, 1]));
    for count in [1, 5, 300] {
        let weights = random_tensor(2, [count]);
        agree(&[random_tensor(1, [count])], |x, real| {
            weighted_elements_sum(&cast(&x[0], real)?, weights.data())
        });
    }
    for columns in [1, 6, 300] {
        let factors = random_tensor(2, [columns]);
        agree(&[random_tensor(1, [9, columns])], |x, real| mul_columns(&cast(&x[0], real)?, factors.data()));
    }
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let there = random_tensor(1, [2, 3]).to_device(Device::Cuda(ordinal)).unwrap();
    for refused in
        [reshape(&there, [5]), weighted_elements_sum(&there, &[1.0]), mul_columns(&there, &[1.0, 2.0])]
    {
        assert!(matches!(refused, Err(Error::Shape { .. })));
    }
}

#[test]
fn smoothness_of_depth() {
    // Few different depths: some differences are zero, and bf16 has them all.
    for shape in [[2, 5, 7], [3, 40, 50], [1, 1, 6], [3, 4, 1], [2, 1, 1]] {
        agree(&[random_multiples(1, shape, 3)], |x, real| smoothness(&cast(&x[0], real)?, 0.2));
    }
}

#[test]
fn max_pools() {
    // Multiples of 1/4: many windows have two maxima.
    for (shape, size) in
        [([2, 4, 6, 8], 2), ([2, 5, 7, 5], 2), ([3, 7, 3, 4], 3), ([1, 9, 8, 12], 4), ([2, 3, 3, 1], 1)]
    {
        agree(&[random_multiples(1, shape, 2)], |x, real| max_pool(&cast(&x[0], real)?, size));
    }
}

#[test]
fn convolutions_of_enlarged_images() {
    for [batch, h, w, inputs, outputs] in [[2, 3, 5, 4, 7], [1, 8, 8, 16, 16], [2, 4, 2, 3, 1]] {
        let inputs = [random_tensor(1, [batch, h, w, inputs]), random_tensor(2, [outputs, 3, 3, inputs])];
        agree(&inputs, |x, real| {
            let params = ConvParams::new(1, 1, Activation::Identity);
            upsample_conv2d(&cast(&x[0], real)?, &cast(&x[1], real)?, params)
        });
    }
}

#[test]
fn doubled_batches() {
    for shape in [[2, 3, 5, 4], [1, 4, 6, 3], [3, 2, 1, 8]] {
        for mirror in [true, false] {
            let x = [random_tensor(1, shape)];
            agree(&x, |x, real| concat_flipped(&cast(&x[0], real)?, mirror));
        }
    }
    agree(&[random_tensor(1, [2, 5, 7])], |x, real| concat_flipped(&cast(&x[0], real)?, true));
    agree(&[random_tensor(1, [3, 6])], |x, real| concat_flipped(&cast(&x[0], real)?, false));
    agree(&[random_tensor(1, [5])], |x, real| concat_flipped(&cast(&x[0], real)?, false));
    for shape in [[4, 3, 5, 4], [2, 4, 6, 3]] {
        agree(&[random_tensor(1, shape)], |x, real| concat_swapped(&cast(&x[0], real)?));
    }
}

#[test]
fn concatenations() {
    for (axis, shapes) in [
        (ConcatAxis::Channels, [[2, 3, 4, 1], [2, 3, 4, 5]]),
        (ConcatAxis::Batch, [[2, 3, 4, 2], [1, 3, 4, 2]]),
    ] {
        let inputs = [random_tensor(1, shapes[0]), random_tensor(2, shapes[1])];
        agree(&inputs, |x, real| concat(&cast(&x[0], real)?, &cast(&x[1], real)?, axis));
    }
    agree(&[random_tensor(1, [4, 3, 5])], |x, real| narrow_batch(&cast(&x[0], real)?, 1, 2));
}

#[test]
fn sampling() {
    for ([batch, height, width, channels], [rows, columns]) in
        [([2, 5, 7, 3], [6, 4]), ([1, 8, 8, 1], [8, 8]), ([3, 2, 9, 5], [1, 40])]
    {
        // Beyond the image on all sides, and many places to a pixel. f32 only: that is all it is used for.
        let inputs = [
            random_tensor(1, [batch, height, width, channels]),
            moved(&random_tensor(2, [batch, rows, columns, 2]), 1.4, 0.0),
        ];
        agree(&inputs, |x, _| grid_sample(&x[0], &x[1], None));
        let mask: Vec<f32> = (0..rows * columns).map(|i| [0.0, 1.0, 0.5][i * 7 % 3]).collect();
        let mask = Tensor::new(&mask, [1, rows, columns]).unwrap();
        agree(&inputs, |x, _| grid_sample(&x[0], &x[1], Some(&mask.to_device(x[0].device())?)));
        // As they are, and off the tape, each of the two.
        agree(&inputs[..1], |x, _| grid_sample(&x[0], &inputs[1].to_device(x[0].device())?, None));
        agree(&inputs[1..], |x, _| grid_sample(&inputs[0].to_device(x[0].device())?, &x[0], None));
    }
    // All places at one pixel, with a mask that makes each of the terms large: their sum has room in fixed point.
    let places = Tensor::full([1, 12, 12, 2], 0.1);
    let mask = Tensor::full([1, 12, 12], 1e6);
    agree(&[random_tensor(1, [1, 4, 4, 3])], |x, _| {
        let [places, mask] = [&places, &mask].map(|tensor| tensor.to_device(x[0].device()));
        grid_sample(&x[0], &places?, Some(&mask?))
    });
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let image = random_tensor(1, [1, 4, 4, 3]).to_device(Device::Cuda(ordinal)).unwrap();
    let nowhere = Tensor::new(&[f32::NAN, 0.0, 9.0, 1e30], [1, 1, 2, 2]).unwrap();
    let sampled = grid_sample(&image, &nowhere.to_device(Device::Cuda(ordinal)).unwrap(), None).unwrap();
    let sampled = sampled.to_device(Device::Cpu).unwrap();
    assert!(sampled.data()[..3].iter().all(|x| x.is_nan()) && sampled.data()[3..] == [0.0; 3]);
}

#[test]
fn likelihood_losses() {
    let positive = |seed, shape: [usize; 4], floor| {
        let values: Vec<f32> = random_tensor(seed, shape).data().iter().map(|x| x.abs() + floor).collect();
        Tensor::new(&values, shape).unwrap()
    };
    // Few channels, some that are no multiple of a warp, many pixels.
    for [b, h, w, c] in [[2, 5, 7, 3], [1, 4, 4, 40], [2, 24, 24, 1], [1, 3, 5, 256]] {
        let mask = reshape(&positive(3, [b, h, w, 1], 0.0), [b, h, w]).unwrap();
        // Multiples of 1/8 are the same numbers in bf16, so that no difference changes its sign.
        let inputs = [
            random_multiples(1, [2 * b, h, w, c], 3),
            random_multiples(2, [b, h, w, c], 3),
            positive(4, [b, h, w, 2], 0.05),
        ];
        for loss in [photometric_loss, perceptual_loss] {
            let there = |x: &Tensor| mask.to_device(x.device());
            agree(&inputs, |x, real| {
                loss(&cast(&x[0], real)?, &cast(&x[1].detach(), real)?, &there(&x[0])?, Some(&x[2]), 1)
            });
            agree(&inputs[..2], |x, real| {
                loss(&cast(&x[0], real)?, &cast(&x[1].detach(), real)?, &there(&x[0])?, None, 1)
            });
        }
    }
    // One prediction of each target.
    let mask = reshape(&positive(3, [2, 5, 7, 1], 0.0), [2, 5, 7]).unwrap();
    let inputs = [
        random_multiples(1, [2, 5, 7, 3], 3),
        random_multiples(2, [2, 5, 7, 3], 3),
        positive(4, [2, 5, 7, 1], 0.05),
    ];
    agree(&inputs, |x, real| {
        let mask = mask.to_device(x[0].device())?;
        photometric_loss(&cast(&x[0], real)?, &cast(&x[1].detach(), real)?, &mask, Some(&x[2]), 2)
    });
    // Two groups, each half with masks of its own.
    let mask = reshape(&positive(3, [8, 3, 5, 1], 0.0), [8, 3, 5]).unwrap();
    for channels in [3, 40] {
        let inputs = [
            random_multiples(1, [8, 3, 5, channels], 3),
            random_multiples(2, [4, 3, 5, channels], 3),
            positive(4, [4, 3, 5, 2], 0.05),
        ];
        for loss in [photometric_loss, perceptual_loss] {
            agree(&inputs, |x, real| {
                let mask = mask.to_device(x[0].device())?;
                loss(&cast(&x[0], real)?, &cast(&x[1].detach(), real)?, &mask, Some(&x[2]), 2)
            });
        }
    }
    // Nothing seen: losses and gradients of zero.
    let inputs =
        [random_tensor(1, [2, 4, 4, 3]), random_tensor(2, [1, 4, 4, 3]), positive(4, [1, 4, 4, 2], 0.1)];
    agree(&inputs, |x, _| {
        let mask = Tensor::full_on(x[0].device(), [1, 4, 4], 0.0)?;
        photometric_loss(&x[0], &x[1].detach(), &mask, Some(&x[2]), 1)
    });
}

#[test]
fn means_under_a_window() {
    for (shape, deviation) in [([2, 5, 7, 2], 1.0), ([1, 20, 33, 1], 2.5), ([1, 3, 2, 4], 4.0)] {
        agree_in_f32(&[random_tensor(1, shape)], 2e-6, |x| gaussian_mean(&x[0], deviation));
    }
}

/// Runs the comparison for operations of geometry and colours, which are f32 whatever the networks are.
fn agree_in_f32(inputs: &[Tensor], tolerance: f64, operation: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let device = Device::Cuda(ordinal);
    assert_devices_agree(device, DataType::F32, tolerance, inputs, |x, _| operation(x));
}

#[test]
fn errors_that_compare_images() {
    let taps = |seed, count| random_tensor(seed, [count]).data().to_vec();
    let separable = |seed: u64, [down, along]: [usize; 2]| Separable {
        factor: 0.5 + seed as f32,
        down: taps(seed, down),
        along: taps(seed + 1, along),
    };
    let filter = |scale: f32, terms: Vec<Separable>| Filter { name: "f".into(), scale, terms };
    let bank = FilterBank::new(vec![
        filter(0.0, vec![separable(1, [1, 1])]),
        filter(2.0, vec![separable(3, [5, 3]), separable(5, [3, 7])]),
        filter(1.0, vec![separable(7, [3, 3])]),
        // Shares a product with the second.
        filter(1.0, vec![separable(5, [3, 7])]),
    ])
    .unwrap();
    for ([images, height, width, channels], targets, masks) in
        [([4, 9, 11, 3], 2, 2), ([2, 12, 7, 3], 2, 2), ([4, 6, 5, 2], 2, 4)]
    {
        let noise = random_tensor(3, [masks, height, width]);
        let mask: Vec<f32> = noise.data().iter().map(|x| f32::from(u8::from(*x > -0.5))).collect();
        let mask = Tensor::new(&mask, [masks, height, width]).unwrap();
        let target = random_tensor(2, [targets, height, width, channels]);
        let inputs = [random_tensor(1, [images, height, width, channels])];
        let there = |tensor: &Tensor, x: &[Tensor]| tensor.to_device(x[0].device());
        for scale in 0..3 {
            agree_in_f32(&inputs, 5e-6, |x| {
                let bank = bank.to_device(x[0].device())?;
                Ok(filter_errors(&x[0], &there(&target, x)?, &there(&mask, x)?, &bank)?.remove(scale))
            });
        }
        for deviations in [&[1.5][..], &[0.5, 1.0, 2.0]] {
            agree_in_f32(&inputs, 1e-4, |x| {
                structure_errors(&x[0], &there(&target, x)?, &there(&mask, x)?, deviations)
            });
        }
        let faint = [moved(&inputs[0], 0.02, 0.0)];
        agree_in_f32(&faint, 1e-5, |x| {
            census_errors(&x[0], &there(&moved(&target, 0.02, 0.0), x)?, &there(&mask, x)?)
        });
    }
}

#[test]
fn geometry_of_faces() {
    for faces in [1, 3, 300] {
        let known: Vec<f32> = (0..faces).map(|face| f32::from(u8::from(face % 3 != 1))).collect();
        let known = Tensor::new(&known, [faces]).unwrap();
        let inputs = [random_tensor(1, [faces, 5, 2]), random_tensor(2, [faces, 5])];
        agree_in_f32(&inputs, 2e-6, |x| face_geometry(&x[0], &x[1], &known.to_device(x[0].device())?, 0.5));
    }
}

#[test]
fn albedo_losses() {
    for ([count, height, width], images, groups) in [([4, 5, 7], 2, 2), ([2, 33, 20], 2, 1)] {
        let mask = reshape(&random_tensor(3, [count, height, width, 1]), [count, height, width]).unwrap();
        let mut image = random_tensor(4, [images, height, width, 3]);
        image.data_mut().iter_mut().for_each(|x| *x *= 0.4);
        let inputs = [random_tensor(1, [count, height, width, 3]), random_tensor(2, [count, height, width])];
        agree(&inputs, |x, _| {
            let there = |tensor: &Tensor| tensor.to_device(x[0].device());
            albedo_loss(&x[0], &x[1], &there(&mask)?, &there(&image)?, groups)
        });
    }
}

#[test]
fn every_run_gives_the_same_bits() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    // Sums over many blocks, and many places to a pixel.
    let run = || {
        let device = Device::Cuda(ordinal);
        let tape = Tape::new();
        let watch = |x: &Tensor| Ok::<Tensor, Error>(tape.watch(&x.to_device(device)?));
        let image = watch(&random_tensor(1, [3, 20, 21, 8]))?;
        let weight = watch(&random_tensor(2, [8]))?;
        let grid = watch(&random_tensor(3, [3, 40, 41, 2]))?;
        let target = random_tensor(4, [3, 20, 21, 8]).to_device(device)?;
        let mask = Tensor::full([3, 20, 21], 0.5).to_device(device)?;
        let normal = group_norm(&image, &weight, &weight, 2, 1e-5, Activation::LeakyRelu)?;
        let sampled = grid_sample(&normal, &grid, None)?;
        let loss = photometric_loss(&concat_flipped(&normal, true)?, &target, &mask, None, 1)?;
        let factors = random_tensor(5, [3, 40, 41, 8]).to_device(device)?;
        let ones = Tensor::full([2], 1.0).to_device(device)?;
        let mut gradients = tape.backward_from(&[(&sampled, factors), (&loss, ones)])?;
        let gradients = [&image, &weight, &grid].map(|x| gradients.take(x).expect("all were used"));
        [loss].iter().chain(&gradients).map(|x| x.to_device(Device::Cpu)).collect::<Result<Vec<Tensor>>>()
    };
    let first = run().unwrap();
    for _ in 0..4 {
        assert_same_bits(&run().unwrap(), &first);
    }
}

#[test]
fn types_that_kernels_do_not_take_are_refused() {
    let Some(ordinal) = relievo_cuda_emulator::test_gpu() else { return };
    let narrow = |shape: [usize; 4]| {
        cast(&random_tensor(1, shape).to_device(Device::Cuda(ordinal)).unwrap(), DataType::Bf16).unwrap()
    };
    let x = narrow([1, 2, 2, 2]);
    let parameter = reshape(&narrow([1, 1, 1, 2]), [2]).unwrap();
    assert!(grid_sample(&x, &x, None).is_err());
    let modulation = reshape(&narrow([1, 1, 1, 4]), [1, 4]).unwrap();
    assert!(modulate(&x, &modulation, Activation::Relu).is_err());
    assert!(group_norm(&x, &parameter, &parameter, 1, 1e-5, Activation::Relu).is_err());
}
