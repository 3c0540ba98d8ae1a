//! What can be chosen about the model, and the choices of the paper for each kind of object.
//!
//! One struct is the documentation, the section `[model]` of a run's TOML file and the command line.

use clap::{ArgAction, Args, ValueEnum};
use relievo_render::{Camera, DepthRange, LightRange};
use serde::{Deserialize, Serialize};

/// The settings of the model. Defaults are those of the paper for faces.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelSettings {
    /// Height and width of the images in pixels, a power of two from 64 to 1024
    #[arg(long, default_value_t = 64)]
    pub image_size: usize,
    /// Channels at the first level of the depth, albedo and confidence networks, a multiple of 4
    #[arg(long, default_value_t = 64)]
    pub width: usize,
    /// Channels of the code between encoder and decoder of depth and albedo; the confidence network has half
    #[arg(long, default_value_t = 256)]
    pub code: usize,
    /// Channels at the first level of the albedo network, a multiple of 4; `width` if not given
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub albedo_width: Option<usize>,
    /// Channels of the code of the albedo network; `code` if not given. Likeness needs a larger code than shape
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub albedo_code: Option<usize>,
    /// Channels at the first level of the light and view networks, a multiple of 4
    #[arg(long, default_value_t = 32)]
    pub encoder_width: usize,
    /// Nearest canonical depth, in units of the distance of the object
    #[arg(long, default_value_t = 0.9)]
    pub min_depth: f32,
    /// Farthest canonical depth
    #[arg(long, default_value_t = 1.1)]
    pub max_depth: f32,
    /// Canonical depth of the two columns at the left and at the right border
    #[arg(long, default_value_t = 1.04)]
    pub border_depth: f32,
    /// Field of view of the camera, in degrees
    #[arg(long, default_value_t = 10.0)]
    pub field_of_view: f32,
    /// Largest rotation about each axis, in degrees
    #[arg(long, default_value_t = 60.0)]
    pub rotation_range: f32,
    /// Largest translation along x and y
    #[arg(long, default_value_t = 0.1)]
    pub translation_range: f32,
    /// Largest translation along z
    #[arg(long, default_value_t = 0.0)]
    pub z_translation_range: f32,
    /// Least ambient light
    #[arg(long, default_value_t = 0.0)]
    pub min_ambient: f32,
    /// Most ambient light
    #[arg(long, default_value_t = 1.0)]
    pub max_ambient: f32,
    /// Least diffuse light
    #[arg(long, default_value_t = 0.0)]
    pub min_diffuse: f32,
    /// Most diffuse light
    #[arg(long, default_value_t = 1.0)]
    pub max_diffuse: f32,
    /// Where the rasteriser looks within a pixel: 0.5 as the original, 0 where the sampling grid puts the pixel
    #[arg(long, default_value_t = 0.5)]
    pub pixel_centre: f32,
    /// Factor on the last layer of the depth network at the start: 1 as in the paper, smaller begins flatter
    #[arg(long, default_value_t = 1.0)]
    pub initial_depth_scale: f32,
    /// Height of a dome (nearest in the middle) added to what the depth network says; 0 as in the paper
    #[arg(long, default_value_t = 0.0)]
    pub dome: f32,
    /// What tells the model the shape
    #[arg(long, value_enum, default_value_t = Supervision::None)]
    pub supervision: Supervision,
    /// Mirror the depth for the second reconstruction
    #[arg(long, action = ArgAction::Set, default_value_t = true)]
    pub flip_depth: bool,
    /// Mirror the albedo for the second reconstruction
    #[arg(long, action = ArgAction::Set, default_value_t = true)]
    pub flip_albedo: bool,
    /// Where the shading comes from
    #[arg(long, value_enum, default_value_t = LightModel::Lambert)]
    pub light: LightModel,
    /// Learn where the image cannot be explained by a symmetric object
    #[arg(long, action = ArgAction::Set, default_value_t = true)]
    pub confidence: bool,
    /// Weight of the mirrored reconstruction in the loss
    #[arg(long, default_value_t = 0.5)]
    pub flip_weight: f32,
    /// Weight of the perceptual loss; 0 leaves it out
    #[arg(long, default_value_t = 1.0)]
    pub perceptual_weight: f32,
    /// Weight of the smoothness of the canonical depth
    #[arg(long, default_value_t = 0.0)]
    pub smoothness_weight: f32,
}

/// Where the shading of the canonical image comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LightModel {
    /// From the normals of the depth, an ambient and a directed light
    Lambert,
    /// From a network of its own, without regard to depth (the ablation "without light")
    ShadingMap,
}

/// What a model learns shape from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Supervision {
    /// Nothing but having to reproduce the image
    #[default]
    None,
    /// The true depth of synthetic images: only the depth network, which says the depth in the image's own view
    Depth,
}

/// The paper's recipes by kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Photographs of human faces
    Face,
    /// Rendered human faces
    SyntheticFace,
    /// Photographs of cats' faces
    Cat,
    /// Rendered cars
    Car,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Preset::Face.model()
    }
}

impl Preset {
    /// The model settings of the recipe.
    pub fn model(self) -> ModelSettings {
        let face = ModelSettings {
            image_size: 64,
            width: 64,
            code: 256,
            albedo_width: None,
            albedo_code: None,
            encoder_width: 32,
            min_depth: 0.9,
            max_depth: 1.1,
            border_depth: 1.04,
            field_of_view: 10.0,
            rotation_range: 60.0,
            translation_range: 0.1,
            z_translation_range: 0.0,
            min_ambient: 0.0,
            max_ambient: 1.0,
            min_diffuse: 0.0,
            max_diffuse: 1.0,
            pixel_centre: 0.5,
            initial_depth_scale: 1.0,
            dome: 0.0,
            supervision: Supervision::None,
            flip_depth: true,
            flip_albedo: true,
            light: LightModel::Lambert,
            confidence: true,
            flip_weight: 0.5,
            perceptual_weight: 1.0,
            smoothness_weight: 0.0,
        };
        match self {
            Self::Face | Self::SyntheticFace => face,
            Self::Cat => ModelSettings { z_translation_range: 0.1, ..face },
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
            Self::Cat => 200,
            Self::Car => 100,
        }
    }

    /// For how many epochs at the beginning the mirrored reconstruction counts fully (weight 1).
    pub fn full_flip_epochs(self) -> u64 {
        if self == Self::Cat { 10 } else { 0 }
    }
}

impl ModelSettings {
    /// Names the first setting that makes no sense.
    ///
    /// # Errors
    /// With the setting, its value and what it must be.
    pub fn check(&self) -> Result<(), String> {
        let rule = |holds: bool, message: String| if holds { Ok(()) } else { Err(message) };
        let size = self.image_size;
        rule(
            size.is_power_of_two() && (64..=1024).contains(&size),
            format!("image-size is {size}; it must be a power of two from 64 to 1024"),
        )?;
        let [albedo_width, albedo_code] = self.albedo_channels();
        for (name, channels) in
            [("width", self.width), ("albedo-width", albedo_width), ("encoder-width", self.encoder_width)]
        {
            rule(
                (4..=512).contains(&channels) && channels.is_multiple_of(4),
                format!("{name} is {channels}; it must be a multiple of 4 from 4 to 512"),
            )?;
        }
        for (name, channels) in [("code", self.code), ("albedo-code", albedo_code)] {
            rule(
                (2..=8192).contains(&channels),
                format!("{name} is {channels}; it must be a number from 2 to 8192"),
            )?;
        }
        let (near, far) = (self.min_depth, self.max_depth);
        rule(
            0.2 < near && near < far && far < 5.0,
            format!("min-depth {near} and max-depth {far} must satisfy 0.2 < min-depth < max-depth < 5"),
        )?;
        // In the view of the image depth may lie half a range nearer, which is still in front of the camera.
        rule(
            far < 3.0 * near,
            format!("max-depth is {far}; it must be less than three times min-depth, {near}"),
        )?;
        let border = self.border_depth;
        rule(
            (near..=far).contains(&border),
            format!("border-depth is {border}; it must lie between min-depth {near} and max-depth {far}"),
        )?;
        let view = self.field_of_view;
        rule(
            (0.1..=170.0).contains(&view),
            format!("field-of-view is {view}; it must lie between 0.1 and 170 degrees"),
        )?;
        for (name, low, high) in
            [("ambient", self.min_ambient, self.max_ambient), ("diffuse", self.min_diffuse, self.max_diffuse)]
        {
            rule(
                0.0 <= low && low <= high && high <= 100.0,
                format!(
                    "min-{name} {low} and max-{name} {high} must satisfy 0 <= min-{name} <= max-{name} <= 100"
                ),
            )?;
        }
        for (name, value, most) in [
            ("rotation-range", self.rotation_range, 180.0),
            ("translation-range", self.translation_range, 1.0),
            ("z-translation-range", self.z_translation_range, 1.0),
            ("initial-depth-scale", self.initial_depth_scale, 1e3),
            ("flip-weight", self.flip_weight, 1e6),
            ("perceptual-weight", self.perceptual_weight, 1e6),
            ("smoothness-weight", self.smoothness_weight, 1e6),
            ("pixel-centre", self.pixel_centre, 1.0),
            ("dome", self.dome, 10.0),
        ] {
            rule(
                (0.0..=most).contains(&value),
                format!("{name} is {value}; it must lie between 0 and {most}"),
            )?;
        }
        Ok(())
    }

    /// Name and value of the settings that say what the networks' outputs mean: with other values the same weights make
    /// other surfaces, views and lights.
    pub(crate) fn meaning_of_outputs(&self) -> [(&'static str, f32); 11] {
        [
            ("min-depth", self.min_depth),
            ("max-depth", self.max_depth),
            ("field-of-view", self.field_of_view),
            ("rotation-range", self.rotation_range),
            ("translation-range", self.translation_range),
            ("min-ambient", self.min_ambient),
            ("max-ambient", self.max_ambient),
            ("min-diffuse", self.min_diffuse),
            ("max-diffuse", self.max_diffuse),
            ("pixel-centre", self.pixel_centre),
            ("dome", self.dome),
        ]
    }

    /// Width and code of the albedo network.
    pub(crate) fn albedo_channels(&self) -> [usize; 2] {
        [self.albedo_width.unwrap_or(self.width), self.albedo_code.unwrap_or(self.code)]
    }

    /// The range of canonical depth.
    pub fn depth_range(&self) -> DepthRange {
        DepthRange { min: self.min_depth, max: self.max_depth }
    }

    /// The ranges of ambient and diffuse light.
    pub fn light_range(&self) -> LightRange {
        LightRange {
            ambient: [self.min_ambient, self.max_ambient],
            diffuse: [self.min_diffuse, self.max_diffuse],
        }
    }

    /// The camera.
    pub fn camera(&self) -> Camera {
        Camera { size: self.image_size, field_of_view_degrees: self.field_of_view }
    }

    /// What the view network's outputs in (-1, 1) are multiplied by: radians about x, y, z, then units along them.
    pub fn view_ranges(&self) -> [f32; 6] {
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
        for preset in Preset::value_variants() {
            preset.model().check().unwrap();
        }
    }

    #[test]
    fn nonsense_is_named() {
        let settings = ModelSettings { image_size: 65, ..ModelSettings::default() };
        assert_eq!(
            settings.check().unwrap_err(),
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
