//! A prior on the albedo of the images of one object: where an image is smooth, so is the albedo.
//!
//! Albedo times shading is to be the image, so without a prior refinement writes the inverse of every error of the
//! shading into the albedo: lines along creases that the image does not have, patches where highlights are missing. As
//! in Retinex, edges of the image are taken for edges of the albedo, and everything smoother for light. Of several
//! images one that shows a place smooth is enough: edges that others have there are the light's.

use relievo_render::Camera;
use relievo_tensor::ops::absolute_error;
use relievo_tensor::{Backward, Context, Error, Operation, Tensor, apply_one};

use crate::prediction::Prediction;
use crate::visibility::{Seen, Visibility, sample, visibility};

/// Change of the image between neighbouring pixels, averaged over the channels (range 2), that is no longer taken for
/// light: there the prior's weight has fallen to 1/e.
const EDGE: f32 = 0.1;

/// How the albedo `[1,S,S,3]` of an object should change from pixel to pixel.
pub(crate) struct AlbedoPrior {
    /// Differences that are best, `[1,S-1,S-1,6]`: none where the image is seen and smooth; where it is not seen, those
    /// of the network's albedo, so that what changes around it goes on smoothly.
    target: Tensor,
    /// How much they count, `[1,S-1,S-1]`: little at the image's edges.
    weights: Tensor,
}

impl AlbedoPrior {
    /// For `images [N,S,S,3]` and what is known of them at first, which is one albedo and depth for all.
    pub fn new(camera: Camera, images: &Tensor, prediction: &Prediction) -> Result<Self, Error> {
        let size = camera.size;
        let places: Vec<f32> = (0..size).map(|at| at as f32).collect();
        let Prediction { canonical_depth, normals, view, albedo, .. } = prediction;
        let depth = &canonical_depth.data()[..size * size];
        let normals = &normals.data()[..3 * size * size];
        // How far the best image for it shows a place, and shows it smooth.
        let mut best = vec![[0.0_f32; 2]; (size - 1) * (size - 1)];
        let views = view.data().as_chunks::<6>().0;
        for (image, view) in images.data().chunks_exact(3 * size * size).zip(views) {
            let Visibility { seen, .. } = visibility(camera, depth, normals, *view, &places)?;
            let seen: &[Seen] = seen.data().as_chunks().0;
            let mut shown = Tensor::empty([1, size, size, 3]);
            for (pixel, seen) in shown.data_mut().as_chunks_mut::<3>().0.iter_mut().zip(seen) {
                *pixel = sample(image.as_chunks::<3>().0, size, [seen[0], seen[1]]);
            }
            let changes = differences(&shown)?;
            for ((place, change), [shows, shows_smooth]) in
                changes.data().as_chunks::<6>().0.iter().enumerate().zip(&mut best)
            {
                let corner = place / (size - 1) * size + place % (size - 1);
                let trust = [corner, corner + 1, corner + size].map(|at| seen[at][2]);
                let trust = trust.into_iter().fold(1.0, f32::min);
                let [right, below] =
                    [0, 3].map(|at| change[at..at + 3].iter().map(|x| x.abs()).sum::<f32>() / 3.0);
                let smooth = (-(right.max(below) / EDGE).powi(2)).exp();
                *shows = shows.max(trust);
                *shows_smooth = shows_smooth.max(trust * smooth);
            }
        }
        let mut target = differences(&albedo.narrow(0, 1)?)?;
        let mut weights = Tensor::empty([1, size - 1, size - 1]);
        let targets = target.data_mut().as_chunks_mut::<6>().0.iter_mut();
        for ((target, weight), [shown, smooth]) in targets.zip(weights.data_mut()).zip(best) {
            *weight = smooth + (1.0 - shown);
            target.iter_mut().for_each(|difference| *difference *= 1.0 - smooth);
        }
        Ok(Self { target, weights })
    }

    /// The weighted mean absolute distance of the differences of `albedo [1,S,S,3]` from the best ones.
    pub fn loss(&self, albedo: &Tensor) -> Result<Tensor, Error> {
        absolute_error(&differences(albedo)?, &self.target, &self.weights)
    }
}

/// Differences of an image `[1,S,S,3]` to the right neighbour (three channels) and to the one below (three more),
/// `[1,S-1,S-1,6]`. Gradient of a pixel: those of the differences it is the neighbour in, minus those of its own.
///
/// # Errors
/// If the image has another shape or fewer than two rows.
fn differences(image: &Tensor) -> Result<Tensor, Error> {
    apply_one(Differences, &[image])
}

struct Differences;

impl Operation for Differences {
    fn name(&self) -> &'static str {
        "differences"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>, Error> {
        let size = match inputs[0].dims(self.name())? {
            [1, rows, columns, 3] if rows == columns && rows > 1 => rows,
            _ => return Err(Error::shape(self.name(), format!("an image of shape {}", inputs[0].shape()))),
        };
        context.save(inputs[0]);
        let image = inputs[0].data().as_chunks::<3>().0;
        let mut differences = Tensor::empty([1, size - 1, size - 1, 6]);
        let rows = image.chunks_exact(size).zip(image.chunks_exact(size).skip(1));
        let pixels = differences.data_mut().as_chunks_mut::<6>().0.chunks_exact_mut(size - 1);
        for (differences, (row, below)) in pixels.zip(rows) {
            for (column, difference) in differences.iter_mut().enumerate() {
                let here = row[column];
                *difference = std::array::from_fn(|i| match i {
                    0..3 => row[column + 1][i] - here[i],
                    _ => below[column][i - 3] - here[i - 3],
                });
            }
        }
        Ok(vec![differences])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>, Error> {
        let shape = backward.saved[0].shape();
        let size = shape[1];
        let mut dimage = Tensor::zeros(shape);
        let gradients = dimage.data_mut().as_chunks_mut::<3>().0;
        let dy = backward.gradient().data().as_chunks::<6>().0;
        for (row, dy) in dy.chunks_exact(size - 1).enumerate() {
            for (column, dy) in dy.iter().enumerate() {
                let at = row * size + column;
                for i in 0..3 {
                    let (right, below) = (dy[i], dy[3 + i]);
                    gradients[at][i] -= right + below;
                    gradients[at + 1][i] += right;
                    gradients[at + size][i] += below;
                }
            }
        }
        Ok(vec![Some(dimage)])
    }
}

#[cfg(test)]
mod tests {
    use relievo_tensor::testing::{Tolerance, assert_gradients, random_tensor};

    use super::*;
    use crate::{Model, ModelSettings};

    const SIZE: usize = 64;

    const TOLERANCE: Tolerance = Tolerance { norm: 1e-3, element: 1e-3 };

    /// A nearly flat surface, seen from where the networks say, that is all of the image.
    fn prior(pixel: impl Fn(usize, usize) -> f32) -> AlbedoPrior {
        let settings = ModelSettings { initial_depth_scale: 0.01, ..ModelSettings::tiny() };
        let model = Model::new(settings, 3).unwrap();
        let values: Vec<f32> = (0..SIZE * SIZE).flat_map(|at| [pixel(at / SIZE, at % SIZE); 3]).collect();
        let image = Tensor::new(&values, [1, SIZE, SIZE, 3]).unwrap();
        let prediction = model.predict(&image).unwrap();
        AlbedoPrior::new(model.settings().camera(), &image, &prediction).unwrap()
    }

    /// Albedo of stripes of some height.
    fn stripes(height: f32) -> Tensor {
        let values: Vec<f32> = (0..SIZE * SIZE).flat_map(|at| [height * (at % 2) as f32; 3]).collect();
        Tensor::new(&values, [1, SIZE, SIZE, 3]).unwrap()
    }

    #[test]
    fn differences_and_their_gradients() {
        let found = differences(
            &Tensor::new(&[[1.0; 3], [3.0; 3], [6.0; 3], [0.0; 3]].concat(), [1, 2, 2, 3]).unwrap(),
        );
        assert_eq!(found.unwrap().data(), [2.0, 2.0, 2.0, 5.0, 5.0, 5.0]);
        let image = random_tensor(4, [1, 9, 9, 3]);
        assert_gradients(&[image], 1.0 / 64.0, TOLERANCE, |x| differences(&x[0]));
        assert!(differences(&Tensor::zeros([1, 1, 1, 3])).is_err());
    }

    #[test]
    fn a_smooth_image_has_a_smooth_albedo_and_edges_are_free() {
        let smooth = prior(|_, column| column as f32 / 200.0);
        let losses = [0.0, 0.1, 0.2].map(|height| smooth.loss(&stripes(height)).unwrap().item().unwrap());
        assert!(losses[0] < losses[1] && losses[1] < losses[2], "{losses:?}");
        let middle = |prior: &AlbedoPrior, column: usize| prior.weights.data()[31 * (SIZE - 1) + column];
        assert!(middle(&smooth, 31) > 0.9);
        // The viewpoint of a new model is frontal but for a pixel or two.
        let edge = prior(|_, column| if column < 32 { -0.5 } else { 0.5 });
        let least = (28..36).map(|column| middle(&edge, column)).fold(1.0, f32::min);
        assert!(least < 0.3 && middle(&edge, 20) > 0.9 && middle(&edge, 44) > 0.9, "{least}");
    }

    #[test]
    fn what_is_not_seen_keeps_the_changes_of_the_networks_albedo() {
        let settings = ModelSettings { initial_depth_scale: 0.01, ..ModelSettings::tiny() };
        let model = Model::new(settings, 3).unwrap();
        let image = Tensor::full([1, SIZE, SIZE, 3], 0.2);
        let mut prediction = model.predict(&image).unwrap();
        // Moved out of the image.
        prediction.view = Tensor::new(&[0.0, 0.0, 0.0, 0.5, 0.0, 0.0], [1, 6]).unwrap();
        let prior = AlbedoPrior::new(model.settings().camera(), &image, &prediction).unwrap();
        assert!(prior.weights.data().iter().all(|weight| *weight == 1.0));
        assert!(prior.loss(&prediction.albedo).unwrap().item().unwrap() < 1e-6);
    }
}
