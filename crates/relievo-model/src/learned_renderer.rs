//! A renderer that is learned: a U-Net in place of geometry.
//!
//! The exact renderer knows what a surface is; this one has convolutions and is told light and viewpoint. It is there to be
//! compared with the exact one, by its images and by the direction of its gradients.

use relievo_nets::{ParameterInfo, UNet};
use relievo_render::{LightRange, diffuse_shading, shade};
use relievo_settings::{Invalid, multiple_of, power_of_two, settings, with_unit};
use relievo_tensor::ops::{Activation, ConcatAxis, concat, mul_columns, reshape, weighted_sum};
use relievo_tensor::safetensors::{Entry, SafetensorsFile, serialize};
use relievo_tensor::{ConvPolicy, Device, Error, Tensor};

use crate::model::ModelError;
use crate::settings::ModelSettings;
use crate::weights::{WeightsError, read};

/// The key under which the settings of a learned renderer stand in its file's metadata, as JSON.
pub const RENDERER_KEY: &str = "relievo.renderer";

/// Depth as the network sees it lies within plus and minus this: a slope of 45 degrees is then about 0.1 a pixel, which
/// the first kernels can tell from a plane.
const DEPTH_GAIN: f32 = 4.0;

/// Factors of the viewpoint as the network sees it: radians, and tenths of a unit.
const VIEW_GAINS: [f32; 6] = [1.0, 1.0, 1.0, 10.0, 10.0, 10.0];

settings! {
    /// What a learned renderer renders, and how large it is. Camera and ranges are those of a model.
    pub struct RendererSettings {
        /// Height and width of the images in pixels, a power of two from 64 to 1024
        image_size: usize = 64, in power_of_two(64..=1024), kind(Architecture);
        /// Channels at the finest level of the network, a multiple of 4
        width: usize = 16, in multiple_of(4, 4..=512), kind(Architecture);
        /// Nearest canonical depth, in units of the distance of the object
        min_depth: f32 = 0.9, kind(Meaning);
        /// Farthest canonical depth
        max_depth: f32 = 1.1, kind(Meaning);
        /// Canonical depth of the two outermost columns on each side, and of what is not the object
        border_depth: f32 = 1.04, kind(Meaning);
        /// Field of view of the camera, in degrees
        field_of_view: f32 = 10.0, in with_unit(0.1..=170.0, "degrees"), kind(Meaning);
        /// Where the exact renderer samples a pixel: 0 where the sampling grid puts it, 0.5 half a pixel further
        pixel_centre: f32 = 0.0, in 0.0..=1.0, kind(Meaning);
        /// Largest yaw to learn, in degrees
        yaw_range: f32 = 60.0, in with_unit(0.0..=90.0, "degrees"), kind(Meaning);
        /// Largest pitch to learn, in degrees
        pitch_range: f32 = 30.0, in with_unit(0.0..=90.0, "degrees"), kind(Meaning);
        /// Largest roll to learn, in degrees
        roll_range: f32 = 30.0, in with_unit(0.0..=90.0, "degrees"), kind(Meaning);
        /// Largest translation along x and y to learn
        translation_range: f32 = 0.05, in 0.0..=1.0, kind(Meaning);
        /// Lower bound of ambient light
        min_ambient: f32 = 0.0, kind(Meaning);
        /// Upper bound of ambient light
        max_ambient: f32 = 1.0, kind(Meaning);
        /// Lower bound of diffuse light
        min_diffuse: f32 = 0.0, kind(Meaning);
        /// Upper bound of diffuse light
        max_diffuse: f32 = 1.0, kind(Meaning);
    }
}

/// What there is to render: B objects of S x S pixels, each under a light and from a viewpoint.
#[derive(Debug, Clone)]
pub struct RendererInputs {
    /// Canonical depth, `[B,S,S]`.
    pub depth: Tensor,
    /// Canonical albedo, `[B,S,S,3]` in [-1,1].
    pub albedo: Tensor,
    /// Lights, `[B,5]`: ambient, diffuse, then the direction (x, y, z) of length one.
    pub light: Tensor,
    /// Viewpoints, `[B,6]`: radians about x, y, z, translation along x, y, z.
    pub view: Tensor,
}

/// What a renderer makes of [`RendererInputs`].
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The objects in the view, `[B,S,S,3]`; above 1 where the light is too strong. Outside the mask the exact renderer
    /// gives 0, the learned one anything.
    pub image: Tensor,
    /// Where there is a surface, `[B,S,S]`: 0 or 1 of the exact renderer, without gradient; in between of the learned one.
    pub mask: Tensor,
}

impl RendererSettings {
    /// Refuses the first invalid setting.
    ///
    /// # Errors
    /// With the setting, its value and what it must be.
    pub fn check(&self) -> Result<(), Invalid> {
        self.check_each()?;
        self.of_model().check()
    }

    /// The settings of a model with this camera and these ranges.
    fn of_model(&self) -> ModelSettings {
        ModelSettings {
            image_size: self.image_size,
            min_depth: self.min_depth,
            max_depth: self.max_depth,
            border_depth: self.border_depth,
            field_of_view: self.field_of_view,
            pixel_centre: self.pixel_centre,
            min_ambient: self.min_ambient,
            max_ambient: self.max_ambient,
            min_diffuse: self.min_diffuse,
            max_diffuse: self.max_diffuse,
            ..ModelSettings::default()
        }
    }

    /// The ranges of ambient and diffuse light.
    pub fn light_range(&self) -> LightRange {
        self.of_model().light_range()
    }

    /// The image of the exact renderer, as a model makes it of its prediction. Gradients reach all inputs.
    ///
    /// # Errors
    /// If the shapes do not fit each other or the image size.
    pub fn render_exactly(&self, inputs: &RendererInputs) -> Result<Rendered, Error> {
        let settings = self.of_model();
        let RendererInputs { depth, albedo, light, view } = inputs;
        let [_, diffuse] = diffuse_shading(depth, light, settings.camera())?;
        let canonical = shade(albedo, &diffuse, light)?;
        let seen = settings.scene().reconstruct(&canonical, depth, view, 1)?;
        Ok(Rendered { image: seen.image, mask: seen.mask })
    }
}

/// The network of a learned renderer, without parameters: of a [`LearnedRenderer`], or of a model that learns with one.
pub(crate) struct RendererNetwork {
    network: UNet,
    width: usize,
    image_size: usize,
    /// Nearest and farthest canonical depth.
    depths: [f32; 2],
}

impl RendererNetwork {
    pub fn new(image_size: usize, width: usize, depths: [f32; 2]) -> Self {
        let heads = vec![(3, Activation::Identity), (1, Activation::Tanh)];
        Self { network: UNet::new("renderer", 4, 11, width, heads), width, image_size, depths }
    }

    /// Name, shape and beginning of its parameters.
    pub fn parameters(&self) -> Vec<ParameterInfo> {
        self.network.parameters()
    }

    /// Multiplications of its convolutions for an image.
    pub fn multiplications(&self) -> u64 {
        self.network.multiplications(self.image_size)
    }

    /// Channels at its finest level.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Image and mask. Gradients reach all inputs and parameters.
    ///
    /// # Errors
    /// If the shapes do not fit each other or the image size, or there are too few or too many parameters.
    pub fn render(
        &self,
        inputs: &RendererInputs,
        parameters: &[Tensor],
        policy: ConvPolicy,
    ) -> Result<Rendered, Error> {
        let RendererInputs { depth, albedo, light, view } = inputs;
        let (size, [min_depth, max_depth]) = (self.image_size, self.depths);
        let [batch, rows, columns] = depth.dims("learned renderer")?;
        if [rows, columns] != [size, size] {
            let detail = format!("needs depth [B, {size}, {size}], got {}", depth.shape());
            return Err(Error::shape("learned renderer", detail));
        }
        let depth = reshape(depth, [batch, size, size, 1])?;
        let ones = Tensor::full_on(depth.device(), depth.shape(), 1.0)?;
        let scale = 2.0 * DEPTH_GAIN / (max_depth - min_depth);
        let centred = weighted_sum(&[(scale, &depth), (-scale * (min_depth + max_depth) / 2.0, &ones)])?;
        let maps = concat(&centred, albedo, ConcatAxis::Channels)?;
        let condition = concat(light, &mul_columns(view, &VIEW_GAINS)?, ConcatAxis::Channels)?;
        let heads = self.network.forward(&maps, &condition, parameters, policy)?;
        let [image, mask] = &heads[..] else { unreachable!("the network has two heads") };
        let mask = weighted_sum(&[(0.5, mask), (0.5, &ones)])?;
        Ok(Rendered { image: image.clone(), mask: reshape(&mask, [batch, size, size])? })
    }
}

/// R(depth, albedo, light, viewpoint): a U-Net on canonical depth and albedo that is told light and viewpoint by modulation
/// at every level ([`UNet`]). There is no geometry in it.
///
/// ```
/// use relievo_model::{LearnedRenderer, RendererInputs, RendererSettings};
/// use relievo_tensor::Tensor;
///
/// let renderer = LearnedRenderer::new(RendererSettings { width: 4, ..RendererSettings::default() }, 0)?;
/// let rendered = renderer.render(&RendererInputs {
///     depth: Tensor::full([1, 64, 64], 1.0),
///     albedo: Tensor::zeros([1, 64, 64, 3]),
///     light: Tensor::new(&[0.5, 0.5, 0.0, 0.0, 1.0], [1, 5])?,
///     view: Tensor::zeros([1, 6]),
/// })?;
/// assert_eq!(rendered.image.shape(), [1, 64, 64, 3].into());
/// assert_eq!(rendered.mask.shape(), [1, 64, 64].into());
/// # Ok::<(), relievo_model::ModelError>(())
/// ```
pub struct LearnedRenderer {
    settings: RendererSettings,
    network: RendererNetwork,
    infos: Vec<ParameterInfo>,
    parameters: Vec<Tensor>,
}

impl LearnedRenderer {
    /// A renderer that has learned nothing yet, its parameters drawn from `seed`.
    ///
    /// # Errors
    /// If a setting is invalid.
    pub fn new(settings: RendererSettings, seed: u64) -> Result<Self, ModelError> {
        let mut renderer = Self::without_parameters(settings)?;
        renderer.parameters = renderer.infos.iter().map(|info| info.initialise(seed)).collect();
        Ok(renderer)
    }

    fn without_parameters(settings: RendererSettings) -> Result<Self, ModelError> {
        settings.check()?;
        let RendererSettings { image_size, width, min_depth, max_depth, .. } = settings;
        let network = RendererNetwork::new(image_size, width, [min_depth, max_depth]);
        let infos = network.parameters();
        Ok(Self { settings, network, infos, parameters: Vec::new() })
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &RendererSettings {
        &self.settings
    }

    /// Name, shape and beginning of each parameter.
    pub fn parameter_infos(&self) -> &[ParameterInfo] {
        &self.infos
    }

    /// The parameters in the order of [`LearnedRenderer::parameter_infos`].
    pub fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }

    /// The parameters, to be changed in place. Their shapes must not change.
    pub fn parameters_mut(&mut self) -> &mut [Tensor] {
        &mut self.parameters
    }

    /// Multiplications of its convolutions for an image.
    pub fn multiplications(&self) -> u64 {
        self.network.multiplications()
    }

    /// The image and the mask. Gradients reach all inputs.
    ///
    /// # Errors
    /// If the shapes do not fit each other or the image size.
    pub fn render(&self, inputs: &RendererInputs) -> Result<Rendered, Error> {
        self.render_with(inputs, &self.parameters)
    }

    /// As [`LearnedRenderer::render`] with other parameters: its own as variables of a tape.
    ///
    /// # Errors
    /// As [`LearnedRenderer::render`]; if there are too few or too many parameters.
    pub fn render_with(&self, inputs: &RendererInputs, parameters: &[Tensor]) -> Result<Rendered, Error> {
        self.network.render(inputs, parameters, ConvPolicy::default())
    }

    /// All parameters as a safetensors file, with the settings in its metadata.
    ///
    /// # Errors
    /// If they are on a GPU that fails.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ModelError> {
        let mut entries = Vec::with_capacity(self.parameters.len());
        for (info, tensor) in self.infos.iter().zip(&self.parameters) {
            entries.push(Entry::f32(&info.name, &tensor.shape(), tensor.to_device(Device::Cpu)?.data()));
        }
        let metadata = [(RENDERER_KEY.to_owned(), self.settings_text())].into();
        Ok(serialize(&entries, metadata).expect("parameters have distinct names and whole bytes"))
    }

    /// The settings as they stand in a file.
    pub fn settings_text(&self) -> String {
        serde_json::to_string(&self.settings).expect("settings are plain numbers")
    }

    /// A renderer from what [`LearnedRenderer::to_safetensors`] wrote. `origin` (a path, say) begins every error message.
    ///
    /// # Errors
    /// If the bytes are no such file, or parameters are missing or of the wrong shape.
    pub fn from_safetensors(bytes: &[u8], origin: &str) -> Result<Self, WeightsError> {
        let origin = || origin.to_owned();
        let file = SafetensorsFile::open(bytes)
            .map_err(|source| WeightsError::Format { origin: origin(), source })?;
        let settings =
            file.metadata(RENDERER_KEY).ok_or_else(|| WeightsError::NoRenderer { origin: origin() })?;
        let unusable = |reason: String| WeightsError::Settings { origin: origin(), reason };
        let settings: RendererSettings =
            serde_json::from_str(settings).map_err(|error| unusable(error.to_string()))?;
        settings.check().map_err(|invalid| unusable(invalid.reason))?;
        let mut renderer = Self::without_parameters(settings)?;
        let parameters = renderer.infos.iter().map(|info| {
            read(&file, info).map_err(|reason| WeightsError::Parameter {
                origin: origin(),
                name: info.name.clone(),
                reason,
            })
        });
        renderer.parameters = parameters.collect::<Result<_, _>>()?;
        Ok(renderer)
    }
}

#[cfg(test)]
mod tests {
    use relievo_tensor::Tape;
    use relievo_tensor::ops::weighted_elements_sum;

    use super::*;

    fn small() -> LearnedRenderer {
        LearnedRenderer::new(RendererSettings { width: 4, ..RendererSettings::default() }, 3).unwrap()
    }

    /// A bulge, grey, lit from the side, turned.
    fn inputs() -> RendererInputs {
        let depths: Vec<f32> = (0..64 * 64)
            .map(|at| [at % 64, at / 64].map(|place| place as f32 / 31.5 - 1.0))
            .map(|[x, y]| 0.93 + 0.1 * (x * x + y * y).min(1.0))
            .collect();
        RendererInputs {
            depth: Tensor::new(&depths, [1, 64, 64]).unwrap(),
            albedo: Tensor::full([1, 64, 64, 3], 0.2),
            light: Tensor::new(&[0.4, 0.6, 0.6, 0.0, 0.8], [1, 5]).unwrap(),
            view: Tensor::new(&[0.1, 0.4, 0.05, 0.01, -0.01, 0.0], [1, 6]).unwrap(),
        }
    }

    #[test]
    fn gradients_of_both_renderers_reach_every_input() {
        let renderer = small();
        let RendererInputs { depth, albedo, light, view } = inputs();
        for exact in [true, false] {
            let tape = Tape::new();
            let [depth, albedo, light, view] =
                [&depth, &albedo, &light, &view].map(|input| tape.watch(input));
            let variables = [depth.clone(), albedo.clone(), light.clone(), view.clone()];
            let inputs = RendererInputs { depth, albedo, light, view };
            let rendered = match exact {
                true => renderer.settings().render_exactly(&inputs).unwrap(),
                false => renderer.render(&inputs).unwrap(),
            };
            let weights: Vec<f32> = (0..rendered.image.numel()).map(|at| (at % 7) as f32 - 2.5).collect();
            let gradients =
                tape.backward(&weighted_elements_sum(&rendered.image, &weights).unwrap()).unwrap();
            for (number, variable) in variables.iter().enumerate() {
                let gradient = gradients.get(variable).unwrap();
                assert!(gradient.data().iter().any(|g| *g != 0.0), "exact: {exact}, input {number}");
            }
            assert!(rendered.mask.data().iter().all(|mask| (0.0..=1.0).contains(mask)));
        }
    }

    #[test]
    fn a_file_gives_the_same_renderer() {
        let renderer = small();
        let bytes = renderer.to_safetensors().unwrap();
        let again = LearnedRenderer::from_safetensors(&bytes, "file").unwrap();
        assert_eq!(again.settings(), renderer.settings());
        let [a, b] = [renderer, again].map(|renderer| renderer.render(&inputs()).unwrap());
        assert_eq!((a.image.data(), a.mask.data()), (b.image.data(), b.mask.data()));
    }

    #[test]
    fn other_files_are_refused_with_their_name() {
        let refusal =
            |bytes: &[u8]| LearnedRenderer::from_safetensors(bytes, "file").err().unwrap().to_string();
        assert!(refusal(b"nothing").starts_with("file: not a readable weights file"));
        let model = crate::Model::new(ModelSettings::tiny(), 0).unwrap().to_safetensors().unwrap();
        assert_eq!(
            refusal(&model),
            "file: holds no learned renderer (metadata `relievo.renderer`); `relievo renderer train` makes one"
        );
        let whole = small().to_safetensors().unwrap();
        assert!(refusal(&whole[..whole.len() - 9]).starts_with("file: not a readable weights file"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let other = RendererInputs { depth: Tensor::zeros([1, 32, 32]), ..inputs() };
        let error = small().render(&other).err().unwrap().to_string();
        assert_eq!(error, "learned renderer: needs depth [B, 64, 64], got [1, 32, 32]");
        let settings = RendererSettings { min_depth: 1.2, ..RendererSettings::default() };
        assert!(LearnedRenderer::new(settings, 0).is_err());
    }
}
