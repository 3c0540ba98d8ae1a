//! From an image to depth, albedo, light and viewpoint, and back to the image: section 3 of Wu et al. 2020.

use relievo_nets::Vgg;
use relievo_render::{
    DepthSettings, Doubling, Scene, canonical_depth, diffuse_shading, light_from_raw, shade,
};
use relievo_tensor::ops::{
    ConcatAxis, concat, concat_flipped, concat_swapped, grid_sample, mul_columns, narrow_batch, overlap,
    reshape, weighted_sum,
};
use relievo_tensor::{Device, Error, Tensor};

use crate::learned_renderer::{Rendered, RendererInputs};
use crate::model::{Model, ModelError};
use crate::networks::{NetworkKind, Outputs, Purpose};
use crate::settings::{LightModel, Renderer, Supervision};

/// Declares [`Prediction`]: the fields that each has, and those, each an `Option`, that some have.
macro_rules! prediction {
    (
        $(#[$about:meta])*
        always { $($(#[$doc:meta])* $visible:vis $field:ident: $type:ty,)* }
        sometimes { $($(#[$some_doc:meta])* $some_visible:vis $some:ident: $some_type:ty,)* }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone)]
        pub struct Prediction {
            $($(#[$doc])* $visible $field: $type,)*
            $($(#[$some_doc])* $some_visible $some: Option<$some_type>,)*
        }

        /// What every prediction has.
        struct Always {
            $($field: $type,)*
        }

        impl From<Always> for Prediction {
            fn from(always: Always) -> Self {
                Self { $($field: always.$field,)* $($some: None,)* }
            }
        }

        impl Prediction {
            /// The prediction with `change` applied to each tensor, in the order of the fields.
            pub(crate) fn map(
                &self,
                mut change: impl FnMut(&Tensor) -> Result<Tensor, Error>,
            ) -> Result<Self, Error> {
                Ok(Self {
                    $($field: self.$field.map_tensors(&mut change)?,)*
                    $($some: self.$some.map_tensors(&mut change)?,)*
                })
            }
        }
    };
}

prediction! {
    /// Everything the model finds in a batch of B images of SxS pixels. In training, depth, albedo and what depends on
    /// them have 2B entries: B as seen, then B mirrored; both halves share light, viewpoint and mask. In training on pairs,
    /// the B images are the first images of all pairs, then the second ones; the second half has the depth and albedo of each
    /// image's partner under the image's own light and viewpoint, and masks of its own.
    always {
        /// The depth network's output, before the dome and the range: `[B,S,S]`; never doubled.
        pub raw_depth: Tensor,
        /// Canonical depth before the border was set: `[B,S,S]`; never doubled.
        pub smooth_depth: Tensor,
        /// Depth in the canonical view, `[B,S,S]`, within the settings' range.
        pub canonical_depth: Tensor,
        /// Albedo in the canonical view, `[B,S,S,3]` in [-1,1].
        pub albedo: Tensor,
        /// Light `[B,5]`: ambient, diffuse, then the direction (x, y, z) of length one. With a shading map:
        /// (0, 1, 0, 0, 1).
        pub light: Tensor,
        /// Normals of the canonical depth, `[B,S,S,3]` of length one.
        pub normals: Tensor,
        /// `max(0, normal . direction)`, `[B,S,S]`; with a shading map: that map, in \[0,2\].
        pub diffuse_shading: Tensor,
        /// The lit object in the canonical view, `[B,S,S,3]`.
        pub canonical_image: Tensor,
        /// Viewpoint `[B,6]`: radians about x, y, z, translation along x, y, z.
        pub view: Tensor,
        /// Depth in the view of the image, `[B,S,S]`, clamped to half a range beyond the settings' range.
        pub depth: Tensor,
        /// Where the object is in the view of the image, `[B,S,S]` (`[2B,S,S]` in training on pairs): 1 there, 0 elsewhere.
        /// No gradient.
        pub mask: Tensor,
        /// The image reconstructed, `[B,S,S,3]`; 0 (grey) where the object is not.
        pub image: Tensor,
    }
    sometimes {
        /// The outputs of the networks for light, `[B,1,1,4]` (or the shading map, `[B,S,S,1]`), and viewpoint, `[B,1,1,6]`, in
        /// (-1, 1): where refinement begins. `None` for a model of depth alone.
        pub(crate) raw_light_and_view: [Tensor; 2],
        /// The albedo in the view of the image, `[B,S,S,3]`, not masked. Of a model with a weight on its slopes.
        pub seen_albedo: Tensor,
        /// Scales of the error, above 0: of the photometric loss `[B,S,S,2]` and of the perceptual loss
        /// `[B,S/4,S/4,2]`; channel 0 as seen, 1 for the second half. Only if the model has that network and it ran. Outside
        /// training, a model that learns from pairs has channel 0 alone.
        pub confidence: (Tensor, Tensor),
        /// VGG16's features of the images, which the perceptual losses compare with, from shallow to deep (after relu3_3
        /// `[B,S/4,S/4,256]`); never doubled. In training with such a loss.
        pub target: Vec<Tensor>,
        /// The image of the learned renderer, `[2B,S,S,3]`, beside that of the exact one. In training with both.
        pub(crate) learned_image: Tensor,
        /// The place in the canonical image of each pixel of the input view, `[2B,S,S,2]`, as
        /// [`relievo_render::sampling_grid`] has it. In training with mirrored halves.
        pub grid: Tensor,
    }
}

/// A field of [`Prediction`].
trait Tensors: Sized {
    /// The same with `change` applied to each tensor.
    fn map_tensors(&self, change: &mut impl FnMut(&Tensor) -> Result<Tensor, Error>) -> Result<Self, Error>;
}

impl Tensors for Tensor {
    fn map_tensors(&self, change: &mut impl FnMut(&Tensor) -> Result<Tensor, Error>) -> Result<Self, Error> {
        change(self)
    }
}

impl Tensors for [Tensor; 2] {
    fn map_tensors(&self, change: &mut impl FnMut(&Tensor) -> Result<Tensor, Error>) -> Result<Self, Error> {
        Ok([change(&self[0])?, change(&self[1])?])
    }
}

impl Tensors for (Tensor, Tensor) {
    fn map_tensors(&self, change: &mut impl FnMut(&Tensor) -> Result<Tensor, Error>) -> Result<Self, Error> {
        Ok((change(&self.0)?, change(&self.1)?))
    }
}

impl Tensors for Vec<Tensor> {
    fn map_tensors(&self, change: &mut impl FnMut(&Tensor) -> Result<Tensor, Error>) -> Result<Self, Error> {
        self.iter().map(change).collect()
    }
}

impl<T: Tensors> Tensors for Option<T> {
    fn map_tensors(&self, change: &mut impl FnMut(&Tensor) -> Result<Tensor, Error>) -> Result<Self, Error> {
        self.as_ref().map(|field| field.map_tensors(change)).transpose()
    }
}

/// The second half of a doubled batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    /// There is none.
    Nothing,
    /// Depth and albedo mirrored, as the settings say: the object is symmetric.
    Mirrored,
    /// Depth and albedo of each image's partner: both images show one object.
    Swapped,
}

impl Prediction {
    /// The same on another device.
    ///
    /// # Errors
    /// If the device fails.
    pub fn to_device(&self, device: Device) -> Result<Self, Error> {
        self.map(|tensor| tensor.to_device(device))
    }
}

impl Model {
    /// Decomposes `images [B,S,S,3]` in [-1,1] and reconstructs them, on the model's device; the prediction is on the
    /// CPU. The confidence network, a fifth of the arithmetic, does not run. For many batches [`Predictor`] is
    /// faster.
    ///
    /// [`Predictor`]: crate::Predictor
    ///
    /// # Errors
    /// If the images have another size than the model's, or the device fails.
    pub fn predict(&self, images: &Tensor) -> Result<Prediction, ModelError> {
        self.check_images(images)?;
        let images = images.to_device(self.device())?;
        Ok(self.decompose(&images, &self.working_parameters()?)?.to_device(Device::Cpu)?)
    }

    /// As [`Model::predict`], with the confidence.
    ///
    /// # Errors
    /// If the images have another size than the model's, or the device fails.
    pub fn predict_with_confidence(&self, images: &Tensor) -> Result<Prediction, ModelError> {
        self.check_images(images)?;
        let images = images.to_device(self.device())?;
        let parameters = self.working_parameters()?;
        Ok(self.run(&images, &parameters, Second::Nothing, None)?.to_device(Device::Cpu)?)
    }

    /// The forward pass from `parameters` without confidence, not mirrored.
    pub(crate) fn decompose(&self, images: &Tensor, parameters: &[Tensor]) -> Result<Prediction, Error> {
        if self.settings().supervision == Supervision::Depth {
            return self.depth_alone(images, parameters);
        }
        let outputs = self.networks.forward(images, parameters, Purpose::Reconstruction, None)?;
        self.compose(outputs, Second::Nothing)
    }

    /// The whole forward pass from `parameters`, doubled as asked (but never for a model that learns depth from true
    /// depth), with the features of the images if there are some to be compared with. `images` are pairs, first images
    /// before second ones, if depth and albedo are to be swapped.
    pub(crate) fn run(
        &self,
        images: &Tensor,
        parameters: &[Tensor],
        second: Second,
        vgg: Option<&Vgg>,
    ) -> Result<Prediction, Error> {
        if self.settings().supervision == Supervision::Depth {
            return self.depth_alone(images, parameters);
        }
        let purpose = if second == Second::Swapped { Purpose::Pairs } else { Purpose::Losses };
        self.compose_for_losses(self.networks.forward(images, parameters, purpose, vgg)?, parameters, second)
    }

    /// As [`Model::compose`], with the image (and mask) of the learned renderer where the settings say so.
    pub(crate) fn compose_for_losses(
        &self,
        outputs: Outputs,
        parameters: &[Tensor],
        second: Second,
    ) -> Result<Prediction, Error> {
        let mut prediction = self.compose(outputs, second)?;
        let Prediction { canonical_depth: depth, albedo, light, view, .. } = &prediction;
        let images = view.shape()[0];
        let is_doubled = depth.shape()[0] > images;
        // Light and viewpoint are the image's own in both halves.
        let both = |rows: &Tensor| match is_doubled {
            true => concat(rows, rows, ConcatAxis::Batch),
            false => Ok(rows.clone()),
        };
        let inputs = || {
            let (depth, albedo) = (depth.clone(), albedo.clone());
            Ok(RendererInputs { depth, albedo, light: both(light)?, view: both(view)? })
        };
        let Some(Rendered { image, mask }) = self.networks.render(parameters, inputs)? else {
            return Ok(prediction);
        };
        if self.settings().renderer() == Renderer::Both {
            prediction.learned_image = Some(image);
            return Ok(prediction);
        }
        let mask = match second {
            Second::Mirrored => {
                overlap(&narrow_batch(&mask, 0, images)?, &narrow_batch(&mask, images, images)?)
            }
            Second::Nothing | Second::Swapped => overlap(&mask, &mask),
        };
        (prediction.image, prediction.mask) = (image, mask?);
        Ok(prediction)
    }

    /// From the networks' outputs to the image that they describe.
    pub(crate) fn compose(&self, outputs: Outputs, second: Second) -> Result<Prediction, Error> {
        let settings = self.settings();
        let output = |kind| outputs.get(kind);
        let depth = output(NetworkKind::Depth)?;
        let [batch, ..] = depth.dims::<4>("model")?;
        let device = depth.device();
        let double = |x: &Tensor, mirror: bool| match second {
            Second::Nothing => Ok(x.clone()),
            Second::Mirrored => concat_flipped(x, mirror),
            Second::Swapped => concat_swapped(x),
        };

        let doubling = self.doubling(second == Second::Mirrored);
        let (raw_depth, [smooth_depth, mut canonical_depth]) = self.shape(depth, doubling)?;
        if second == Second::Swapped {
            canonical_depth = concat_swapped(&canonical_depth)?;
        }
        let albedo = double(output(NetworkKind::Albedo)?, settings.flip_albedo)?;

        let camera = settings.camera();
        let lighting = self.lighting(output(NetworkKind::Light)?)?;
        let (light, [normals, diffuse_shading]) = match settings.light {
            LightModel::Lambert => {
                let shaded = diffuse_shading(&canonical_depth, &lighting, camera)?;
                (lighting, shaded)
            }
            LightModel::ShadingMap => {
                let light = self.frontal_light(batch, device)?;
                // The normals have no part in it; they are there to be looked at.
                let [normals, _] = diffuse_shading(&canonical_depth.detach(), &light, camera)?;
                // The light is the image's own in both halves.
                let shading =
                    if second == Second::Nothing { lighting } else { concat_flipped(&lighting, false)? };
                (light, [normals, shading])
            }
        };
        let canonical_image = shade(&albedo, &diffuse_shading, &light)?;

        let raw_view = reshape(output(NetworkKind::View)?, [batch, 6])?;
        let view = mul_columns(&raw_view, &settings.view_ranges())?;
        // What symmetry shows of an image must be seen on both sides; the two images of a pair are seen apart.
        let parts = if second == Second::Mirrored { 2 } else { 1 };
        let reconstruction = self.scene().reconstruct(&canonical_image, &canonical_depth, &view, parts)?;
        let seen_albedo = (settings.albedo_weight > 0.0)
            .then(|| grid_sample(&albedo, &reconstruction.grid, None))
            .transpose()?;
        let heads = |kind| match outputs.heads(kind) {
            [pixels, features] => Some([pixels.clone(), features.clone()]),
            _ => None,
        };
        let confidence = match (heads(NetworkKind::Confidence), heads(NetworkKind::PairConfidence)) {
            (Some([pixels, features]), Some([of_pairs, features_of_pairs])) => Some((
                concat(&pixels, &of_pairs, ConcatAxis::Channels)?,
                concat(&features, &features_of_pairs, ConcatAxis::Channels)?,
            )),
            (own, _) => own.map(|[pixels, features]| (pixels, features)),
        };

        Ok(Prediction {
            raw_depth,
            raw_light_and_view: Some([
                output(NetworkKind::Light)?.clone(),
                output(NetworkKind::View)?.clone(),
            ]),
            smooth_depth,
            canonical_depth,
            albedo,
            light,
            normals,
            diffuse_shading,
            canonical_image,
            view,
            depth: reconstruction.depth,
            mask: reconstruction.mask,
            image: reconstruction.image,
            seen_albedo,
            confidence,
            target: outputs.target,
            learned_image: None,
            grid: (second == Second::Mirrored).then_some(reconstruction.grid),
        })
    }

    /// The lights `[B,5]` of the light network's outputs; with a shading map, that map `[B,S,S]`, in \[0,2\].
    pub(crate) fn lighting(&self, raw: &Tensor) -> Result<Tensor, Error> {
        let (batch, size) = (raw.shape()[0], self.settings().image_size);
        match self.settings().light {
            LightModel::Lambert => light_from_raw(&reshape(raw, [batch, 4])?, self.settings().light_range()),
            LightModel::ShadingMap => {
                let map = reshape(raw, [batch, size, size])?;
                weighted_sum(&[(1.0, &map), (1.0, &Tensor::full_on(map.device(), map.shape(), 1.0)?)])
            }
        }
    }

    /// The albedo as the image shows it, `[B,S,S,3]`, on the CPU: sampled where the surface seen at each pixel has it. Where
    /// [`Prediction::mask`] is 0 it has no meaning. For predictions that are neither mirrored nor swapped.
    ///
    /// # Errors
    /// If the prediction is of another size than the model's.
    pub fn albedo_in_view(&self, prediction: &Prediction) -> Result<Tensor, Error> {
        let traced = self.scene().trace(&prediction.canonical_depth, &prediction.view, 1)?;
        grid_sample(&prediction.albedo, &traced.grid, None)
    }

    /// The light beside a shading map, which is all there is: no ambient light, and a diffuse light of strength one from
    /// the front.
    pub(crate) fn frontal_light(&self, batch: usize, device: Device) -> Result<Tensor, Error> {
        let frontal = [0.0, 1.0, 0.0, 0.0, 1.0].repeat(batch);
        self.constant("frontal light", batch, device, || {
            Tensor::new(&frontal, [batch, 5]).expect("five numbers for each image")
        })
    }

    /// What the canonical surface is rendered by.
    pub(crate) fn scene(&self) -> Scene {
        self.settings().scene()
    }

    /// How the canonical depths are doubled.
    pub(crate) fn doubling(&self, mirrored: bool) -> Doubling {
        match (mirrored, self.settings().flip_depth) {
            (false, _) => Doubling::Single,
            (true, false) => Doubling::Repeated,
            (true, true) => Doubling::Mirrored,
        }
    }

    /// Raw depth `[B,S,S]` and the two depths of [`canonical_depth`], from the depth network's output `[B,S,S,1]`.
    pub(crate) fn shape(&self, output: &Tensor, doubling: Doubling) -> Result<(Tensor, [Tensor; 2]), Error> {
        let settings = self.settings();
        let [batch, size, _, _] = output.dims("depth")?;
        let raw_depth = reshape(output, [batch, size, size])?;
        let depths = canonical_depth(
            &raw_depth,
            DepthSettings {
                range: settings.depth_range(),
                dome: settings.dome,
                border_depth: settings.border_depth,
                doubling,
            },
        )?;
        Ok((raw_depth, depths))
    }

    /// The prediction of a model that learned depth from true depth: depth in the image's own view, without a border.
    /// The rest is neutral: the image itself for albedo, even light, a frontal view, the object everywhere.
    fn depth_alone(&self, images: &Tensor, parameters: &[Tensor]) -> Result<Prediction, Error> {
        let settings = self.settings();
        let [batch, size, _, _] = images.dims("model")?;
        let device = images.device();
        let said = self.networks.depth(images, parameters)?;
        let (raw_depth, [depth, _]) = self.shape(&said, Doubling::Single)?;
        let even = [1.0, 0.0, 0.0, 0.0, 1.0].repeat(batch);
        let light = self.constant("even light", batch, device, || {
            Tensor::new(&even, [batch, 5]).expect("five numbers for each image")
        })?;
        let [normals, diffuse_shading] = diffuse_shading(&depth, &light, settings.camera())?;
        let prediction = Always {
            raw_depth,
            smooth_depth: depth.clone(),
            canonical_depth: depth.clone(),
            albedo: images.clone(),
            diffuse_shading,
            light,
            normals,
            canonical_image: images.clone(),
            view: self.constant("frontal view", batch, device, || Tensor::zeros([batch, 6]))?,
            depth,
            mask: self.constant("everywhere", batch, device, || Tensor::full([batch, size, size], 1.0))?,
            image: images.clone(),
        };
        Ok(prediction.into())
    }
}
