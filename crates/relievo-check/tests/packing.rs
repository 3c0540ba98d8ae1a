//! Weights in 8 bits are as good as in f16.

use std::sync::Arc;

use relievo_data::Source;
use relievo_model::{Model, ModelError};
use relievo_synth::Heads;
use relievo_tensor::Tensor;
use relievo_tensor::safetensors::quantise;
use relievo_tensor::testing::random_tensor;
use relievo_train::{EvaluationOptions, evaluate};

/// SIDE x 100 and MAD in degrees on heads that the weights have never seen.
fn errors(model: &Model) -> [f64; 2] {
    let heads: Arc<dyn Source> = Arc::new(Heads::range(1, 0, 48));
    let options = EvaluationOptions { losses: false, reconstruction: false, ..EvaluationOptions::default() };
    let found = evaluate(model, &heads, &options).unwrap().visible.unwrap().model;
    [100.0 * found.depth_error.unwrap().mean, found.normal_error.unwrap().mean]
}

#[test]
fn packed_weights_find_the_same_depth() {
    // What is shipped is packed already, and packing it again changes nothing. Anything within half a step of each weight
    // could have been the original, so such a model is as far from its packed weights as that one was.
    let shipped =
        Model::from_safetensors(&relievo_weights_synthetic::FACES_SYNTHETIC, "faces-synthetic").unwrap();
    let mut seed = 0;
    let parameters = shipped.parameter_infos().iter().zip(shipped.parameters()).map(|(info, parameter)| {
        seed += 1;
        let shape = parameter.shape();
        let [integers, scales] = quantise(&info.name, &shape, parameter.data());
        let noise = random_tensor(seed, [parameter.numel()]);
        let of_channel = integers.bytes.len() / scales.shape[0];
        let scales = scales.bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let scales = scales.flat_map(|scale| std::iter::repeat_n(scale, of_channel));
        let numbers = parameter.data().iter().zip(noise.data()).zip(scales);
        // The largest of a channel sets its scale, so it stays.
        let moved = numbers.map(
            |((x, noise), scale)| {
                if x.abs() > 126.5 * scale { *x } else { x + 0.5 * scale * noise }
            },
        );
        Tensor::new(&moved.collect::<Vec<_>>(), shape).unwrap()
    });
    let mut parameters = parameters.collect::<Vec<_>>().into_iter();
    let original = Model::with_parameters(shipped.settings().clone(), |_| {
        Ok::<_, ModelError>(parameters.next().expect("one for each"))
    });
    let original = original.unwrap();
    let packed = Model::from_safetensors(&original.to_packed_safetensors([]).unwrap(), "packed").unwrap();
    assert!(packed.parameters()[0].data() != original.parameters()[0].data());
    let [[side, mad], [packed_side, packed_mad]] = [errors(&original), errors(&packed)];
    println!("SIDE {side:.4}, packed {packed_side:.4}; MAD {mad:.3}, packed {packed_mad:.3}");
    assert!((packed_side - side).abs() < 0.01, "SIDE {packed_side}, unpacked {side}");
    assert!((packed_mad - mad).abs() < 0.1, "MAD {packed_mad}, unpacked {mad}");
}
