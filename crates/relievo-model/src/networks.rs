//! The networks of a model, and how they run side by side.

use std::ops::Range;

use rayon::prelude::*;
use relievo_nets::{ConfidenceNetwork, Network, ParameterInfo, Vgg, autoencoder, encoder};
use relievo_tensor::cuda::ForkedStreams;
use relievo_tensor::ops::{Activation, ConcatAxis, cast, concat, narrow_batch};
use relievo_tensor::{ConvPolicy, Device, Error, Tensor};

use crate::learned_renderer::{Rendered, RendererInputs, RendererNetwork};
use crate::settings::{LightModel, Method, ModelSettings, Supervision};

/// A network that a model may have.
trait Architecture: Send + Sync {
    /// Name, shape and beginning of its parameters, in the order in which `forward` takes them.
    fn parameters(&self) -> Vec<ParameterInfo>;

    /// Its outputs, one for each head, for `images [B,S,S,3]`.
    fn forward(
        &self,
        images: &Tensor,
        parameters: &[Tensor],
        policy: ConvPolicy,
    ) -> Result<Vec<Tensor>, Error>;
}

impl Architecture for Network {
    fn parameters(&self) -> Vec<ParameterInfo> {
        self.parameters()
    }

    fn forward(
        &self,
        images: &Tensor,
        parameters: &[Tensor],
        policy: ConvPolicy,
    ) -> Result<Vec<Tensor>, Error> {
        Ok(vec![self.forward(images, parameters, policy)?])
    }
}

impl Architecture for ConfidenceNetwork {
    fn parameters(&self) -> Vec<ParameterInfo> {
        self.parameters()
    }

    fn forward(
        &self,
        images: &Tensor,
        parameters: &[Tensor],
        policy: ConvPolicy,
    ) -> Result<Vec<Tensor>, Error> {
        let (pixels, features) = self.forward(images, parameters, policy)?;
        Ok(vec![pixels, features])
    }
}

/// The purpose of a network's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Reconstruction,
    Losses,
    /// The losses of pairs.
    Pairs,
}

/// What a pass through the networks is for: which of them run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A reconstruction alone.
    Reconstruction,
    /// The losses of single images.
    Losses,
    /// The losses of pairs: the partner of image i of 2B is image i + B, counted around.
    Pairs,
}

impl Purpose {
    fn includes(self, need: Use) -> bool {
        match need {
            Use::Reconstruction => true,
            Use::Losses => self != Self::Reconstruction,
            Use::Pairs => self == Self::Pairs,
        }
    }
}

/// The form of a network's output. Maps cost much more to compute than vectors, so their work is queued first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Maps,
    Vector,
}

/// Declares the networks, in the order of their parameters: documentation of the output, its form and purpose, and the
/// network for given settings, or `None` if a model with these settings has none.
macro_rules! networks {
    ($($(#[$about:meta])+ $kind:ident: $output:ident for $use:ident, $build:expr;)+) => {
        /// A network of the model.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum NetworkKind {
            $($(#[$about])+ $kind,)+
        }

        impl NetworkKind {
            /// All of them, in the order of their parameters.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            fn output(self) -> Output {
                match self {
                    $(Self::$kind => Output::$output,)+
                }
            }

            fn needed_for(self) -> Use {
                match self {
                    $(Self::$kind => Use::$use,)+
                }
            }

            fn build(self, settings: &ModelSettings) -> Option<Box<dyn Architecture>> {
                let build: fn(&ModelSettings) -> Option<Box<dyn Architecture>> = match self {
                    $(Self::$kind => $build,)+
                };
                build(settings)
            }
        }
    };
}

networks! {
    /// Raw depth `[B,S,S,1]`, unbounded.
    Depth: Maps for Reconstruction, |s| {
        Some(Box::new(autoencoder("depth", s.width, s.code, 1, s.image_size, Activation::Identity)))
    };
    /// Albedo `[B,S,S,3]` in (-1, 1).
    Albedo: Maps for Reconstruction, |s| {
        let [width, code] = s.albedo_channels();
        Some(Box::new(autoencoder("albedo", width, code, 3, s.image_size, Activation::Tanh)))
    };
    /// Light `[B,1,1,4]`, or the shading map `[B,S,S,1]`, in (-1, 1).
    Light: Vector for Reconstruction, |s| Some(Box::new(match s.light {
        LightModel::Lambert => encoder("light", s.encoder_width, 4, s.image_size),
        LightModel::ShadingMap => autoencoder("shading", s.width, s.code, 1, s.image_size, Activation::Tanh),
    }));
    /// Viewpoint `[B,1,1,6]` in (-1, 1).
    View: Vector for Reconstruction, |s| Some(Box::new(encoder("view", s.encoder_width, 6, s.image_size)));
    /// The scale of the error, above 0: of the photometric loss `[B,S,S,2]` and of the perceptual loss
    /// `[B,S/4,S/4,2]`; channel 0 as seen, 1 for the mirrored half. A model that learns from pairs has channel 0 alone.
    Confidence: Maps for Losses, |s| {
        let outputs = if s.method == Method::Lemul { 1 } else { 2 };
        let network =
            || ConfidenceNetwork::new("confidence", [3, outputs], s.width, s.code / 2, s.image_size);
        s.confidence.then(|| Box::new(network()) as Box<dyn Architecture>)
    };
    /// The scale of the error of an image reconstructed from its partner's depth and albedo, from both images:
    /// `[B,S,S,1]` and `[B,S/4,S/4,1]`. Of a model that learns from pairs.
    PairConfidence: Maps for Pairs, |s| {
        let network =
            || ConfidenceNetwork::new("pair-confidence", [6, 1], s.width, s.code / 2, s.image_size);
        let has = s.confidence && s.method == Method::Lemul;
        has.then(|| Box::new(network()) as Box<dyn Architecture>)
    };
}

/// A model's networks, each with its range in the flat list of parameters.
pub(crate) struct Networks {
    parts: Vec<Part>,
    /// What renders the images that the losses compare, where that is not geometry alone; its parameters are the last.
    renderer: Option<(RendererNetwork, Range<usize>)>,
    /// How exactly a GPU computes them.
    pub policy: ConvPolicy,
    /// Whether a GPU computes them side by side.
    pub forks: bool,
}

struct Part {
    kind: NetworkKind,
    network: Box<dyn Architecture>,
    parameters: Range<usize>,
}

impl Part {
    fn forward(
        &self,
        images: &Tensor,
        parameters: &[Tensor],
        policy: ConvPolicy,
    ) -> Result<Vec<Tensor>, Error> {
        self.network.forward(images, &parameters[self.parameters.clone()], policy)
    }
}

/// The outputs of the networks for B images of SxS pixels, before any meaning is put on them: those of
/// [`NetworkKind`].
#[derive(Debug, Clone)]
pub struct Outputs {
    /// In the order of [`NetworkKind::ALL`].
    of: Vec<(NetworkKind, Vec<Tensor>)>,
    /// VGG16's features of the images at each depth that terms compare, where they were asked for.
    pub target: Option<Vec<Tensor>>,
}

impl Outputs {
    /// Outputs of networks with one head each.
    pub(crate) fn of(outputs: impl IntoIterator<Item = (NetworkKind, Tensor)>) -> Self {
        Self { of: outputs.into_iter().map(|(kind, output)| (kind, vec![output])).collect(), target: None }
    }

    /// The outputs of a network, one for each head; none if it did not run.
    pub(crate) fn heads(&self, kind: NetworkKind) -> &[Tensor] {
        self.of.iter().find(|(of, _)| *of == kind).map_or(&[], |(_, heads)| heads)
    }

    /// The output of a network with one head.
    ///
    /// # Errors
    /// If the network did not run.
    pub(crate) fn get(&self, kind: NetworkKind) -> Result<&Tensor, Error> {
        let missing = || Error::shape("model", format!("there is no output of the network {kind:?}"));
        self.heads(kind).first().ok_or_else(missing)
    }

    /// All outputs, in the order of [`NetworkKind::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = &Tensor> {
        self.of.iter().flat_map(|(_, heads)| heads)
    }
}

impl Networks {
    /// Those that the settings ask for, and their parameters. A model that learns depth from true depth has no other
    /// network.
    pub fn new(settings: &ModelSettings) -> (Self, Vec<ParameterInfo>) {
        let (mut parts, mut infos) = (Vec::new(), Vec::new());
        let has = |kind| settings.supervision == Supervision::None || kind == NetworkKind::Depth;
        for kind in NetworkKind::ALL.iter().copied().filter(|kind| has(*kind)) {
            if let Some(network) = kind.build(settings) {
                let start = infos.len();
                infos.extend(network.parameters());
                parts.push(Part { kind, network, parameters: start..infos.len() });
            }
        }
        let renderer = settings.renderer_network().map(|network| {
            let start = infos.len();
            infos.extend(network.parameters());
            (network, start..infos.len())
        });
        (Self { parts, renderer, policy: ConvPolicy::default(), forks: true }, infos)
    }

    /// The images of the learned renderer, if there is one.
    ///
    /// # Errors
    /// If the inputs do not fit, or the device fails.
    pub fn render(
        &self,
        parameters: &[Tensor],
        inputs: impl FnOnce() -> Result<RendererInputs, Error>,
    ) -> Result<Option<Rendered>, Error> {
        let Some((network, range)) = &self.renderer else { return Ok(None) };
        network.render(&inputs()?, &parameters[range.clone()], self.policy).map(Some)
    }

    /// The places of the learned renderer's parameters; of none if there is none.
    pub fn of_renderer(&self) -> Range<usize> {
        self.renderer.as_ref().map_or(0..0, |(_, range)| range.clone())
    }

    /// The depth network, which every model has.
    fn depth_network(&self) -> &Part {
        let depth = self.parts.iter().find(|part| part.kind == NetworkKind::Depth);
        depth.expect("every model has a depth network")
    }

    /// The place of the weights of the depth network's last convolution in the list of parameters.
    pub fn last_of_depth(&self) -> usize {
        self.depth_network().parameters.end - 1
    }

    /// Runs the networks that a purpose needs on `images [B,S,S,3]`, side by side: most layers
    /// are too small to be shared out among all of a GPU or, for a single image, among all cores, but the networks do
    /// not wait for each other. On a CPU's tape one after the other, so that a step is always recorded in the same
    /// order. The features of the perceptual loss do not wait for the networks either.
    ///
    /// # Errors
    /// If the model has a depth network alone, or the device fails.
    pub fn forward(
        &self,
        images: &Tensor,
        parameters: &[Tensor],
        purpose: Purpose,
        vgg: Option<&Vgg>,
    ) -> Result<Outputs, Error> {
        if self.parts.len() == 1 {
            return Err(Error::shape("model", "it has learned depth from true depth and knows nothing else"));
        }
        let target = || vgg.map(|vgg| vgg.all_features(images)).transpose();
        // Once for all networks.
        let images = &match parameters.first() {
            Some(weight) => cast(images, weight.data_type())?,
            None => images.clone(),
        };
        let asked = self.parts.iter().filter(|part| purpose.includes(part.kind.needed_for()));
        let mut asked: Vec<&Part> = asked.collect();
        let pairs = asked.iter().any(|part| part.kind.needed_for() == Use::Pairs);
        let pairs = pairs.then(|| with_partners(images)).transpose()?;
        let run = |part: &&Part| -> Result<_, Error> {
            let input = match (&pairs, part.kind.needed_for()) {
                (Some(pairs), Use::Pairs) => pairs,
                _ => images,
            };
            Ok((part.kind, part.forward(input, parameters, self.policy)?))
        };
        if parameters.iter().any(Tensor::is_recorded) || images.device() != Device::Cpu {
            asked.sort_by_key(|part| part.kind.output() == Output::Vector);
            let mut streams = ForkedStreams::on(images.device().ordinal().filter(|_| self.forks))?;
            let of = asked.iter().map(|part| streams.fork(|| run(part)));
            let mut of: Vec<_> = of.collect::<Result<_, Error>>()?;
            of.sort_by_key(|(kind, _)| *kind);
            let target = streams.fork(target)?;
            streams.join()?;
            return Ok(Outputs { of, target });
        }
        let target = target()?;
        let of = asked.par_iter().with_max_len(1).map(run).collect::<Result<_, Error>>()?;
        Ok(Outputs { of, target })
    }

    /// The depth network's output for `images [B,S,S,3]`: `[B,S,S,1]`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn depth(&self, images: &Tensor, parameters: &[Tensor]) -> Result<Tensor, Error> {
        let heads = self.depth_network().forward(images, parameters, self.policy)?;
        Ok(heads.into_iter().next().expect("the depth network has one head"))
    }
}

/// `[2B,S,S,6]`: the channels of each image's partner, then its own.
fn with_partners(images: &Tensor) -> Result<Tensor, Error> {
    let [count, ..] = images.dims::<4>("pairs")?;
    if count % 2 == 1 {
        return Err(Error::shape("pairs", format!("{count} images are no pairs")));
    }
    let half = |first| narrow_batch(images, first, count / 2);
    let partners = concat(&half(count / 2)?, &half(0)?, ConcatAxis::Batch)?;
    concat(&partners, images, ConcatAxis::Channels)
}

#[cfg(test)]
mod tests {
    use relievo_tensor::Tape;

    use super::*;
    use crate::Model;

    #[test]
    fn networks_and_their_parameters_stand_in_the_order_of_files() {
        let names = |settings: ModelSettings| {
            let (_, infos) = Networks::new(&settings);
            let mut names: Vec<String> =
                infos.iter().filter_map(|info| Some(info.name.split('.').next()?.to_owned())).collect();
            names.dedup();
            names
        };
        let tiny = ModelSettings::tiny();
        assert_eq!(names(tiny.clone()), ["depth", "albedo", "light", "view", "confidence"]);
        let shading = ModelSettings { light: LightModel::ShadingMap, confidence: false, ..tiny.clone() };
        assert_eq!(names(shading), ["depth", "albedo", "shading", "view"]);
        assert_eq!(names(ModelSettings { supervision: Supervision::Depth, ..tiny.clone() }), ["depth"]);
        let pairs = ModelSettings { method: Method::Lemul, ..tiny };
        assert_eq!(names(pairs), ["depth", "albedo", "light", "view", "confidence", "pair-confidence"]);
    }

    #[test]
    fn outputs_are_the_same_on_a_tape_and_off_it() {
        let model = Model::new(ModelSettings::tiny(), 2).unwrap();
        let images = Tensor::full([1, 64, 64, 3], 0.25);
        let tape = Tape::new();
        let watched: Vec<Tensor> = model.parameters().iter().map(|parameter| tape.watch(parameter)).collect();
        let [off, on] =
            [model.parameters(), &watched].map(|parameters| model.outputs(&images, parameters).unwrap());
        for kind in NetworkKind::ALL {
            let [off, on] = [&off, &on].map(|outputs| outputs.heads(*kind));
            assert_eq!(off.len(), on.len(), "{kind:?}");
            assert!(off.iter().zip(on).all(|(off, on)| off.data() == on.data()), "{kind:?}");
        }
        assert_eq!(off.iter().count(), 6);
        assert!(Outputs::of([]).get(NetworkKind::Light).is_err());
    }
}
