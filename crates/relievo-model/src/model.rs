//! The model: settings, networks, parameters.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use relievo_nets::{ConfidenceNetwork, Network, ParameterInfo, Vgg, VggError, autoencoder, encoder};
use relievo_tensor::cuda::Lanes;
use relievo_tensor::ops::{Activation, cast};
use relievo_tensor::{DataType, Device, Error, Tensor};

use crate::settings::{LightModel, ModelSettings, Supervision};

/// Why a model cannot be made or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A setting that makes no sense.
    #[error("model settings: {0}")]
    Settings(String),
    /// The perceptual features cannot be had.
    #[error(transparent)]
    Vgg(#[from] VggError),
    /// Images of another shape than the model's.
    #[error("the model takes images of shape [B,{size},{size},3], not {shape}")]
    Images {
        /// Height and width the model was made for.
        size: usize,
        /// What it was given.
        shape: String,
    },
    /// The engine refused an operation.
    #[error(transparent)]
    Engine(#[from] Error),
}

impl ModelError {
    /// Whether a smaller batch might do.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Engine(Error::OutOfMemory { .. }))
    }

    /// The first of `too_many` / 2, / 4, ..., 1 images that `work` finds enough memory for; `None` if even one is too
    /// many, or something else is wrong. Halves only: on a GPU each number of images begins with measuring
    /// algorithms.
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

/// The five networks, the ranges of their outputs and the camera: everything that turns an image into its parts
/// and back.
pub struct Model {
    settings: ModelSettings,
    pub(crate) networks: Networks,
    infos: Vec<ParameterInfo>,
    pub(crate) parameters: Vec<Tensor>,
    device: Device,
    /// What activations and the working copies of weights are stored as.
    precision: DataType,
    /// Tensors that are the same in every step, by name, number of images and device.
    constants: Mutex<HashMap<(&'static str, usize, Device), Tensor>>,
    /// There only when the perceptual loss has a weight.
    pub(crate) vgg: Option<Vgg>,
}

/// The networks, each with its range in the flat list of parameters.
pub(crate) struct Networks {
    pub depth: (Network, Range<usize>),
    /// A model that learns depth from true depth has none of them.
    pub others: Option<OtherNetworks>,
}

/// The networks besides the one of depth.
pub(crate) struct OtherNetworks {
    pub albedo: (Network, Range<usize>),
    /// The light network, or the shading network that stands in for it.
    pub light: (Network, Range<usize>),
    pub view: (Network, Range<usize>),
    pub confidence: Option<(ConfidenceNetwork, Range<usize>)>,
}

impl Networks {
    fn new(settings: &ModelSettings) -> (Self, Vec<ParameterInfo>) {
        let ModelSettings { image_size: size, width, code, encoder_width, .. } = *settings;
        let mut infos = Vec::new();
        let mut place = |of_one: Vec<ParameterInfo>| {
            let start = infos.len();
            infos.extend(of_one);
            start..infos.len()
        };
        let mut network = |network: Network| {
            let range = place(network.parameters());
            (network, range)
        };
        let depth = network(autoencoder("depth", width, code, 1, size, Activation::Identity));
        if settings.supervision == Supervision::Depth {
            return (Self { depth, others: None }, infos);
        }
        let [albedo_width, albedo_code] = settings.albedo_channels();
        let albedo = network(autoencoder("albedo", albedo_width, albedo_code, 3, size, Activation::Tanh));
        let light = network(match settings.light {
            LightModel::Lambert => encoder("light", encoder_width, 4, size),
            LightModel::ShadingMap => autoencoder("shading", width, code, 1, size, Activation::Tanh),
        });
        let view = network(encoder("view", encoder_width, 6, size));
        let confidence = settings.confidence.then(|| {
            let network = ConfidenceNetwork::new("confidence", width, code / 2, size);
            let range = place(network.parameters());
            (network, range)
        });
        let others = Some(OtherNetworks { albedo, light, view, confidence });
        (Self { depth, others }, infos)
    }
}

/// What the networks say of B images of SxS pixels, before any meaning is put on it.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// Raw depth `[B,S,S,1]`, unbounded.
    pub depth: Tensor,
    /// Albedo `[B,S,S,3]` in (-1, 1).
    pub albedo: Tensor,
    /// Light `[B,1,1,4]`, or the shading map `[B,S,S,1]`, in (-1, 1).
    pub light: Tensor,
    /// Viewpoint `[B,1,1,6]` in (-1, 1).
    pub view: Tensor,
    /// Confidence as [`ConfidenceNetwork::forward`] gives it, where there is such a network.
    pub confidence: Option<(Tensor, Tensor)>,
    /// What VGG16 says of the images, `[B,S/4,S/4,256]`, where it was asked.
    pub target: Option<Tensor>,
}

impl Networks {
    /// Runs the networks on `images [B,S,S,3]`, that of confidence only if asked to, side by side: most layers are
    /// too small to be shared out among all of a GPU or, for a single image, among all cores, but the networks do not
    /// wait for each other. On a CPU's tape one after the other, so that a step is always recorded in the same order.
    /// The features of the perceptual loss do not wait for the networks either.
    pub fn forward(
        &self,
        images: &Tensor,
        parameters: &[Tensor],
        with_confidence: bool,
        vgg: Option<&Vgg>,
    ) -> Result<Outputs, Error> {
        let target = || vgg.map(|vgg| vgg.features(images)).transpose();
        // Once for all networks.
        let images = &match parameters.first() {
            Some(weight) => cast(images, weight.data_type())?,
            None => images.clone(),
        };
        let run = |part: &(Network, Range<usize>)| part.0.forward(images, &parameters[part.1.clone()]);
        let Some(OtherNetworks { albedo, light, view, confidence }) = &self.others else {
            return Err(Error::shape("model", "it has learned depth from true depth and knows nothing else"));
        };
        let confidence = || {
            let run = |(network, range): &(ConfidenceNetwork, Range<usize>)| {
                network.forward(images, &parameters[range.clone()])
            };
            confidence.as_ref().filter(|_| with_confidence).map(run).transpose()
        };
        if parameters.iter().any(Tensor::is_recorded) || images.device() != Device::Cpu {
            let mut lanes = Lanes::on(images.device())?;
            let depth = lanes.run(1, || run(&self.depth))?;
            let albedo = lanes.run(2, || run(albedo))?;
            let confidence = lanes.run(3, confidence)?;
            let light = lanes.run(4, || run(light))?;
            let view = lanes.run(5, || run(view))?;
            let target = lanes.run(6, target)?;
            lanes.join()?;
            return Ok(Outputs { depth, albedo, light, view, confidence, target });
        }
        let target = target()?;
        let ((depth, albedo), ((light, view), confidence)) = rayon::join(
            || rayon::join(|| run(&self.depth), || run(albedo)),
            || rayon::join(|| rayon::join(|| run(light), || run(view)), confidence),
        );
        let (depth, albedo, light, view, confidence) = (depth?, albedo?, light?, view?, confidence?);
        Ok(Outputs { depth, albedo, light, view, confidence, target })
    }

    /// What the depth network says of `images [B,S,S,3]`: `[B,S,S,1]`.
    pub fn depth(&self, images: &Tensor, parameters: &[Tensor]) -> Result<Tensor, Error> {
        let (network, range) = &self.depth;
        network.forward(images, &parameters[range.clone()])
    }
}

impl Model {
    /// A new model whose parameters are drawn from `seed`.
    ///
    /// # Errors
    /// If a setting makes no sense.
    pub fn new(settings: ModelSettings, seed: u64) -> Result<Self, ModelError> {
        let mut model = Self::without_parameters(settings)?;
        model.parameters = model.infos.iter().map(|info| info.initialise(seed)).collect();
        // The depth network begins as noise, which a viewpoint turns into folds; scaled down, it begins as a plane.
        let scale = model.settings.initial_depth_scale;
        let last = model.networks.depth.1.end - 1;
        model.parameters[last].data_mut().iter_mut().for_each(|weight| *weight *= scale);
        Ok(model)
    }

    /// A model whose parameters are still to be filled in.
    pub(crate) fn without_parameters(settings: ModelSettings) -> Result<Self, ModelError> {
        settings.check().map_err(ModelError::Settings)?;
        let (networks, infos) = Networks::new(&settings);
        let reconstructs = settings.supervision == Supervision::None;
        let vgg = if reconstructs && settings.perceptual_weight > 0.0 { Some(Vgg::new()?) } else { None };
        Ok(Self {
            settings,
            networks,
            infos,
            parameters: Vec::new(),
            device: Device::Cpu,
            precision: DataType::F32,
            constants: Mutex::default(),
            vgg,
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
        (self.parameters, self.vgg, self.device, self.precision) = (moved?, vgg, device, precision);
        self.constants = Mutex::default();
        Ok(())
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The parameters as the networks take them: the weights of convolutions in the model's precision.
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

    /// The working copies of those parameters that the networks do not take as they are. The last convolution of the
    /// depth network stays f32: the slope of a surface is a small difference of depths, and depths rounded to bf16
    /// alone turn normals by half a degree, from pixel to pixel.
    ///
    /// # Errors
    /// If the device fails.
    pub fn working_copies(&self) -> Result<Vec<Option<Tensor>>, ModelError> {
        let last_of_depth = self.networks.depth.1.end - 1;
        let copy = |(number, parameter): (usize, &Tensor)| {
            let is_convolution = parameter.shape().len() == 4 && number != last_of_depth;
            let is_copied = is_convolution && parameter.data_type() != self.precision;
            is_copied.then(|| cast(parameter, self.precision)).transpose()
        };
        Ok(self.parameters.iter().enumerate().map(copy).collect::<Result<_, Error>>()?)
    }

    /// A tensor that depends on nothing but the settings and the number of images, made once for each device.
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

    /// The parameters, to be changed in place. Their shapes must stay as they are.
    pub fn parameters_mut(&mut self) -> &mut [Tensor] {
        &mut self.parameters
    }

    /// Compares images by other features than those of the embedded weights, which have half precision. They must be
    /// on the model's device.
    pub fn set_vgg(&mut self, vgg: Vgg) {
        self.vgg = Some(vgg);
    }

    /// What the networks say of `images [B,S,S,3]`, from `parameters` in the order of
    /// [`Model::parameter_infos`]: the model's own, or the same as variables of a tape.
    ///
    /// # Errors
    /// If the images have another size than the model's, or the model has a depth network only.
    pub fn outputs(&self, images: &Tensor, parameters: &[Tensor]) -> Result<Outputs, ModelError> {
        self.check_images(images)?;
        Ok(self.networks.forward(images, parameters, true, None)?)
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
