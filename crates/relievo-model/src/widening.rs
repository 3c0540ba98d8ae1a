//! Wider networks that begin with what narrower ones have learned (Chen, Goodfellow, Shlens, *Net2Net*, ICLR 2016).
//!
//! Channel `c` of a layer with more channels than before is a copy of channel `c mod n`, where n is the number of
//! channels before. What reads the copies of a channel shares its old weight among them, so every output stays the same
//! up to rounding. The shares are drawn, another for each reader: equal shares would give equal gradients, and the
//! copies would stay copies for ever. Group normalisation has groups of four channels, and n is a multiple of four
//! wherever there is one, so the copy of a group is a group with the same statistics.

use relievo_nets::ParameterInfo;
use relievo_tensor::{Random, Tensor};

/// Each share is drawn from 1 - SPREAD to 1 + SPREAD, then divided by the sum over the copies.
const SPREAD: f32 = 0.5;

/// The parameter that `info` describes, from one of `shape` with as many channels or fewer.
///
/// # Errors
/// A sentence, if the shape has more channels, or differs in more than its channels.
pub(crate) fn widen(info: &ParameterInfo, numbers: &[f32], shape: &[usize]) -> Result<Tensor, String> {
    if shape[..] == info.shape[..] {
        return Tensor::new(numbers, info.shape).map_err(|error| error.to_string());
    }
    let refused = || another_shape(info, shape);
    let mut wider = Tensor::empty(info.shape);
    match (&info.shape[..], shape) {
        (&[now], &[then]) if then < now && then % 4 == 0 => {
            wider.data_mut().iter_mut().zip(numbers.iter().cycle()).for_each(|(to, from)| *to = *from);
        }
        (&[first, height, width, last], &[first_then, height_then, width_then, last_then])
            if [height, width] == [height_then, width_then] && first_then <= first && last_then <= last =>
        {
            let random = Random::named(0, &info.name);
            let kernel = height * width;
            let (inputs, inputs_then) = if info.transposed { (first, first_then) } else { (last, last_then) };
            // The share of input channel `input` in what output channel `output` reads of its copies.
            let draw = |output: usize, input: usize| {
                1.0 + SPREAD * (2.0 * random.uniform((output * inputs + input) as u64) - 1.0)
            };
            let share = |output: usize, input: usize| {
                let copies = (input % inputs_then..inputs).step_by(inputs_then);
                draw(output, input) / copies.map(|copy| draw(output, copy)).sum::<f32>()
            };
            let rows = wider.data_mut().chunks_exact_mut(kernel * last);
            for (a, row) in rows.enumerate() {
                for c in 0..last {
                    let share = if info.transposed { share(c, a) } else { share(a, c) };
                    for k in 0..kernel {
                        let from = ((a % first_then) * kernel + k) * last_then + c % last_then;
                        row[k * last + c] = share * numbers[from];
                    }
                }
            }
        }
        _ => return Err(refused()),
    }
    Ok(wider)
}

/// Why a parameter of `shape` is not the one that `info` describes.
pub(crate) fn another_shape(info: &ParameterInfo, shape: &[usize]) -> String {
    format!("has the shape {shape:?}, but the settings ask for {}", info.shape)
}

#[cfg(test)]
mod tests {
    use relievo_tensor::{Random, Tensor};

    use crate::{Model, ModelSettings};

    #[test]
    fn a_widened_model_gives_the_same_outputs_and_its_copies_learn_apart() {
        let narrow = Model::new(ModelSettings::tiny(), 3).unwrap();
        let settings = ModelSettings {
            width: 12,
            code: 40,
            albedo_width: Some(16),
            albedo_code: Some(64),
            encoder_width: 16,
            ..ModelSettings::tiny()
        };
        let mut wide = Model::new(settings, 4).unwrap();
        assert!(wide.take_over(&narrow.to_safetensors().unwrap()).unwrap().is_empty());
        let random = Random::named(1, "image");
        let mut images = Tensor::zeros([2, 64, 64, 3]);
        for (index, value) in images.data_mut().iter_mut().enumerate() {
            *value = 2.0 * random.uniform(index as u64) - 1.0;
        }
        let [before, after] =
            [&narrow, &wide].map(|model| model.outputs(&images, model.parameters()).unwrap());
        for (before, after) in before.iter().zip(after.iter()) {
            let largest = before.data().iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            for (a, b) in before.data().iter().zip(after.data()) {
                assert!((a - b).abs() < 2e-5 * largest.max(1.0), "{a} {b}");
            }
        }
        // What two copies of a channel are read with differs, so their gradients do.
        let index = wide.parameter_infos().iter().position(|info| info.name == "depth.1.weight").unwrap();
        let weights = wide.parameters()[index].data();
        assert!((0..4).any(|c| (weights[c] - weights[c + 8]).abs() > 1e-3 * weights[c].abs()));
    }
}
