//! The model: settings, networks, parameters.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use relievo_nets::{ParameterInfo, Vgg, VggError};
use relievo_settings::Invalid;
use relievo_tensor::ops::{FilterBank, cast};
use relievo_tensor::{ConvPolicy, DataType, Device, Error, Tensor, cuda};

use crate::filters::Banks;
use crate::losses::LossKind;
use crate::networks::{Networks, Outputs, Purpose};
use crate::settings::ModelSettings;

/// A model that could not be made or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// An invalid setting.
    #[error("model settings: {0}")]
    Settings(#[from] Invalid),
    /// The perceptual features are unreadable.
    #[error(transparent)]
    Vgg(#[from] VggError),
    /// Images of another shape than the model's.
    #[error("the model takes images of shape [B,{size},{size},3], not {shape}")]
    Images {
        /// Height and width the model was made for.
        size: usize,
        /// The shape of the images.
        shape: String,
    },
    /// The engine refused an operation.
    #[error(transparent)]
    Engine(#[from] Error),
}

impl From<cuda::Error> for ModelError {
    fn from(error: cuda::Error) -> Self {
        Self::Engine(error.into())
    }
}

impl ModelError {
    /// Whether a smaller batch might fit.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Engine(Error::OutOfMemory { .. }))
    }

    /// The first of `too_many` / 2, / 4, ..., 1 images for which `work` does not run out of memory; `None` if one image
    /// is too many, or if `work` fails otherwise. Only halves are tried, because a GPU measures algorithms anew for
    /// each number of images.
    pub fn largest_that_fits(too_many: usize, work: impl Fn(usize) -> Result<(), Self>) -> Option<usize> {
        let halves = std::iter::successors(Some(too_many / 2), |count| Some(count / 2));
        for count in halves.take_while(|count| *count > 0) {
            match work(count) {
                Ok(()) => return Some(count),
                Err(error) if error.is_out_of_memory() => {}
                Err(_) => return None,
            }
        }
        None
    }
}

/// The networks with their parameters, the ranges of their outputs and the camera: everything that decomposes an image
/// and renders it again.
pub struct Model {
    settings: ModelSettings,
    pub(crate) networks: Networks,
    infos: Vec<ParameterInfo>,
    pub(crate) parameters: Vec<Tensor>,
    device: Device,
    /// The type of activations and of the working copies of weights.
    precision: DataType,
    /// Tensors that are the same in every step, by name, number of images and device.
    constants: Mutex<HashMap<(&'static str, usize, Device), Tensor>>,
    /// Only if a term compares its features.
    pub(crate) vgg: Option<Vgg>,
    /// Those that terms of the loss need.
    pub(crate) banks: Banks,
    /// See [`Model::has_seen_truth`].
    pub(crate) has_seen_truth: bool,
    /// See [`Model::has_seen_landmarks`].
    pub(crate) has_seen_landmarks: bool,
}

impl Model {
    /// A new model whose parameters are drawn from `seed`.
    ///
    /// # Errors
    /// If a setting is invalid.
    pub fn new(settings: ModelSettings, seed: u64) -> Result<Self, ModelError> {
        let mut model = Self::without_parameters(settings)?;
        model.parameters = model.infos.iter().map(|info| info.initialise(seed)).collect();
        // The depth network begins as noise, which a viewpoint turns into folds; scaled down, it begins as a plane.
        let scale = model.settings.initial_depth_scale;
        let last = model.networks.last_of_depth();
        model.parameters[last].data_mut().iter_mut().for_each(|weight| *weight *= scale);
        Ok(model)
    }

    /// A model whose parameters are still to be filled in.
    pub(crate) fn without_parameters(settings: ModelSettings) -> Result<Self, ModelError> {
        settings.check()?;
        let (networks, infos) = Networks::new(&settings);
        let mut vgg = if settings.needs_vgg() { Some(Vgg::new()?) } else { None };
        if let Some(vgg) = &mut vgg {
            vgg.set_depths(&settings.feature_depths());
        }
        let banks = Banks::new(&settings)?;
        Ok(Self {
            has_seen_truth: settings.uses_truth(),
            has_seen_landmarks: settings.uses_landmarks(),
            settings,
            networks,
            infos,
            parameters: Vec::new(),
            device: Device::Cpu,
            precision: DataType::F32,
            constants: Mutex::default(),
            vgg,
            banks,
        })
    }

    /// Moves parameters and features to a device. On a GPU, activations and working copies of the convolutions' weights
    /// are stored as `precision`; the parameters themselves, geometry and losses stay f32. The features stay rounded to
    /// it wherever they are moved later.
    ///
    /// # Errors
    /// If the device is not there or out of memory.
    pub fn to_device(&mut self, device: Device, precision: DataType) -> Result<(), ModelError> {
        let moved: Result<Vec<Tensor>, Error> =
            self.parameters.iter().map(|parameter| parameter.to_device(device)).collect();
        let vgg = self.vgg.as_ref().map(|vgg| vgg.to_device(device, precision)).transpose()?;
        self.banks = self.banks.to_device(device)?;
        (self.parameters, self.vgg, self.device, self.precision) = (moved?, vgg, device, precision);
        self.constants = Mutex::default();
        Ok(())
    }

    /// Sets how exactly a GPU computes the convolutions of this model; exact f32 by algorithms that may differ in their
    /// last bits from run to run, if it is never set. Work that was captured keeps the policy it was captured with.
    pub fn set_conv_policy(&mut self, policy: ConvPolicy) {
        self.networks.policy = policy;
        if let Some(vgg) = &mut self.vgg {
            vgg.set_conv_policy(policy);
        }
    }

    /// Sets whether a GPU computes the networks side by side, as it does if this is never set, or one after the other:
    /// to time each by itself.
    pub fn set_forked_streams(&mut self, forks: bool) {
        self.networks.forks = forks;
    }

    /// The device that holds its parameters and computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The parameters in the form that the networks take: weights of convolutions in the model's precision.
    ///
    /// # Errors
    /// If the device fails.
    pub fn working_parameters(&self) -> Result<Vec<Tensor>, ModelError> {
        let copies = self.working_copies()?;
        Ok(self
            .parameters
            .iter()
            .zip(copies)
            .map(|(own, copy)| copy.unwrap_or_else(|| own.clone()))
            .collect())
    }

    /// The working copies of the parameters that the networks take in another precision; `None` for the others. The
    /// last convolution of the depth network stays f32: the slope of a surface is a small difference of depths, and
    /// depths rounded to bf16 turn normals by half a degree, from pixel to pixel. So does a learned renderer, which renders
    /// in f32 as the exact one does.
    ///
    /// # Errors
    /// If the device fails.
    pub fn working_copies(&self) -> Result<Vec<Option<Tensor>>, ModelError> {
        let last_of_depth = self.networks.last_of_depth();
        let of_renderer = self.networks.of_renderer();
        let copy = |(number, parameter): (usize, &Tensor)| {
            let stays = number == last_of_depth || of_renderer.contains(&number);
            let is_convolution = parameter.shape().len() == 4 && !stays;
            let is_copied = is_convolution && parameter.data_type() != self.precision;
            is_copied.then(|| cast(parameter, self.precision)).transpose()
        };
        Ok(self.parameters.iter().enumerate().map(copy).collect::<Result<_, Error>>()?)
    }

    /// A tensor that depends only on the settings and the number of images, made once for each device.
    pub(crate) fn constant(
        &self,
        name: &'static str,
        batch: usize,
        device: Device,
        make: impl FnOnce() -> Tensor,
    ) -> Result<Tensor, Error> {
        let mut constants = self.constants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(constant) = constants.get(&(name, batch, device)) {
            return Ok(constant.clone());
        }
        let constant = make().to_device(device)?;
        constants.insert((name, batch, device), constant.clone());
        Ok(constant)
    }

    /// Whether the parameters have learned from ground truth, in this run or in one whose weights it took over: such a
    /// model is not unsupervised.
    pub fn has_seen_truth(&self) -> bool {
        self.has_seen_truth
    }

    /// Whether the parameters have learned from points that a face detector found, in this run or in one whose weights
    /// it took over: such a model is not unsupervised.
    pub fn has_seen_landmarks(&self) -> bool {
        self.has_seen_landmarks
    }

    /// Says whether the parameters learn from ground truth, if that is not what the settings say: the answers of a
    /// teacher take the place of the truth and are none.
    pub fn set_seen_truth(&mut self, has_seen_truth: bool) {
        self.has_seen_truth = has_seen_truth;
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &ModelSettings {
        &self.settings
    }

    /// Name, shape and beginning of each parameter: depth, albedo, light, view, confidence, layer by layer.
    pub fn parameter_infos(&self) -> &[ParameterInfo] {
        &self.infos
    }

    /// The parameters in the order of [`Model::parameter_infos`].
    pub fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }

    /// The parameters, to be changed in place. Their shapes must not change.
    pub fn parameters_mut(&mut self) -> &mut [Tensor] {
        &mut self.parameters
    }

    /// Replaces the features of the perceptual loss; the embedded ones have half precision. They must be on the model's
    /// device.
    pub fn set_vgg(&mut self, mut vgg: Vgg) {
        vgg.set_conv_policy(self.networks.policy);
        vgg.set_depths(&self.settings.feature_depths());
        self.vgg = Some(vgg);
    }

    /// Replaces the bank of the term [`LossKind::FilterBank`](crate::LossKind::FilterBank), if the loss has it; for
    /// work on the CPU until the model is moved.
    pub fn set_filters(&mut self, bank: FilterBank) {
        self.banks.replace(LossKind::FilterBank, bank);
    }

    /// The networks' outputs for `images [B,S,S,3]`, from `parameters` in the order of [`Model::parameter_infos`]: the
    /// model's own, or the same as variables of a tape.
    ///
    /// # Errors
    /// If the images have another size than the model's, or the model has a depth network only.
    pub fn outputs(&self, images: &Tensor, parameters: &[Tensor]) -> Result<Outputs, ModelError> {
        self.check_images(images)?;
        Ok(self.networks.forward(images, parameters, Purpose::Losses, None)?)
    }

    /// Refuses images of another shape than `[B,size,size,3]`.
    pub(crate) fn check_images(&self, images: &Tensor) -> Result<usize, ModelError> {
        let size = self.settings.image_size;
        match images.shape().dims() {
            Some([batch, height, width, 3]) if batch > 0 && height == size && width == size => Ok(batch),
            _ => Err(ModelError::Images { size, shape: images.shape().to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_can_begin_as_a_plane() {
        let settings = ModelSettings { initial_depth_scale: 0.0, ..ModelSettings::tiny() };
        let images = Tensor::full([1, 64, 64, 3], 0.25);
        let depth = Model::new(settings, 0).unwrap().predict(&images).unwrap().raw_depth;
        assert!(depth.data().iter().all(|&raw| raw == 0.0));
    }

    #[test]
    fn a_dome_is_nearest_in_the_middle() {
        let settings = ModelSettings { initial_depth_scale: 0.0, dome: 0.7, ..ModelSettings::tiny() };
        let images = Tensor::full([1, 64, 64, 3], 0.25);
        let depth = Model::new(settings, 0).unwrap().predict(&images).unwrap().smooth_depth;
        let at = |row: usize, column: usize| depth.data()[row * 64 + column];
        assert!(at(32, 32) < at(32, 16) && at(32, 16) < at(32, 4) && at(32, 4) < at(2, 4));
        assert!((at(31, 31) - at(32, 32)).abs() < 1e-6);
    }

    #[test]
    fn images_of_another_size_are_refused() {
        let error = Model::new(ModelSettings::tiny(), 0)
            .unwrap()
            .predict(&Tensor::zeros([1, 32, 64, 3]))
            .unwrap_err();
        assert_eq!(error.to_string(), "the model takes images of shape [B,64,64,3], not [1, 32, 64, 3]");
    }
}
