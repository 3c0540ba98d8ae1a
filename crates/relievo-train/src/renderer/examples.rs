//! What a learned renderer learns from: canonical depth and albedo of objects, each time under another light and from
//! another viewpoint.

use std::ops::RangeInclusive;

use rayon::prelude::*;
use relievo_data::{Sample, SampleError, Source};
use relievo_model::{RendererInputs, RendererSettings};
use relievo_render::light_from_raw;
use relievo_tensor::{Error, Random, Tensor};

/// Columns on each side whose depth is fixed, as a model fixes them.
const BORDER: usize = 2;
/// Random numbers of an example.
const NUMBERS: u64 = 16;

/// Depth and albedo of objects seen from the front, in memory.
pub(crate) struct Examples {
    count: usize,
    /// `[count,S,S]`.
    depth: Vec<f32>,
    /// `[count,S,S,3]` in [-1,1].
    albedo: Vec<f32>,
}

/// Why there are no examples.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExamplesError {
    /// An image that cannot be made.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// An image without truth.
    #[error("{0}: has no true depth and albedo; only synthetic images have them")]
    NoTruth(String),
    /// An image that is turned.
    #[error("{0}: is not seen from the front, so its depth and albedo are not the canonical ones")]
    Turned(String),
    /// Nothing to learn from.
    #[error("there are no images in {0}")]
    Empty(String),
}

/// From where examples are seen.
#[derive(Debug, Clone)]
pub(crate) struct Views {
    /// Degrees, to either side.
    pub yaw: RangeInclusive<f32>,
}

impl Examples {
    /// All images of a source, which must show objects from the front with their truth.
    pub fn of(source: &dyn Source, settings: &RendererSettings) -> Result<Self, ExamplesError> {
        let count = source.len();
        if count == 0 {
            return Err(ExamplesError::Empty(source.describe()));
        }
        let maps: Result<Vec<[Vec<f32>; 2]>, ExamplesError> = (0..count)
            .into_par_iter()
            .map(|index| canonical(source.sample(index, settings.image_size as u32)?, settings))
            .collect();
        let maps = maps?;
        let [mut depth, mut albedo] = [Vec::new(), Vec::new()];
        for [of_depth, of_albedo] in maps {
            depth.extend(of_depth);
            albedo.extend(of_albedo);
        }
        Ok(Self { count: count as usize, depth, albedo })
    }

    /// The batch of a step: a function of the stream and the settings. Half of the objects are mirrored; light and view
    /// are uniform in their ranges.
    pub fn draw(
        &self,
        random: Random,
        batch: usize,
        settings: &RendererSettings,
        views: &Views,
    ) -> Result<RendererInputs, Error> {
        let chosen = |place: usize| {
            let number = random.bits(place as u64 * NUMBERS) as usize % self.count;
            (number, random.uniform(place as u64 * NUMBERS + 1) < 0.5)
        };
        self.inputs(&(0..batch).map(chosen).collect::<Vec<_>>(), random, settings, views)
    }

    /// Objects by their numbers (mirrored or not), with lights and views from the stream.
    pub fn inputs(
        &self,
        chosen: &[(usize, bool)],
        random: Random,
        settings: &RendererSettings,
        views: &Views,
    ) -> Result<RendererInputs, Error> {
        let (batch, size) = (chosen.len(), settings.image_size);
        let [mut depth, mut albedo] = [1, 3].map(|channels| Tensor::zeros([batch, size, size * channels]));
        for (place, &(number, mirrored)) in chosen.iter().enumerate() {
            let maps = [(&mut depth, &self.depth, 1), (&mut albedo, &self.albedo, 3)];
            for (to, from, channels) in maps {
                let length = size * size * channels;
                let (to, from) = (
                    &mut to.data_mut()[place * length..][..length],
                    &from[number % self.count * length..][..length],
                );
                for (to, from) in to.chunks_exact_mut(size * channels).zip(from.chunks_exact(size * channels))
                {
                    for column in 0..size {
                        let source = if mirrored { size - 1 - column } else { column };
                        to[column * channels..][..channels]
                            .copy_from_slice(&from[source * channels..][..channels]);
                    }
                }
            }
        }
        let [mut lights, mut turned] = [Vec::new(), Vec::new()];
        for place in 0..batch as u64 {
            let signed = |number: u64| 2.0 * random.uniform(place * NUMBERS + 2 + number) - 1.0;
            lights.extend((0..4).map(signed));
            let side = signed(4);
            let [least, greatest] = [*views.yaw.start(), *views.yaw.end()];
            let yaw = side.signum() * (least + side.abs() * (greatest - least));
            let RendererSettings { pitch_range, roll_range, translation_range, .. } = *settings;
            turned.extend([signed(5) * pitch_range, yaw, signed(6) * roll_range].map(f32::to_radians));
            turned.extend([signed(7) * translation_range, signed(8) * translation_range, 0.0]);
        }
        Ok(RendererInputs {
            depth: Tensor::new(depth.data(), [batch, size, size])?,
            albedo: Tensor::new(albedo.data(), [batch, size, size, 3])?,
            light: light_from_raw(&Tensor::new(&lights, [batch, 4])?, settings.light_range())?,
            view: Tensor::new(&turned, [batch, 6])?,
        })
    }
}

/// Depth and albedo as a model has them: within the range, at the border depth at both sides and where the object is not.
fn canonical(sample: Sample, settings: &RendererSettings) -> Result<[Vec<f32>; 2], ExamplesError> {
    let Some(truth) = sample.truth else { return Err(ExamplesError::NoTruth(sample.name)) };
    if truth.view != [0.0; 6] {
        return Err(ExamplesError::Turned(sample.name));
    }
    let size = settings.image_size;
    let depth = truth.depth.iter().zip(&truth.mask).enumerate().map(|(at, (&depth, &mask))| {
        let is_border = !(BORDER..size - BORDER).contains(&(at % size));
        let depth = if mask == 0 || is_border { settings.border_depth } else { depth };
        depth.clamp(settings.min_depth, settings.max_depth)
    });
    Ok([depth.collect(), truth.albedo.iter().map(|albedo| 2.0 * albedo - 1.0).collect()])
}

#[cfg(test)]
mod tests {
    use relievo_synth::Heads;

    use super::*;

    #[test]
    fn a_batch_is_a_function_of_its_stream_and_lies_in_the_ranges() {
        let settings = RendererSettings::default();
        let examples = Examples::of(&Heads::range(3, 0, 3).frontal(), &settings).unwrap();
        let views = Views { yaw: 60.0..=90.0 };
        let draw = |step| examples.draw(Random::new(5, step), 40, &settings, &views).unwrap();
        let [first, again, other] = [1, 1, 2].map(draw);
        assert_eq!(first.view.data(), again.view.data());
        assert_eq!(first.albedo.data(), again.albedo.data());
        assert_ne!(first.view.data(), other.view.data());
        let (mut left, mut right) = (0, 0);
        for view in first.view.data().chunks(6) {
            assert!((59.9..=90.1).contains(&view[1].abs().to_degrees()), "{view:?}");
            assert!(
                view[0].abs().to_degrees() <= 30.1 && view[3].abs() <= 0.05 && view[5] == 0.0,
                "{view:?}"
            );
            if view[1] < 0.0 { left += 1 } else { right += 1 }
        }
        assert!(left > 5 && right > 5);
        for row in first.depth.data().chunks(64) {
            assert!([row[0], row[1], row[62], row[63]] == [1.04; 4]);
            assert!(row.iter().all(|depth| (0.9..=1.1).contains(depth)));
        }
        assert!(first.light.data().chunks(5).all(|light| (0.0..=1.0).contains(&light[0]) && light[4] > 0.0));
    }

    #[test]
    fn what_is_turned_or_has_no_truth_is_refused() {
        let settings = RendererSettings::default();
        let refusal = |source: &dyn Source| Examples::of(source, &settings).err().unwrap().to_string();
        assert_eq!(
            refusal(&Heads::range(3, 7, 1)),
            "7: is not seen from the front, so its depth and albedo are not the canonical ones"
        );
        assert!(refusal(&relievo_data::WithoutTruth(Heads::range(3, 7, 1))).contains("no true depth"));
        assert!(refusal(&Heads::range(3, 7, 0)).starts_with("there are no images in"));
    }
}
