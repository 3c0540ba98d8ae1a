//! The photo-geometric autoencoder of Wu et al. 2020: predict, reconstruct, losses, presets, weights.
//!
//! [`Model`] holds the settings and the parameters of the networks. [`Model::predict`] decomposes images into
//! depth, albedo, light and viewpoint and renders the images again from these; [`Model::losses`] does so twice, the
//! second time from the mirrored depth and albedo, and compares both with the image.
//!
//! ```
//! use relievo_model::{Loss, Model, ModelSettings};
//! use relievo_tensor::Tensor;
//!
//! // Small networks, without VGG16.
//! let small = ModelSettings { width: 8, code: 16, encoder_width: 8, perceptual_weight: 0.0, ..Default::default() };
//! let model = Model::new(small, 0)?;
//! let image = Tensor::full([1, 64, 64, 3], 0.25);
//!
//! let prediction = model.predict(&image)?;
//! assert_eq!(prediction.depth.shape(), [1, 64, 64].into());
//!
//! let (losses, gradients) = model.loss_and_gradients(&image, 0.5)?;
//! assert_eq!(gradients.len(), model.parameters().len());
//! println!("{} of which {} photometric", losses.total, losses[Loss::Photometric]);
//! # Ok::<(), relievo_model::ModelError>(())
//! ```

mod albedo_prior;
mod compute;
mod fill;
mod filters;
mod fusion;
mod learned_renderer;
mod losses;
mod model;
mod networks;
mod object;
mod prediction;
mod predictor;
mod refinement;
mod settings;
mod spline;
mod texture;
mod truth;
mod visibility;
mod weights;
mod widening;

pub use compute::{ComputeSettings, DeviceChoice, Precision};
pub use fill::continued_depth;
pub use filters::{FiltersError, filters_from_toml, filters_to_toml, standard_filters};
pub use fusion::Together;
pub use learned_renderer::{LearnedRenderer, RENDERER_KEY, Rendered, RendererInputs, RendererSettings};
pub use losses::{Differentiated, Loss, LossGroup, LossKind, LossList, LossTerms, LossWeight, Losses};
pub use model::{Model, ModelError};
pub use networks::{NetworkKind, Outputs};
pub use object::{FRAME, object_level};
pub use prediction::Prediction;
pub use predictor::{Predicted, Predictor};
pub use refinement::refinement_steps;
pub use settings::{LightModel, Method, ModelSettings, Preset, Renderer, Supervision};
pub use texture::{FineImage, ImageTexture, TextureParts, image_texture};
pub use truth::{GroundTruth, Objective, Partners};
pub use weights::{RUN_KEY, SETTINGS_KEY, WeightsError};
