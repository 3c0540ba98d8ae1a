//! The photo-geometric autoencoder of Wu et al. 2020: predict, reconstruct, losses, presets, weights.
//!
//! [`Model`] holds the settings and the parameters of the five networks. [`Model::predict`] takes images apart into
//! depth, albedo, light and viewpoint and puts them together again; [`Model::losses`] does so twice, the second time
//! from the mirrored depth and albedo, and compares both with the image.

mod albedo_prior;
mod compute;
mod losses;
mod model;
mod object;
mod prediction;
mod predictor;
mod refinement;
mod settings;
mod texture;
mod visibility;
mod weights;

pub use compute::{ComputeSettings, DeviceChoice, Precision};
pub use losses::{DepthTruth, Differentiated, LossTerms, Losses};
pub use model::{Model, ModelError, Outputs};
pub use object::{FRAME, object_level};
pub use prediction::Prediction;
pub use predictor::{Predicted, Predictor};
pub use settings::{LightModel, ModelSettings, Preset, Supervision};
pub use texture::{FineImage, TextureParts, image_texture};
pub use weights::{RUN_KEY, SETTINGS_KEY, WeightsError};
