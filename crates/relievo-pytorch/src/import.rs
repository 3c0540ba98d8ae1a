//! From a checkpoint to a model.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use relievo_model::{Method, Model, ModelError, ModelSettings, Preset, RUN_KEY};
use relievo_nets::ParameterInfo;
use relievo_tensor::Tensor;
use relievo_zip::ReadAt;

use crate::checkpoint::Checkpoint;
use crate::error::CheckpointError;
use crate::pickle::{Object, TensorLayout};

/// What a checkpoint does not say about its model. Settings that are not given are those of the preset.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportSettings {
    /// What the images show, and for LeMul the configuration; if not given, a human face, and a car for a model of unsup3d
    /// without confidence network.
    pub preset: Option<Preset>,
    /// Largest rotation about each axis, in degrees.
    pub rotation_range: Option<f32>,
    /// Largest translation along z.
    pub z_translation_range: Option<f32>,
    /// Canonical depth of the two outermost columns on each side.
    pub border_depth: Option<f32>,
}

/// A program whose checkpoints are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Wu, Rupprecht and Vedaldi 2020.
    Unsup3d,
    /// Ho, Tran, Phung and Hoai 2021. A checkpoint with one of its two confidence networks is taken without: nothing but
    /// training needs them.
    LeMul,
}

/// An imported model.
pub struct Import {
    /// The model, with the settings that give the same results as the original.
    pub model: Model,
    /// The preset that its settings come from.
    pub preset: Preset,
    /// The program that wrote the checkpoint.
    pub origin: Origin,
    /// The epoch after which it was written, if it says.
    pub epoch: Option<u32>,
}

impl Import {
    /// Reads a checkpoint.
    ///
    /// # Errors
    /// If it cannot be read, names anything but tensors and plain data, or has other networks than the paper's.
    pub fn open(path: &Path, settings: &ImportSettings) -> Result<Self, CheckpointError> {
        let unreadable = |source| CheckpointError::Unreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        Self::read(&file, settings)
    }

    /// As [`Import::open`], from bytes that can be read at any offset: a file, or `[u8]`.
    ///
    /// # Errors
    /// As [`Import::open`].
    pub fn read<F: ReadAt + ?Sized>(file: &F, settings: &ImportSettings) -> Result<Self, CheckpointError> {
        let mut checkpoint = Checkpoint::open(file)?;
        let networks = Networks::find(&checkpoint)?;
        let epoch = match checkpoint.objects.entry(checkpoint.objects.get(checkpoint.objects.root), "epoch") {
            Some(Object::Int(epoch)) => u32::try_from(*epoch).ok(),
            _ => None,
        };
        let (preset, model) = networks.settings(settings)?;
        let mut rest: HashMap<&str, std::vec::IntoIter<Parameter>> = networks.parameters();
        let model = Model::with_parameters(model, |info| {
            let network = info.name.split('.').next().unwrap_or_default();
            let parameter = rest.get_mut(network).and_then(Iterator::next);
            let parameter = parameter.ok_or_else(|| too_few(network))?;
            parameter.read(&mut checkpoint, info)
        })?;
        if let Some((network, parameter)) =
            rest.iter().find_map(|(network, rest)| Some((*network, rest.as_slice().first()?)))
        {
            let reason = format!("{} is one parameter more than the paper's network has", parameter.name);
            return Err(CheckpointError::Network { network: original_name(network), reason });
        }
        Ok(Self { model, preset, origin: networks.origin, epoch })
    }

    /// Whether the file says so little of its model that a wrong guess would show: groups of normalisations are not in a
    /// checkpoint, and the published ones are those of a width of 64.
    pub fn has_assumed_groups(&self) -> bool {
        let settings = self.model.settings();
        settings.width != PUBLISHED_WIDTH || settings.albedo_width.is_some()
    }

    /// The model as a weights file, with the preset in its metadata.
    ///
    /// # Errors
    /// If memory does not suffice.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ModelError> {
        let run = format!("preset = \"{}\"\n", self.preset.name());
        self.model.to_safetensors_with([(RUN_KEY.to_owned(), run)])
    }
}

/// Channels of the published networks at their first level.
const PUBLISHED_WIDTH: usize = 64;

/// The networks of a checkpoint and of a model, by their names.
pub(crate) const NAMES: [(&str, &str); 6] = [
    ("netD", "depth"),
    ("netA", "albedo"),
    ("netL", "light"),
    ("netV", "view"),
    ("netC", "confidence"),
    ("netC2", "pair-confidence"),
];

/// Those of [`NAMES`] that every checkpoint has: all but the confidence networks.
const NEEDED: usize = 4;

fn original_name(name: &str) -> &'static str {
    NAMES.iter().find(|(_, ours)| *ours == name).map_or("", |(theirs, _)| theirs)
}

fn too_few(network: &str) -> CheckpointError {
    let reason = "it has fewer parameters than the paper's network".to_owned();
    CheckpointError::Network { network: original_name(network), reason }
}

/// A parameter of a network.
#[derive(Debug, Clone)]
struct Parameter {
    network: &'static str,
    name: String,
    tensor: TensorLayout,
}

impl Parameter {
    /// The place of a parameter in the order in which layers run, from its name: `network.3.weight`, and for the two
    /// heads of the confidence network `out_net1.0.weight` and `out_net2.0.weight`. A weight comes before its bias.
    fn place(&self) -> Option<(usize, usize, bool)> {
        let mut parts = self.name.split('.');
        let (part, layer, kind) = (parts.next()?, parts.next()?, parts.next()?);
        let part = ["network", "out_net1", "out_net2"].iter().position(|name| *name == part)?;
        let is_known = parts.next().is_none() && matches!(kind, "weight" | "bias");
        is_known.then_some((part, layer.parse().ok()?, kind == "bias"))
    }

    fn is_convolution(&self) -> bool {
        self.tensor.size.len() == 4
    }

    fn error(&self, reason: impl std::fmt::Display) -> CheckpointError {
        CheckpointError::Network { network: self.network, reason: format!("{}: {reason}", self.name) }
    }

    /// The elements in the model's layout: `[out,in,k,k]` becomes `[out,k,k,in]`, and for transposed convolutions
    /// `[in,out,k,k]` becomes `[in,k,k,out]`.
    fn read<F: ReadAt + ?Sized>(
        &self,
        checkpoint: &mut Checkpoint<'_, F>,
        info: &ParameterInfo,
    ) -> Result<Tensor, CheckpointError> {
        let shape = &info.shape[..];
        let theirs =
            if let &[a, height, width, b] = shape { vec![a, b, height, width] } else { shape.to_vec() };
        if !theirs.iter().map(|extent| *extent as u64).eq(self.tensor.size.iter().copied()) {
            let found = &self.tensor.size;
            return Err(self.error(format_args!("has the shape {found:?}, not the network's {theirs:?}")));
        }
        let elements = checkpoint.elements(&self.tensor).map_err(|error| match error {
            CheckpointError::Damaged(reason) => self.error(reason),
            CheckpointError::NonFinite { .. } => self.error(error),
            other => other,
        })?;
        let elements = match *theirs {
            [_, b, height, width] => channels_last(&elements, b, height * width),
            _ => elements,
        };
        Tensor::new(&elements, info.shape).map_err(|error| CheckpointError::Model(error.into()))
    }
}

/// `[a,b,pixels]` as `[a,pixels,b]`.
fn channels_last(elements: &[f32], b: usize, pixels: usize) -> Vec<f32> {
    let mut moved = Vec::with_capacity(elements.len());
    for block in elements.chunks_exact(b * pixels) {
        moved
            .extend((0..pixels).flat_map(|pixel| (0..b).map(move |channel| block[channel * pixels + pixel])));
    }
    moved
}

/// The networks of a checkpoint.
struct Networks {
    /// In the order of [`NAMES`], their parameters in the order in which layers run; those that are used.
    of: Vec<(&'static str, Vec<Parameter>)>,
    origin: Origin,
}

impl Networks {
    fn find<F: ReadAt + ?Sized>(checkpoint: &Checkpoint<'_, F>) -> Result<Self, CheckpointError> {
        let root = checkpoint.objects.get(checkpoint.objects.root);
        let mut of = Vec::new();
        for (theirs, ours) in NAMES {
            match checkpoint.objects.entry(root, theirs) {
                Some(network) => of.push((ours, parameters(checkpoint, theirs, network)?)),
                None if theirs.starts_with("netC") => {}
                None => return Err(CheckpointError::NoNetwork(theirs)),
            }
        }
        // The confidence of unsup3d has two channels, for the image and for its mirror image; that of LeMul has one.
        let heads = of.get(NEEDED).and_then(|(_, confidence)| {
            confidence
                .iter()
                .rev()
                .find(|parameter| parameter.name.starts_with("out_net1.") && parameter.is_convolution())
        });
        let is_pairwise = checkpoint.objects.entry(root, "netC2").is_some()
            || heads.is_some_and(|head| head.tensor.size[0] == 1);
        let origin = if is_pairwise { Origin::LeMul } else { Origin::Unsup3d };
        if origin == Origin::LeMul && of.len() < NAMES.len() {
            of.truncate(NEEDED);
        }
        Ok(Self { of, origin })
    }

    fn parameters(&self) -> HashMap<&'static str, std::vec::IntoIter<Parameter>> {
        self.of.iter().map(|(name, parameters)| (*name, parameters.clone().into_iter())).collect()
    }

    /// The extents of the convolutions of a network, in order.
    fn convolutions(&self, network: &str) -> Vec<&[u64]> {
        let parameters = self.of.iter().find(|(name, _)| *name == network).map_or(&[][..], |(_, of)| of);
        parameters.iter().filter(|of| of.is_convolution()).map(|of| of.tensor.size.as_slice()).collect()
    }

    /// The preset, and the settings of the model: sizes by the extents of the parameters, everything else by the preset
    /// and what is given.
    fn settings(&self, given: &ImportSettings) -> Result<(Preset, ModelSettings), CheckpointError> {
        // Halvings of the size before the last two convolutions: four for 64 pixels.
        let halvings = self.convolutions("view").len().saturating_sub(2);
        let image_size =
            (4..=8).contains(&halvings).then(|| 4_usize << halvings).ok_or_else(|| too_few("view"))?;
        let channels = |network, layer: usize| {
            let outputs = self.convolutions(network).get(layer).map(|size| size[0]);
            outputs.and_then(|outputs| usize::try_from(outputs).ok()).ok_or_else(|| too_few(network))
        };
        let [[width, code], [albedo_width, albedo_code]] = [
            [channels("depth", 0)?, channels("depth", halvings)?],
            [channels("albedo", 0)?, channels("albedo", halvings)?],
        ];
        let has_confidence = self.of.len() > NEEDED;
        let (method, guess) = match self.origin {
            Origin::LeMul => (Method::Lemul, Preset::LemulCeleba),
            Origin::Unsup3d if has_confidence => (Method::Unsup3d, Preset::Face),
            Origin::Unsup3d => (Method::Unsup3d, Preset::Car),
        };
        let preset = given.preset.unwrap_or(guess);
        let of_preset = preset.model();
        let settings = ModelSettings {
            method,
            image_size,
            width,
            code,
            albedo_width: (albedo_width != width).then_some(albedo_width),
            albedo_code: (albedo_code != code).then_some(albedo_code),
            encoder_width: channels("light", 0)?,
            rotation_range: given.rotation_range.unwrap_or(of_preset.rotation_range),
            z_translation_range: given.z_translation_range.unwrap_or(of_preset.z_translation_range),
            border_depth: given.border_depth.unwrap_or(of_preset.border_depth),
            confidence: has_confidence,
            ..of_preset
        };
        Ok((preset, settings))
    }
}

/// The parameters of a network in the order in which its layers run.
fn parameters<F: ReadAt + ?Sized>(
    checkpoint: &Checkpoint<'_, F>,
    network: &'static str,
    object: &Object,
) -> Result<Vec<Parameter>, CheckpointError> {
    let unknown = |reason: String| CheckpointError::Network { network, reason };
    let Object::Dict(entries) = object else { return Err(unknown("it is no list of parameters".into())) };
    let mut found = Vec::new();
    for (name, tensor) in entries {
        let (Object::Text(name), Object::Tensor(tensor)) =
            (checkpoint.objects.get(*name), checkpoint.objects.get(*tensor))
        else {
            return Err(unknown("it holds something else than tensors".into()));
        };
        let parameter = Parameter { network, name: name.to_string(), tensor: (**tensor).clone() };
        let place = parameter
            .place()
            .ok_or_else(|| parameter.error("is a name that the paper's networks do not have"))?;
        found.push((place, parameter));
    }
    found.sort_by_key(|(place, _)| *place);
    Ok(found.into_iter().map(|(_, parameter)| parameter).collect())
}
