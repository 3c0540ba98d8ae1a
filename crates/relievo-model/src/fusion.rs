//! Fusion: several images of one object, explained by one depth and one albedo.
//!
//! Each image has a light and a viewpoint of its own. Depth and albedo begin as weighted means of what the networks say of
//! each image, and are fitted to all of them together as `refinement.rs` fits them to one.

use relievo_tensor::ops::absolute_error;
use relievo_tensor::{Error, Tensor};

use crate::model::{Model, ModelError};
use crate::prediction::{Prediction, Second};
use crate::refinement::Variables;
use crate::visibility::{Seen, Visibility, visibility};

/// The weight of what the networks say of a place that the image does not show, where one that is seen straight on has 1:
/// it is guessed.
const GUESSED: f32 = 0.1;

/// What several images of one object say together.
#[derive(Debug, Clone)]
pub struct Together {
    /// An entry for each image: depth and albedo are the same in all, light and viewpoint its own.
    pub prediction: Prediction,
    /// The mean absolute error of the reconstruction of each image, where the object is, of colours in [-1,1].
    pub errors: Vec<f32>,
}

impl Model {
    /// What `images [N,S,S,3]` say together, if all of them show one object, after `steps` steps of refinement.
    /// `prediction` is what [`Model::predict`] or [`Model::predict_with_confidence`] found in them. Of one image it is
    /// [`Model::refine`]. On all cores of the CPU; time and memory grow with the number of images.
    ///
    /// # Errors
    /// As for [`Model::refine`].
    pub fn refine_together(
        &self,
        images: &Tensor,
        prediction: &Prediction,
        steps: usize,
    ) -> Result<Together, ModelError> {
        let count = self.check_images(images)?;
        if count == 1 {
            let prediction = self.refine(images, prediction, steps)?;
            return Ok(Together { errors: errors(images, &prediction)?, prediction });
        }
        let beginning = self.fused(prediction, Variables::from_prediction(prediction, count)?)?;
        let found = self.fit(images, beginning, steps)?.for_each(count)?;
        let prediction = self.compose(found.outputs(), Second::Nothing)?;
        Ok(Together { errors: errors(images, &prediction)?, prediction })
    }

    /// As [`Together::errors`], if each image is refined alone. Together images are matched less well: a little, if they show
    /// one object.
    ///
    /// # Errors
    /// As for [`Model::refine`].
    pub fn errors_alone(
        &self,
        images: &Tensor,
        prediction: &Prediction,
        steps: usize,
    ) -> Result<Vec<f32>, ModelError> {
        Ok(errors(images, &self.refine(images, prediction, steps)?)?)
    }

    /// One depth and albedo for all images: weighted means of what the networks say of each, `said`.
    fn fused(&self, prediction: &Prediction, said: Variables) -> Result<Variables, Error> {
        let (camera, count) = (self.settings().camera(), said.depth.shape()[0]);
        let size = camera.size;
        let places: Vec<f32> = (0..size).map(|at| at as f32).collect();
        let mut depth = vec![0.0; size * size];
        let mut albedo = vec![[0.0; 3]; size * size];
        let mut total = vec![0.0; size * size];
        for number in 0..count {
            let own = |tensor: &Tensor| tensor.narrow(number, 1);
            let [shape, normals, view] =
                [own(&prediction.canonical_depth)?, own(&prediction.normals)?, own(&prediction.view)?];
            let view = std::array::from_fn(|at| view.data()[at]);
            let Visibility { seen, .. } = visibility(camera, shape.data(), normals.data(), view, &places)?;
            let scales = prediction.confidence.as_ref().map(|(pixels, _)| own(pixels)).transpose()?;
            let weights = seen.data().as_chunks().0.iter().map(|seen| weight(seen, scales.as_ref(), size));
            // The mean of the depth network's output is taken off before it means anything.
            let raw = own(&said.depth)?;
            let mean = raw.data().iter().sum::<f32>() / raw.numel() as f32;
            let colours = own(&said.albedo)?;
            let colours = colours.data().as_chunks::<3>().0;
            for (at, weight) in weights.enumerate() {
                depth[at] += weight * (raw.data()[at] - mean);
                albedo[at] = std::array::from_fn(|i| albedo[at][i] + weight * colours[at][i]);
                total[at] += weight;
            }
        }
        for (at, total) in total.into_iter().enumerate() {
            depth[at] /= total;
            albedo[at] = albedo[at].map(|value| value / total);
        }
        Ok(Variables {
            depth: Tensor::new(&depth, [1, size, size, 1])?,
            albedo: Tensor::new(albedo.as_flattened(), [1, size, size, 3])?,
            ..said
        })
    }
}

/// How much an image says about a place: the better seen and the straighter, and the smaller the scale of the error that
/// the model expects there (`scales [1,S,S,..]`), the more. Above 0.
fn weight(seen: &Seen, scales: Option<&Tensor>, size: usize) -> f32 {
    let [column, row, trust] = *seen;
    let visible = GUESSED + (1.0 - GUESSED) * trust;
    let Some(scales) = scales else { return visible };
    let channels = scales.numel() / (size * size);
    let [column, row] = [column, row].map(|at| at.round().clamp(0.0, size as f32 - 1.0) as usize);
    visible / scales.data()[(row * size + column) * channels].max(1e-3)
}

/// The mean absolute error of each reconstruction within its mask.
fn errors(images: &Tensor, prediction: &Prediction) -> Result<Vec<f32>, Error> {
    let of_image = |number: usize| {
        let own = |tensor: &Tensor| tensor.narrow(number, 1);
        absolute_error(&own(&prediction.image)?, &own(images)?, &own(&prediction.mask)?)?.item()
    };
    (0..images.shape()[0]).map(of_image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelSettings;

    /// A model that sees domes, and the same waves of colour from a little further to the right in each image.
    fn example() -> (Model, Tensor) {
        let settings = ModelSettings { initial_depth_scale: 0.02, dome: 0.5, ..ModelSettings::tiny() };
        let wave = |at: usize| {
            let (image, place) = (at / (64 * 64 * 3), at % (64 * 64 * 3));
            0.5 * (((place % 192 + 6 * image) as f32) / 20.0 + (place / 192) as f32 / 9.0).sin()
        };
        let images: Vec<f32> = (0..3 * 64 * 64 * 3).map(wave).collect();
        (Model::new(settings, 5).unwrap(), Tensor::new(&images, [3, 64, 64, 3]).unwrap())
    }

    fn together(model: &Model, images: &Tensor, steps: usize) -> Together {
        model.refine_together(images, &model.predict(images).unwrap(), steps).unwrap()
    }

    #[test]
    fn of_one_image_it_is_its_refinement_to_the_bit() {
        let (model, images) = example();
        let image = images.narrow(1, 1).unwrap();
        let prediction = model.predict(&image).unwrap();
        let said = Variables::from_prediction(&prediction, 1).unwrap();
        let fitted = model.fit(&image, said.clone(), 4).unwrap();
        let alone = model.refine(&image, &prediction, 4).unwrap();
        assert_eq!(
            model.compose(fitted.outputs(), Second::Nothing).unwrap().image.data(),
            alone.image.data()
        );
        let found = together(&model, &image, 4);
        assert_eq!(found.prediction.depth.data(), alone.depth.data());
        assert_eq!(found.prediction.image.data(), alone.image.data());
        assert_eq!(found.errors, model.errors_alone(&image, &prediction, 4).unwrap());
        // Nor does the mean of one change its colours.
        let mean = model.fused(&prediction, said).unwrap();
        let off = mean.albedo.data().iter().zip(prediction.albedo.data()).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f32::max) < 1e-6);
    }

    #[test]
    fn all_images_have_one_shape_and_albedo_and_each_a_light_and_viewpoint() {
        let (model, images) = example();
        let [before, after] = [0, 20].map(|steps| together(&model, &images, steps));
        let Prediction { canonical_depth, albedo, view, light, .. } = &after.prediction;
        for map in [canonical_depth, albedo] {
            let own: Vec<&[f32]> = map.data().chunks_exact(map.numel() / 3).collect();
            assert!(own[0] == own[1] && own[1] == own[2]);
        }
        for numbers in [view.data().chunks_exact(6), light.data().chunks_exact(5)] {
            let own: Vec<&[f32]> = numbers.collect();
            assert!(own.len() == 3 && own[0] != own[1]);
        }
        let mean = |errors: &[f32]| errors.iter().sum::<f32>() / 3.0;
        assert!(mean(&after.errors) < 0.9 * mean(&before.errors), "{:?} {:?}", before.errors, after.errors);
    }

    #[test]
    fn a_prediction_of_other_images_is_refused() {
        let (model, images) = example();
        let prediction = model.predict(&images.narrow(0, 2).unwrap()).unwrap();
        let error = model.refine_together(&images, &prediction, 1).err().unwrap().to_string();
        assert!(error.contains("3 images"), "{error}");
    }

    #[test]
    fn where_the_model_is_less_sure_an_image_counts_less() {
        let (model, images) = example();
        let sure = model.predict_with_confidence(&images).unwrap();
        let fused = |prediction: &Prediction| {
            model.fused(prediction, Variables::from_prediction(prediction, 3).unwrap()).unwrap()
        };
        // The first image is said to be explained ten times as badly as the others.
        let mut unsure = sure.clone();
        let (pixels, _) = unsure.confidence.as_mut().unwrap();
        let of_image = pixels.numel() / 3;
        pixels.data_mut()[..of_image].iter_mut().for_each(|scale| *scale *= 10.0);
        let colours = |of: &Prediction, image: usize| of.albedo.narrow(image, 1).unwrap();
        let distance = |a: &Tensor, b: &Tensor| -> f32 {
            a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs()).sum()
        };
        let first = colours(&sure, 0);
        let [near, far] = [&sure, &unsure].map(|prediction| distance(&fused(prediction).albedo, &first));
        assert!(far > 1.2 * near, "{near} {far}");
    }
}
