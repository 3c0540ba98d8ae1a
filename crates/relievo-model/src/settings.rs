//! The settings of the model, and the paper's recipes for each kind of object.
//!
//! One declaration is the documentation, the section `[model]` of a run's TOML file and the command line.

use relievo_nets::FeatureDepth;
use relievo_render::{Camera, DepthRange, LightRange, RasterSettings, Scene};
use relievo_settings::{Invalid, Kind, Value, choices, multiple_of, power_of_two, settings, with_unit};

use crate::learned_renderer::{RendererNetwork, RendererSettings};
use crate::losses::{EachOnce, LossKind, LossList};

settings! {
    /// The settings of the model. Defaults are those of the paper for faces.
    pub struct ModelSettings {
        /// What the model learns from: single images, or pairs of images of one object
        method: Method = Method::Unsup3d, kind(Architecture);
        /// Height and width of the images in pixels, a power of two from 64 to 1024
        image_size: usize = 64, in power_of_two(64..=1024), kind(Architecture);
        /// Channels at the first level of the depth, albedo and confidence networks, a multiple of 4
        width: usize = 64, in multiple_of(4, 4..=512), kind(Architecture);
        /// Channels of the code between encoder and decoder of depth and albedo; the confidence network has half
        code: usize = 256, in 2..=8192, kind(Architecture);
        /// Channels at the first level of the albedo network, a multiple of 4; `width` if not given
        albedo_width: Option<usize> = None, in multiple_of(4, 4..=512), kind(Architecture);
        /// Channels of the code of the albedo network; `code` if not given. Likeness needs a larger code than shape
        albedo_code: Option<usize> = None, in 2..=8192, kind(Architecture);
        /// Channels at the first level of the light and view networks, a multiple of 4
        encoder_width: usize = 32, in multiple_of(4, 4..=512), kind(Architecture);
        /// Nearest canonical depth, in units of the distance of the object
        min_depth: f32 = 0.9, kind(Meaning);
        /// Farthest canonical depth
        max_depth: f32 = 1.1, kind(Meaning);
        /// Canonical depth of the two outermost columns on each side
        border_depth: f32 = 1.04, kind(Objective);
        /// Field of view of the camera, in degrees
        field_of_view: f32 = 10.0, in with_unit(0.1..=170.0, "degrees"), kind(Meaning);
        /// Largest rotation about each axis, in degrees
        rotation_range: f32 = 60.0, in with_unit(0.0..=180.0, "degrees"), kind(Meaning);
        /// Largest translation along x and y
        translation_range: f32 = 0.1, in 0.0..=1.0, kind(Meaning);
        /// Largest translation along z
        z_translation_range: f32 = 0.0, in 0.0..=1.0, kind(Objective);
        /// Lower bound of ambient light
        min_ambient: f32 = 0.0, kind(Meaning);
        /// Upper bound of ambient light
        max_ambient: f32 = 1.0, kind(Meaning);
        /// Lower bound of diffuse light
        min_diffuse: f32 = 0.0, kind(Meaning);
        /// Upper bound of diffuse light
        max_diffuse: f32 = 1.0, kind(Meaning);
        /// Where the rasteriser samples a pixel: 0.5 as in the original, 0 where the sampling grid puts the pixel
        pixel_centre: f32 = 0.5, in 0.0..=1.0, kind(Meaning);
        /// Factor on the initial weights of the depth network's last layer: 1 as in the paper, less starts flatter
        initial_depth_scale: f32 = 1.0, in 0.0..=1e3, kind(Objective);
        /// Height of a dome (nearest in the middle) added to the depth network's output; 0 as in the paper
        dome: f32 = 0.0, in 0.0..=10.0, kind(Meaning);
        /// What the model learns shape from
        supervision: Supervision = Supervision::None, kind(Architecture);
        /// Mirror the depth for the second reconstruction
        flip_depth: bool = true, kind(Objective);
        /// Mirror the albedo for the second reconstruction
        flip_albedo: bool = true, kind(Objective);
        /// Where the shading comes from
        light: LightModel = LightModel::Lambert, kind(Architecture);
        /// Predict confidence: where the image cannot be explained by a symmetric object
        confidence: bool = true, kind(Architecture);
        /// Weight of the mirrored reconstruction in the loss, or of those from the other image of a pair
        flip_weight: f32 = 0.5, in 0.0..=1e6, kind(Objective);
        /// Weight of the perceptual loss; 0 leaves it out
        perceptual_weight: f32 = 1.0, in 0.0..=1e6, kind(Objective);
        /// Weight of the smoothness of the canonical depth
        smoothness_weight: f32 = 0.0, in 0.0..=1e6, kind(Objective);
        /// Weight of the albedo's slopes where the image is even
        albedo_weight: f32 = 0.0, in 0.0..=1e6, kind(Objective);
        /// Factor on the weights of the ground truth, for a model that learns from photographs and synthetic images
        /// together; 0 uses no truth
        truth_weight: f32 = 0.0, in 0.0..=1e6, kind(Objective);
        /// Weight of the depth error in the input view (SIDE, in ranges of the logarithm of depth), where the truth is known
        truth_depth_weight: f32 = 5.0, in 0.0..=1e6, kind(Objective);
        /// Weight of the angle between normals in the input view (MAD, in radians), where the truth is known
        truth_normals_weight: f32 = 1.0, in 0.0..=1e6, kind(Objective);
        /// Weight of the albedo's error in the input view, where the truth is known
        truth_albedo_weight: f32 = 2.0, in 0.0..=1e6, kind(Objective);
        /// Weight of the error of ambient, diffuse and the light's direction, where the truth is known
        truth_light_weight: f32 = 2.0, in 0.0..=1e6, kind(Objective);
        /// Weight of the viewpoint's error, in the model's ranges of rotation and translation, where the truth is known
        truth_view_weight: f32 = 5.0, in 0.0..=1e6, kind(Objective);
        /// Weight of the viewpoint prior: pitch and yaw spread over a batch as far as `pitch-prior` and `yaw-prior` say;
        /// 0 leaves it out
        view_prior_weight: f32 = 0.0, in 0.0..=1e6, kind(Objective);
        /// Standard deviation of pitch that the viewpoint prior expects, in degrees
        pitch_prior: f32 = 8.9, in with_unit(0.1..=90.0, "degrees"), kind(Objective);
        /// Standard deviation of yaw that the viewpoint prior expects, in degrees
        yaw_prior: f32 = 17.2, in with_unit(0.1..=90.0, "degrees"), kind(Objective);
        /// Weight of what the viewpoint leaves of the image without surface, beyond half of it along an axis; 0 leaves it out
        coverage_weight: f32 = 0.0, in 0.0..=1e6, kind(Objective);
        /// Weight of the light prior: the sine of the light's elevation has the mean and the standard deviation over a batch
        /// that `elevation-prior-mean` and `elevation-prior` say; 0 leaves it out
        light_prior_weight: f32 = 0.0, in 0.0..=1e6, kind(Objective);
        /// Standard deviation of the sine of the light's elevation that the light prior expects
        elevation_prior: f32 = 0.28, in 0.01..=1.0, kind(Objective);
        /// Mean of the sine of the light's elevation that the light prior expects; above 0 is light from above
        elevation_prior_mean: f32 = 0.17, in -1.0..=1.0, kind(Objective);
        /// Weight of the geometry of faces: eyes and corners of the mouth, which a detector finds, at mirrored places of equal
        /// depth, and the tip of the nose nearest; a run that has it is not unsupervised
        landmark_weight: Option<f32> = None, in 0.0..=1e6, kind(Objective);
        /// What renders the images that the losses compare; exact if it is not given. `relievo renderer train` makes a learned
        /// renderer, `renderer-weights` names it. Results always come from the exact one
        renderer: Option<Renderer> = None, kind(Architecture);
        /// Channels at the finest level of a learned renderer, a multiple of 4; 16 if not given
        renderer_width: Option<usize> = None, in multiple_of(4, 4..=512), kind(Architecture);
        /// Weight of the mean absolute difference between the images of the exact and of the learned renderer, for renderer
        /// both; 1 if not given
        renderer_weight: Option<f32> = None, in 0.0..=1e6, kind(Objective);
        /// A term of the loss that compares the reconstruction with the image, beside those that have options of their own;
        /// once for each of photometric (1 if it is not given), filter-bank, laplacian-pyramid, gradient-difference, ssim,
        /// ms-ssim, census, vgg-relu12, vgg-relu22. Those of the command line replace all of a file
        loss: LossList = LossList::default(), in EachOnce, kind(Objective);
    }
}

choices! {
    /// What a model learns from.
    #[derive(Default)]
    pub enum Method {
        /// Single images of symmetric objects (Wu et al. 2020)
        #[default]
        Unsup3d,
        /// Pairs of images of one object, which need not be symmetric (Ho et al. 2021)
        Lemul,
    }
}

choices! {
    /// Where the shading of the canonical image comes from.
    pub enum LightModel {
        /// From the normals of the depth, an ambient and a directed light
        Lambert,
        /// From a separate network, independent of depth (the ablation "without light")
        ShadingMap,
    }
}

choices! {
    /// What renders the images that the losses of a model compare.
    #[derive(Default)]
    pub enum Renderer {
        /// Exact geometry
        #[default]
        Exact,
        /// A network that has learned to render (`relievo renderer`), in place of geometry
        Learned,
        /// Exact geometry; a learned renderer runs along, and the difference of its images is a term of the loss
        Both,
    }
}

choices! {
    /// What a model learns shape from.
    #[derive(Default)]
    pub enum Supervision {
        /// Reproducing the image (unsupervised)
        #[default]
        None,
        /// True depth of synthetic images: the depth network alone, which predicts depth in the input view
        Depth,
    }
}

choices! {
    /// The paper's recipes by kind of object.
    pub enum Preset {
        /// Photographs of human faces
        Face,
        /// Rendered human faces
        SyntheticFace,
        /// Photographs of cats' faces
        Cat,
        /// Rendered cars
        Car,
        /// Photographs of people of whom there are several, each in a sub-folder, in wide poses (LeMul on CASIA-WebFace)
        LemulCasia,
        /// Photographs of human faces, paired with their mirror images (LeMul on CelebA)
        LemulCeleba,
        /// Photographs of cats' faces, paired with their mirror images
        LemulCat,
        /// LeMul on synthetic heads, paired with their mirror images
        LemulSynthetic,
    }
}

impl Preset {
    /// The model settings of the recipe.
    pub fn model(self) -> ModelSettings {
        let face = ModelSettings::default();
        let lemul = face.clone().with_lemul();
        match self {
            Self::Face | Self::SyntheticFace => face,
            Self::Cat => ModelSettings { z_translation_range: 0.1, ..face },
            Self::LemulCeleba | Self::LemulSynthetic => lemul,
            Self::LemulCasia => ModelSettings { rotation_range: 90.0, z_translation_range: 0.1, ..lemul },
            Self::LemulCat => ModelSettings { z_translation_range: 0.1, ..lemul },
            Self::Car => ModelSettings {
                confidence: false,
                perceptual_weight: 0.01,
                flip_weight: 1.0,
                smoothness_weight: 0.1,
                border_depth: 1.08,
                min_diffuse: 0.5,
                ..face
            },
        }
    }

    /// How many times the recipe goes through the training set.
    pub fn epochs(self) -> u64 {
        match self {
            Self::Face | Self::SyntheticFace => 30,
            Self::Cat | Self::LemulCasia | Self::LemulCat => 200,
            Self::Car => 100,
            Self::LemulCeleba | Self::LemulSynthetic => 20,
        }
    }

    /// For how many epochs at the beginning the mirrored reconstruction counts fully (weight 1).
    pub fn full_flip_epochs(self) -> u64 {
        if self == Self::Cat { 10 } else { 0 }
    }
}

impl ModelSettings {
    /// The same model, learning from pairs with the weights of LeMul's losses.
    pub fn with_lemul(self) -> Self {
        Self { method: Method::Lemul, flip_weight: 1.0, albedo_weight: 0.5, ..self }
    }

    /// Refuses the first invalid setting.
    ///
    /// # Errors
    /// With the setting, its value and what it must be.
    pub fn check(&self) -> Result<(), Invalid> {
        self.check_each()?;
        let rule = |holds: bool, setting, reason: String| {
            if holds { Ok(()) } else { Err(Invalid { setting, reason }) }
        };
        let (near, far) = (self.min_depth, self.max_depth);
        rule(
            0.2 < near && near < far && far < 5.0,
            "min-depth",
            format!("min-depth {near} and max-depth {far} must satisfy 0.2 < min-depth < max-depth < 5"),
        )?;
        // In the view of the image depth may lie half a range nearer, which is still in front of the camera.
        rule(
            far < 3.0 * near,
            "max-depth",
            format!("max-depth is {far}; it must be less than three times min-depth, {near}"),
        )?;
        let is_mixed = self.supervision == Supervision::None && self.method == Method::Unsup3d;
        rule(
            self.truth_weight == 0.0 || is_mixed,
            "truth-weight",
            format!(
                "truth-weight is {}; it must be 0 with supervision depth, which learns from the truth alone, and with method lemul",
                self.truth_weight
            ),
        )?;
        rule(
            self.supervision == Supervision::Depth || self.compares_without_vgg() || self.needs_vgg(),
            "loss",
            "loss has photometric at weight 0; then another term must compare the reconstruction with the image, so give one a \
             weight"
                .into(),
        )?;
        let mirrors = self.method == Method::Unsup3d && self.supervision == Supervision::None;
        rule(
            !self.uses_landmarks() || mirrors,
            "landmark-weight",
            "landmark-weight is above 0; it must be 0 with supervision depth and with method lemul, which do not expect \
             symmetric objects"
                .into(),
        )?;
        rule(
            self.renderer() == Renderer::Exact || self.supervision == Supervision::None,
            "renderer",
            format!(
                "renderer is {}; it must be exact with supervision depth, which renders nothing",
                self.renderer().name()
            ),
        )?;
        rule(
            self.renderer() == Renderer::Exact || self.light == LightModel::Lambert,
            "renderer",
            format!(
                "renderer is {}; it must be exact with light shading-map: no other knows such light",
                self.renderer().name()
            ),
        )?;
        let border = self.border_depth;
        rule(
            (near..=far).contains(&border),
            "border-depth",
            format!("border-depth is {border}; it must lie between min-depth {near} and max-depth {far}"),
        )?;
        for (setting, name, low, high) in [
            ("min-ambient", "ambient", self.min_ambient, self.max_ambient),
            ("min-diffuse", "diffuse", self.min_diffuse, self.max_diffuse),
        ] {
            rule(
                0.0 <= low && low <= high && high <= 100.0,
                setting,
                format!(
                    "min-{name} {low} and max-{name} {high} must satisfy 0 <= min-{name} <= max-{name} <= 100"
                ),
            )?;
        }
        Ok(())
    }

    /// Name and value of the settings that give the networks' outputs their meaning.
    pub(crate) fn meaning_of_outputs(&self) -> impl Iterator<Item = (&'static str, Value)> {
        let settings = self.settings().filter(|(setting, _)| setting.kind == Kind::Meaning);
        settings.map(|(setting, value)| (setting.name, value))
    }

    /// The weight of the photometric loss.
    pub(crate) fn photometric_weight(&self) -> f32 {
        self.loss.weight(LossKind::Photometric).unwrap_or(1.0)
    }

    /// Whether a term compares the reconstruction with the image, other than by VGG16's features.
    pub fn compares_without_vgg(&self) -> bool {
        let listed = self.loss.iter().any(|term| term.weight > 0.0 && !term.kind.needs_vgg());
        listed || self.photometric_weight() > 0.0
    }

    /// Whether a term compares VGG16's features.
    pub fn needs_vgg(&self) -> bool {
        self.supervision == Supervision::None && !self.feature_depths().is_empty()
    }

    /// The depths of VGG16 at which terms compare features.
    pub(crate) fn feature_depths(&self) -> Vec<FeatureDepth> {
        let listed = |kind| self.loss.weight(kind).unwrap_or(0.0);
        let weights = [
            (FeatureDepth::Relu12, listed(LossKind::VggRelu12)),
            (FeatureDepth::Relu22, listed(LossKind::VggRelu22)),
            (FeatureDepth::Relu33, self.perceptual_weight),
        ];
        weights.into_iter().filter(|(_, weight)| *weight > 0.0).map(|(depth, _)| depth).collect()
    }

    /// Whether the losses compare with the ground truth of images.
    pub fn uses_truth(&self) -> bool {
        self.supervision == Supervision::Depth || self.truth_weight > 0.0
    }

    /// Whether the losses compare with points of faces that a detector found.
    pub fn uses_landmarks(&self) -> bool {
        self.landmark_weight.is_some_and(|weight| weight > 0.0)
    }

    /// What renders the images that the losses compare.
    pub fn renderer(&self) -> Renderer {
        self.renderer.unwrap_or_default()
    }

    /// The network of the learned renderer, if the losses need one.
    pub(crate) fn renderer_network(&self) -> Option<RendererNetwork> {
        let width = self.renderer_width.unwrap_or_else(|| RendererSettings::default().width);
        let network = || RendererNetwork::new(self.image_size, width, [self.min_depth, self.max_depth]);
        (self.renderer() != Renderer::Exact).then(network)
    }

    /// Width and code of the albedo network.
    pub(crate) fn albedo_channels(&self) -> [usize; 2] {
        [self.albedo_width.unwrap_or(self.width), self.albedo_code.unwrap_or(self.code)]
    }

    /// Memory that the networks need on a CPU to decompose so many images together, in bytes, about: measured at widths of
    /// 16 and 64, and rounded up.
    pub fn prediction_bytes(&self, images: usize) -> u64 {
        const OF_CHANNEL: usize = 40;
        let [albedo_width, _] = self.albedo_channels();
        let pixels = images.saturating_mul(self.image_size * self.image_size);
        (pixels.saturating_mul(OF_CHANNEL * (self.width + albedo_width))) as u64
    }

    /// The range of canonical depth.
    pub(crate) fn depth_range(&self) -> DepthRange {
        DepthRange { min: self.min_depth, max: self.max_depth }
    }

    /// The ranges of ambient and diffuse light.
    pub(crate) fn light_range(&self) -> LightRange {
        LightRange {
            ambient: [self.min_ambient, self.max_ambient],
            diffuse: [self.min_diffuse, self.max_diffuse],
        }
    }

    /// What the canonical surface is rendered by.
    pub(crate) fn scene(&self) -> Scene {
        Scene {
            camera: self.camera(),
            depth_range: self.depth_range(),
            raster: RasterSettings { pixel_centre: self.pixel_centre, ..RasterSettings::default() },
        }
    }

    /// The camera.
    pub fn camera(&self) -> Camera {
        Camera { size: self.image_size, field_of_view_degrees: self.field_of_view }
    }

    /// The factors for the view network's outputs in (-1, 1): radians about x, y, z, then units along them.
    pub(crate) fn view_ranges(&self) -> [f32; 6] {
        let angle = self.rotation_range.to_radians();
        [angle, angle, angle, self.translation_range, self.translation_range, self.z_translation_range]
    }
}

#[cfg(any(test, feature = "testing"))]
impl ModelSettings {
    /// For tests: networks that are quick to run, and no perceptual loss.
    pub fn tiny() -> Self {
        Self { width: 8, code: 16, encoder_width: 8, perceptual_weight: 0.0, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_makes_sense() {
        for preset in Preset::ALL {
            preset.model().check().unwrap();
        }
    }

    #[test]
    fn nonsense_is_named() {
        let settings = ModelSettings { image_size: 65, ..ModelSettings::default() };
        assert_eq!(
            settings.check().unwrap_err().to_string(),
            "image-size is 65; it must be a power of two from 64 to 1024"
        );
        for settings in [
            ModelSettings { width: usize::MAX - 3, ..ModelSettings::default() },
            ModelSettings { encoder_width: 6, ..ModelSettings::default() },
            ModelSettings { code: 1, ..ModelSettings::default() },
            ModelSettings { albedo_code: Some(1), ..ModelSettings::default() },
            ModelSettings { albedo_width: Some(6), ..ModelSettings::default() },
            ModelSettings { min_depth: 0.3, border_depth: 0.5, max_depth: 1.0, ..ModelSettings::default() },
        ] {
            assert!(settings.check().is_err());
        }
        let settings = ModelSettings { flip_weight: f32::NAN, ..ModelSettings::default() };
        assert!(settings.check().is_err());
    }

    #[cfg(feature = "cli")]
    #[test]
    fn command_line_defaults_are_the_default() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            model: ModelSettings,
        }
        let line = <Line as clap::Parser>::parse_from(["relievo"]);
        assert_eq!(line.model, ModelSettings::default());
    }
}
