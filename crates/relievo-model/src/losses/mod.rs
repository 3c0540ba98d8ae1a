//! The losses of Wu et al. 2020 (equations 3 to 7) and their gradients.
//!
//! Each term has its own file and an entry in the list below; the total, logs, validation and progress go over that list.
//! [`Loss`] names the numbers, [`Losses`] holds their values.

mod albedo;
mod census;
mod coverage;
mod depth;
mod errors;
mod filter_bank;
mod gradient_difference;
mod landmarks;
mod laplacian_pyramid;
mod light_prior;
mod list;
mod ms_ssim;
mod perceptual;
mod photometric;
mod renderer;
mod smoothness;
mod ssim;
mod truth_albedo;
mod truth_light;
mod truth_surface;
mod truth_view;
mod values;
mod vgg_relu12;
mod vgg_relu22;
mod view_prior;

use std::cell::OnceCell;

use relievo_nets::Vgg;
use relievo_settings::choices;
use relievo_tensor::ops::{
    ConcatAxis, absolute_error, concat, concat_flipped, overlap, reshape, weighted_elements_sum, weighted_sum,
};
use relievo_tensor::{Device, Error, Gradients, Tape, Tensor};

use crate::model::{Model, ModelError};
use crate::networks::Purpose;
use crate::prediction::{Prediction, Second};
use crate::settings::{Method, ModelSettings, Renderer, Supervision};
use crate::truth::{GroundTruth, Objective, Partners};

pub(crate) use list::EachOnce;
pub use list::{LossList, LossWeight};
pub use values::Losses;

/// Declares the terms, in the order in which they are added up. Each is a module with a function `term`, a short label
/// if a line of progress shows it, its [`LossKind`] if the list `loss` of the settings may have it, and the numbers it
/// consists of with their names.
macro_rules! losses {
    (@label) => { None };
    (@label $label:literal) => { Some($label) };
    ($(
        $module:ident $(($label:literal))? $(=> $(#[doc = $about_kind:literal])+ $kind:ident)? {
            $($(#[$about:meta])+ $loss:ident = $name:literal,)+
        }
    )+) => {
        choices! {
            /// A term that the list `loss` of the settings may have.
            pub enum LossKind {
                $($($(#[doc = $about_kind])+ $kind,)?)+
            }
        }

        /// A number that the loss consists of.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Loss {
            $($($(#[$about])+ $loss,)+)+
        }

        impl Loss {
            /// All of them, in the order in which they are computed.
            pub const ALL: &'static [Self] = &[$($(Self::$loss,)+)+];

            /// Those that are computed together, in the same order.
            pub const GROUPS: &'static [LossGroup] = &[$(
                LossGroup { losses: &[$(Loss::$loss),+], label: losses!(@label $($label)?), term: $module::term },
            )+];

            /// The name in logs, JSON and messages.
            pub fn name(self) -> &'static str {
                match self {
                    $($(Self::$loss => $name,)+)+
                }
            }
        }
    };
}

losses! {
    depth("depth") {
        /// Mean absolute error of the depth where the object truly is, in ranges of depth; for a model that learns from
        /// depth.
        Depth = "depth",
    }
    photometric("photo") =>
    /// The absolute error of each pixel; 1 if the list does not have it
    Photometric {
        /// Error of the reconstruction, with confidence a negative log likelihood.
        Photometric = "photometric",
        /// Error of the reconstruction from mirrored depth and albedo.
        PhotometricFlip = "photometric-flip",
    }
    smoothness {
        /// Mean absolute slope of the canonical depth, per pixel, in ranges of depth.
        Smoothness = "smoothness",
    }
    perceptual("VGG") {
        /// Error of VGG16's features of the reconstruction, with confidence a negative log likelihood.
        Perceptual = "perceptual",
        /// Error of VGG16's features of the reconstruction from mirrored depth and albedo.
        PerceptualFlip = "perceptual-flip",
    }
    albedo("albedo") {
        /// Weighted slopes of the albedo where the image is even.
        AlbedoSlopes = "albedo-slopes",
        /// Those of the second reconstruction.
        AlbedoSlopesFlip = "albedo-slopes-flip",
    }
    truth_surface("truth") {
        /// Standard deviation of the logarithm of depth over true depth in the input view (SIDE), where the truth is known.
        TruthDepth = "truth-depth",
        /// Mean angle between normals and true normals in the input view (MAD), in radians, where the truth is known.
        TruthNormals = "truth-normals",
    }
    truth_albedo {
        /// Mean absolute error of albedo in the input view, in [-1,1], where the truth is known.
        TruthAlbedo = "truth-albedo",
    }
    truth_light {
        /// Mean absolute error of the light's numbers, where the truth is known.
        TruthLight = "truth-light",
    }
    truth_view {
        /// Mean absolute error of the viewpoint's numbers, in the model's ranges, where the truth is known.
        TruthView = "truth-view",
    }
    view_prior {
        /// How far the spread of pitch and yaw is from that expected.
        ViewPrior = "view-prior",
    }
    light_prior {
        /// How far mean and spread of the light's elevation are from those expected.
        LightPrior = "light-prior",
    }
    coverage {
        /// How much of the image the viewpoint leaves without surface, beyond half of it along an axis.
        Coverage = "coverage",
    }
    filter_bank("filters") =>
    /// The responses of a bank of filters (`filters`) to the error
    FilterBank {
        /// Error as a bank of filters sees it, with confidence a negative log likelihood.
        FilterBank = "filter-bank",
        /// That of the second reconstruction.
        FilterBankFlip = "filter-bank-flip",
    }
    laplacian_pyramid("pyramid") =>
    /// The absolute error of each band of a Laplacian pyramid
    LaplacianPyramid {
        /// Error in the bands of a Laplacian pyramid, with confidence a negative log likelihood.
        LaplacianPyramid = "laplacian-pyramid",
        /// That of the second reconstruction.
        LaplacianPyramidFlip = "laplacian-pyramid-flip",
    }
    gradient_difference("gradients") =>
    /// The absolute error of the differences between neighbouring pixels
    GradientDifference {
        /// Error of the images' gradients, with confidence a negative log likelihood.
        GradientDifference = "gradient-difference",
        /// That of the second reconstruction.
        GradientDifferenceFlip = "gradient-difference-flip",
    }
    ssim("SSIM") =>
    /// One minus the structural similarity
    Ssim {
        /// One minus the structural similarity, with confidence a negative log likelihood.
        Ssim = "ssim",
        /// That of the second reconstruction.
        SsimFlip = "ssim-flip",
    }
    ms_ssim("MS-SSIM") =>
    /// One minus the structural similarity in windows of five sizes
    MsSsim {
        /// One minus the structural similarity in windows of several sizes, with confidence a negative log likelihood.
        MsSsim = "ms-ssim",
        /// That of the second reconstruction.
        MsSsimFlip = "ms-ssim-flip",
    }
    census("census") =>
    /// The soft census distance: how neighbours are ordered by brightness
    Census {
        /// Soft census distance, with confidence a negative log likelihood.
        Census = "census",
        /// That of the second reconstruction.
        CensusFlip = "census-flip",
    }
    vgg_relu12("VGG 1") =>
    /// VGG16's features after relu1_2, beside `perceptual-weight`, which is for those after relu3_3
    VggRelu12 {
        /// Error of VGG16's features after relu1_2, with confidence a negative log likelihood.
        VggRelu12 = "vgg-relu12",
        /// That of the second reconstruction.
        VggRelu12Flip = "vgg-relu12-flip",
    }
    vgg_relu22("VGG 2") =>
    /// VGG16's features after relu2_2
    VggRelu22 {
        /// Error of VGG16's features after relu2_2, with confidence a negative log likelihood.
        VggRelu22 = "vgg-relu22",
        /// That of the second reconstruction.
        VggRelu22Flip = "vgg-relu22-flip",
    }
    renderer("renderer") {
        /// Mean absolute difference between the images of the exact and of the learned renderer.
        Renderer = "renderer",
    }
    landmarks("landmarks") {
        /// How far the points of faces are from mirrored places of equal depth with the nose nearest.
        Landmarks = "landmarks",
    }
}

/// Losses that are computed together.
#[derive(Debug)]
pub struct LossGroup {
    /// The losses.
    pub losses: &'static [Loss],
    /// The label in a line of progress; `None` if they are not shown there.
    pub label: Option<&'static str>,
    term: fn(&Compared<'_>) -> Result<Option<Term>, Error>,
}

/// The inputs of a term. Tensors are on the model's device.
struct Compared<'a> {
    settings: &'a ModelSettings,
    /// The features of the perceptual losses, if one has a weight, and those of the reconstructions once a term needed
    /// them.
    vgg: Option<&'a Vgg>,
    features: OnceCell<Vec<Tensor>>,
    model: &'a Model,
    /// `[B,S,S,3]` in [-1,1]; for pairs the first images of all, then the second ones.
    images: &'a Tensor,
    prediction: &'a Prediction,
    /// The second half of the prediction.
    second: Second,
    /// The weights of this batch, and its truth.
    objective: Objective<'a>,
    /// The truth and where it can be compared, for a model that learns from photographs and truth together.
    visible: Option<Visible<'a>>,
}

/// The truth of a batch and where it can be compared with.
struct Visible<'a> {
    truth: &'a GroundTruth,
    /// 1 where the object truly is and is predicted to be, less a pixel at the rim of both, `[B,S,S]`.
    mask: Tensor,
}

impl<'a> Compared<'a> {
    fn new(
        model: &'a Model,
        images: &'a Tensor,
        prediction: &'a Prediction,
        second: Second,
        objective: Objective<'a>,
    ) -> Result<Self, Error> {
        let settings = model.settings();
        if let Some(truth) = objective.truth.filter(|_| settings.uses_truth() || settings.uses_landmarks()) {
            truth.check(images.shape()[0], settings.image_size)?;
        }
        let visible =
            objective.truth.filter(|_| settings.truth_weight > 0.0).map(|truth| -> Result<_, Error> {
                Ok(Visible { truth, mask: overlap(&truth.mask, &prediction.mask)? })
            });
        let visible = visible.transpose()?;
        let (vgg, features) = (model.vgg.as_ref(), OnceCell::new());
        Ok(Self { settings, vgg, features, model, images, prediction, second, objective, visible })
    }

    /// Groups of images whose means are taken apart: the first and the second images of pairs.
    fn groups(&self) -> usize {
        if self.second == Second::Swapped { 2 } else { 1 }
    }

    /// The weight of each number of a term that compares all halves.
    fn shares(&self) -> Vec<f32> {
        let flip_weight = self.objective.flip_weight;
        match self.second {
            Second::Nothing => vec![1.0],
            Second::Mirrored => vec![1.0, flip_weight],
            Second::Swapped => vec![1.0, 1.0, flip_weight, flip_weight],
        }
    }

    /// 1 for rows `[n,..]` of images that bring no truth to learn from, 0 for others: `[n]`.
    fn unknown(&self, rows: &Tensor) -> Result<Tensor, Error> {
        let all = Tensor::full_on(rows.device(), [rows.shape()[0]], 1.0)?;
        match &self.visible {
            Some(Visible { truth, .. }) => weighted_sum(&[(1.0, &all), (-1.0, &truth.known)]),
            None => Ok(all),
        }
    }
}

/// The mean absolute error of numbers `[B,n]` over the images that are known, `[B]`.
fn rows_error(found: &Tensor, truth: &Tensor, known: &Tensor) -> Result<Tensor, Error> {
    let [batch, columns] = found.dims("losses")?;
    let [found, truth] = [found, truth].map(|rows| reshape(rows, [batch, 1, 1, columns]));
    absolute_error(&found?, &truth?, &reshape(known, [batch, 1, 1])?)
}

/// A term before it is added up.
struct Term {
    /// A number for each loss of the group: `[n]`, or without axes for one; fewer where there is no second half. Of pairs
    /// two numbers for each loss, which is their sum.
    values: Tensor,
    /// The weight of each of several numbers within the term.
    shares: Vec<f32>,
    /// The weight in the total; a term of weight 0 is not a part of the total, and needs no gradient.
    weight: f32,
}

/// The terms of the loss as tensors on the model's device, so that nothing waits for their values.
#[derive(Debug, Clone)]
pub struct LossTerms {
    /// The sum that is minimised, without axes.
    pub total: Tensor,
    /// The values of the groups that the model has, as in [`Term`].
    values: Vec<(&'static [Loss], Tensor)>,
}

impl LossTerms {
    /// Computes all terms and adds them up, with `more` terms of the caller's: weights, and values without axes.
    fn new(compared: &Compared<'_>, more: Vec<(f32, Tensor)>) -> Result<Self, Error> {
        let (mut values, mut weighed) = (Vec::new(), Vec::new());
        for group in Loss::GROUPS {
            let Some(term) = (group.term)(compared)? else { continue };
            if term.weight > 0.0 {
                let sum = if !term.values.shape().is_empty() {
                    weighted_elements_sum(&term.values, &term.shares)?
                } else {
                    term.values.clone()
                };
                weighed.push((term.weight, sum));
            }
            values.push((group.losses, term.values));
        }
        weighed.extend(more);
        let weighed: Vec<(f32, &Tensor)> = weighed.iter().map(|(weight, term)| (*weight, term)).collect();
        Ok(Self { total: weighted_sum(&weighed)?, values })
    }

    /// The same, off the tape.
    fn detach(&self) -> Self {
        let detached = self.values.iter().map(|(losses, values)| (*losses, values.detach()));
        Self { total: self.total.detach(), values: detached.collect() }
    }

    /// Their values, fetched: waits for the work queued on the device. Losses that the model does not have are 0.
    ///
    /// # Errors
    /// If the device fails.
    pub fn read(&self) -> Result<Losses, Error> {
        let mut read = Losses::default();
        read.total = self.total.item()?;
        for (losses, values) in &self.values {
            let here = values.to_device(Device::Cpu)?;
            let each = (here.numel() / losses.len()).max(1);
            for (loss, values) in losses.iter().zip(here.data().chunks(each)) {
                read[*loss] = values.iter().sum();
            }
        }
        Ok(read)
    }
}

/// Images and what their objective needs, on a device.
struct OnDevice<'a> {
    images: Tensor,
    truth: Option<GroundTruth>,
    partners: Option<Tensor>,
    objective: Objective<'a>,
}

impl<'a> OnDevice<'a> {
    fn of(images: &Tensor, objective: Objective<'a>, device: Device) -> Result<Self, Error> {
        let partners = match objective.partners {
            Partners::Images(partners) => Some(partners.to_device(device)?),
            Partners::Mirrored | Partners::Nobody => None,
        };
        let truth = objective.truth.map(|truth| truth.to_device(device)).transpose()?;
        Ok(Self { images: images.to_device(device)?, truth, partners, objective })
    }

    fn objective(&self) -> Objective<'_> {
        let partners = self.partners.as_ref().map_or(self.objective.partners, Partners::Images);
        self.objective.with_truth(self.truth.as_ref()).with_partners(partners)
    }
}

/// Losses and gradients from [`Model::differentiate`].
pub struct Differentiated {
    /// The losses.
    pub terms: LossTerms,
    /// The gradient of the total with respect to each parameter, in the precision of its working copy.
    pub of_parameters: Vec<Tensor>,
    /// Gradients that were retained.
    pub gradients: Gradients,
}

impl Model {
    /// The losses of `images [B,S,S,3]` in [-1,1]; the `objective` is the weight of the second reconstruction, or more. A
    /// model that learns from true depth needs the truth; one that learns from pairs sees each image and its mirror image
    /// as a pair.
    ///
    /// # Errors
    /// If images or truth have another size than the model's, or the device fails.
    pub fn losses<'a>(
        &self,
        images: &Tensor,
        objective: impl Into<Objective<'a>>,
    ) -> Result<Losses, ModelError> {
        self.check_images(images)?;
        let there = OnDevice::of(images, objective.into(), self.device())?;
        let (images, objective) = (&there.images, there.objective());
        let (images, second) = self.pair(images, objective.partners)?;
        let prediction = self.run(&images, &self.working_parameters()?, second, self.features(objective))?;
        let compared = Compared::new(self, &images, &prediction, second, objective)?;
        Ok(LossTerms::new(&compared, Vec::new())?.read()?)
    }

    /// The losses of `images [B,S,S,3]` in [-1,1] and the prediction that [`Model::predict`] makes of them, on the model's
    /// device, from one run of the networks (two for a model that learns from pairs): the second reconstruction of the
    /// losses is left out of the prediction. The objective as in [`Model::losses`].
    ///
    /// # Errors
    /// If images or truth have another size than the model's, or the device fails.
    pub fn losses_and_prediction<'a>(
        &self,
        images: &Tensor,
        objective: impl Into<Objective<'a>>,
    ) -> Result<(Losses, Prediction), ModelError> {
        self.check_images(images)?;
        let there = OnDevice::of(images, objective.into(), self.device())?;
        let (images, objective) = (&there.images, there.objective());
        let parameters = self.working_parameters()?;
        let (pairs, second) = self.pair(images, objective.partners)?;
        let (vgg, settings) = (self.features(objective), self.settings());
        let (compared, prediction) = if second == Second::Mirrored {
            let outputs = self.networks.forward(images, &parameters, Purpose::Losses, vgg)?;
            (
                self.compose_for_losses(outputs.clone(), &parameters, second)?,
                self.compose(outputs, Second::Nothing)?,
            )
        } else {
            let alone = self.run(images, &parameters, Second::Nothing, None)?;
            let compared = match second {
                Second::Swapped => self.run(&pairs, &parameters, second, vgg)?,
                Second::Nothing | Second::Mirrored => alone.clone(),
            };
            // What is returned is always the image of the exact renderer.
            let is_exact = settings.renderer() != Renderer::Learned;
            (compared, if is_exact { alone } else { self.decompose(images, &parameters)? })
        };
        let compared = Compared::new(self, &pairs, &compared, second, objective)?;
        let losses = LossTerms::new(&compared, Vec::new())?.read()?;
        Ok((
            losses,
            Prediction { confidence: None, target: None, grid: None, learned_image: None, ..prediction },
        ))
    }

    /// The losses of `images [B,S,S,3]` in [-1,1], and the gradient of their total with respect to each parameter, in the
    /// order and the shapes of [`Model::parameters`]. The objective as in [`Model::losses`].
    ///
    /// # Errors
    /// If images or truth have another size than the model's, or the device fails.
    pub fn loss_and_gradients<'a>(
        &self,
        images: &Tensor,
        objective: impl Into<Objective<'a>>,
    ) -> Result<(Losses, Vec<Tensor>), ModelError> {
        let there = OnDevice::of(images, objective.into(), self.device())?;
        let (images, objective) = (&there.images, there.objective());
        let found = || {
            let none = |_: &Prediction, _: &Tape| Ok(Vec::new());
            let found = self.differentiate(&self.working_parameters()?, images, objective, none)?;
            Ok((found.terms.read()?, found.of_parameters))
        };
        match self.device() {
            // On a thread of the pool: from any other each of several hundred operations would have to wake the pool and
            // be woken by it, which for narrow networks takes a tenth of the time (docs/performance.md).
            Device::Cpu => rayon::scope(|_| found()),
            Device::Cuda(_) => found(),
        }
    }

    /// As [`Model::loss_and_gradients`], for images and truth on the model's device, without waiting for the losses'
    /// values; `parameters` are the [working ones](Model::working_parameters).
    ///
    /// `more` gets the prediction and its tape before the tape is played. It may ask the tape to retain gradients, and
    /// returns the caller's terms, which are minimised together with the model's: a weight and a value without axes for
    /// each. A model that compares with the mirrored reconstruction predicts `2B` images: the second half is from mirrored
    /// depth and albedo. Of pairs it predicts `4B`, as [`Prediction`] says.
    ///
    /// # Errors
    /// If images or truth have another size than the model's, or the device fails.
    pub fn differentiate<'a>(
        &self,
        parameters: &[Tensor],
        images: &Tensor,
        objective: impl Into<Objective<'a>>,
        more: impl FnOnce(&Prediction, &Tape) -> Result<Vec<(f32, Tensor)>, Error>,
    ) -> Result<Differentiated, ModelError> {
        self.check_images(images)?;
        let objective = objective.into();
        let (images, second) = self.pair(images, objective.partners)?;
        let tape = Tape::new();
        let parameters: Vec<Tensor> = parameters.iter().map(|parameter| tape.watch(parameter)).collect();
        let prediction = self.run(&images, &parameters, second, self.features(objective))?;
        let more = more(&prediction, &tape)?;
        let terms = LossTerms::new(&Compared::new(self, &images, &prediction, second, objective)?, more)?;
        // What only the prediction still holds is freed as the tape is played.
        drop(prediction);
        let mut gradients = tape.backward(&terms.total)?;
        let of_parameters = parameters
            .iter()
            .map(|parameter| gradients.take(parameter).map_or_else(|| parameter.zeros_like(), Ok))
            .collect::<Result<_, Error>>()?;
        Ok(Differentiated { terms: terms.detach(), of_parameters, gradients })
    }

    /// The features of the perceptual losses, if the objective computes them.
    fn features(&self, objective: Objective<'_>) -> Option<&Vgg> {
        self.vgg.as_ref().filter(|_| objective.perceptual_factor > 0.0)
    }

    /// The images that the losses compare, followed by their partners if there are any, and what the second half of the
    /// prediction is made of.
    fn pair(&self, images: &Tensor, partners: Partners<'_>) -> Result<(Tensor, Second), ModelError> {
        let settings = self.settings();
        Ok(match (settings.supervision, settings.method, partners) {
            (Supervision::Depth, ..) => (images.clone(), Second::Nothing),
            (_, Method::Unsup3d, _) => (images.clone(), Second::Mirrored),
            (_, Method::Lemul, Partners::Nobody) => (images.clone(), Second::Nothing),
            (_, Method::Lemul, Partners::Mirrored) => (concat_flipped(images, true)?, Second::Swapped),
            (_, Method::Lemul, Partners::Images(partners)) => {
                if partners.shape() != images.shape() {
                    let detail = format!("{} images and {} partners", images.shape(), partners.shape());
                    return Err(Error::shape("pairs", detail).into());
                }
                (concat(images, partners, ConcatAxis::Batch)?, Second::Swapped)
            }
        })
    }
}

#[cfg(test)]
mod tests;
