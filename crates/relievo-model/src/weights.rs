//! Weights in and out: safetensors with the model's settings in the metadata, so that a file is all one needs.

use std::collections::{HashMap, HashSet};

use relievo_nets::ParameterInfo;
use relievo_tensor::safetensors::{Entry, ReadError, SafetensorsFile, quantise, serialize};
use relievo_tensor::{Device, Tensor};

use crate::learned_renderer::{LearnedRenderer, RENDERER_KEY};
use crate::losses::LossList;
use crate::model::{Model, ModelError};
use crate::settings::{ModelSettings, Preset, Supervision};
use crate::widening::{another_shape, widen};

/// The key under which the settings stand in a weights file's metadata, as JSON.
pub const SETTINGS_KEY: &str = "relievo.model";

/// The key under which the settings of the training run stand, as TOML, in the files of weights that have one.
pub const RUN_KEY: &str = "relievo.run";

/// The key that the files of models have which learned from ground truth ([`Model::has_seen_truth`]).
const TRUTH_KEY: &str = "relievo.truth";

/// What stands there.
const SEEN: &str = "learned from the ground truth of synthetic images";

/// The key that the files of models have which learned from points of faces ([`Model::has_seen_landmarks`]), and what
/// stands there.
const LANDMARKS_KEY: &str = "relievo.landmarks";
const LANDMARKS: &str = "learned from points that a face detector found";

/// Whether a file's parameters learned from ground truth. Settings alone do not tell: with a teacher the same losses
/// compare with its answers.
fn has_seen_truth(file: &SafetensorsFile<'_>, settings: &ModelSettings) -> bool {
    file.metadata(TRUTH_KEY).is_some() || settings.supervision == Supervision::Depth
}

impl Preset {
    /// The preset that the weights in a file were trained with, and so the kind of object that their images show;
    /// `None` if the file does not say.
    pub fn in_weights(bytes: &[u8]) -> Option<Self> {
        Self::in_run(SafetensorsFile::open(bytes).ok()?.metadata(RUN_KEY)?)
    }

    /// The preset that the settings of a run (TOML) name. The other settings need not be ones that this version knows;
    /// `None` if there is no such preset.
    pub fn in_run(settings: &str) -> Option<Self> {
        let settings: toml::Table = settings.parse().ok()?;
        settings.get("preset")?.clone().try_into().ok()
    }
}

/// Weights that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// Not a safetensors file, or a truncated one.
    #[error("{origin}: not a readable weights file: {source}")]
    Format {
        /// Where the bytes came from.
        origin: String,
        /// What is wrong with them.
        source: ReadError,
    },
    /// A safetensors file without this program's settings.
    #[error(
        "{origin}: holds no model settings (metadata `{SETTINGS_KEY}`), so it was not written by relievo"
    )]
    NoSettings {
        /// Where the bytes came from.
        origin: String,
    },
    /// A safetensors file without a learned renderer.
    #[error(
        "{origin}: holds no learned renderer (metadata `{RENDERER_KEY}`); `relievo renderer train` makes one"
    )]
    NoRenderer {
        /// Where the bytes came from.
        origin: String,
    },
    /// The settings are unreadable or make no sense: another version wrote them, or something else.
    #[error(
        "{origin}: its model settings cannot be used ({reason}); it may have been written by another version of relievo"
    )]
    Settings {
        /// Where the bytes came from.
        origin: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A parameter that is missing, or whose shape or type is not that of the settings.
    #[error("{origin}: parameter {name}: {reason}")]
    Parameter {
        /// Where the bytes came from.
        origin: String,
        /// The parameter.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The settings make no model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Model {
    /// All parameters as a safetensors file, with the settings in its metadata.
    ///
    /// # Errors
    /// If they are on a GPU that fails.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ModelError> {
        self.to_safetensors_with([])
    }

    /// As [`Model::to_safetensors`], with notes (names and texts) in the metadata beside the settings.
    ///
    /// # Errors
    /// If the parameters are on a GPU that fails.
    pub fn to_safetensors_with(
        &self,
        notes: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Vec<u8>, ModelError> {
        let mut entries = Vec::with_capacity(self.parameters().len());
        for (info, tensor) in self.parameter_infos().iter().zip(self.parameters()) {
            entries.push(Entry::f32(&info.name, &tensor.shape(), tensor.to_device(Device::Cpu)?.data()));
        }
        Ok(self.file_of(self.settings(), &entries, notes))
    }

    /// A weights file to hand on: a quarter of the size, for inference. Weights are stored in 8 bits with a scale for each
    /// channel ([`quantise`](relievo_tensor::safetensors::quantise)), biases and norms in f16, and the confidence networks,
    /// which inference does not use, are left out, and so are a learned renderer, the perceptual loss and the listed ones.
    /// `notes` are as for [`Model::to_safetensors_with`].
    ///
    /// # Errors
    /// If the parameters are on a GPU that fails.
    pub fn to_packed_safetensors(
        &self,
        notes: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Vec<u8>, ModelError> {
        let settings = ModelSettings {
            confidence: false,
            perceptual_weight: 0.0,
            loss: LossList::default(),
            renderer: None,
            renderer_width: None,
            renderer_weight: None,
            ..self.settings().clone()
        };
        let packed = Self::without_parameters(settings)?;
        let kept: HashSet<&str> = packed.parameter_infos().iter().map(|info| &*info.name).collect();
        let parameters = self.parameter_infos().iter().zip(self.parameters());
        let mut entries = Vec::with_capacity(2 * kept.len());
        for (info, tensor) in parameters.filter(|(info, _)| kept.contains(&*info.name)) {
            let tensor = tensor.to_device(Device::Cpu)?;
            if tensor.shape().len() > 1 {
                entries.extend(quantise(&info.name, &tensor.shape(), tensor.data()));
            } else {
                entries.push(Entry::f16(&info.name, &tensor.shape(), tensor.data()));
            }
        }
        Ok(self.file_of(packed.settings(), &entries, notes))
    }

    fn file_of(
        &self,
        settings: &ModelSettings,
        parameters: &[Entry],
        notes: impl IntoIterator<Item = (String, String)>,
    ) -> Vec<u8> {
        let settings = serde_json::to_string(settings).expect("settings are plain numbers and names");
        let mut metadata: HashMap<String, String> = notes.into_iter().collect();
        metadata.insert(SETTINGS_KEY.to_owned(), settings);
        metadata.extend(self.supervision_notes().map(|(key, note)| (key.to_owned(), note.to_owned())));
        serialize(parameters, metadata).expect("parameters have distinct names and whole bytes")
    }

    /// The entries of the metadata about what a model that is not unsupervised learned from.
    pub fn supervision_notes(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let truth = self.has_seen_truth.then_some((TRUTH_KEY, SEEN));
        truth.into_iter().chain(self.has_seen_landmarks.then_some((LANDMARKS_KEY, LANDMARKS)))
    }

    /// A model from what [`Model::to_safetensors`] wrote. `origin` (a path, say) begins every error message.
    ///
    /// # Errors
    /// If the bytes are no such file, or parameters are missing or of the wrong shape.
    pub fn from_safetensors(bytes: &[u8], origin: &str) -> Result<Self, WeightsError> {
        let origin = origin.to_owned();
        let unreadable = |source| WeightsError::Format { origin: origin.clone(), source };
        let file = SafetensorsFile::open(bytes).map_err(unreadable)?;
        let settings = settings_in(&file, &origin)?;
        settings
            .check()
            .map_err(|invalid| WeightsError::Settings { origin: origin.clone(), reason: invalid.reason })?;
        let mut model = Self::with_parameters(settings, |info| {
            read(&file, info).map_err(|reason| WeightsError::Parameter {
                origin: origin.clone(),
                name: info.name.clone(),
                reason,
            })
        })?;
        model.has_seen_truth = has_seen_truth(&file, model.settings());
        model.has_seen_landmarks = file.metadata(LANDMARKS_KEY).is_some();
        Ok(model)
    }

    /// A model with the parameters that `read` gives, one after the other in the order of [`Model::parameter_infos`], on
    /// the CPU.
    ///
    /// # Errors
    /// If a setting is invalid, `read` fails, or a parameter has another shape than the settings ask for.
    pub fn with_parameters<E: From<ModelError>>(
        settings: ModelSettings,
        mut read: impl FnMut(&ParameterInfo) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let mut model = Self::without_parameters(settings)?;
        let checked = model.parameter_infos().iter().map(|info| {
            let parameter = read(info)?;
            if *parameter.shape() == *info.shape {
                return Ok(parameter);
            }
            let reason = format!("{} has the shape {}, not {}", info.name, parameter.shape(), info.shape);
            Err(ModelError::from(relievo_tensor::Error::shape("model", reason)).into())
        });
        model.parameters = checked.collect::<Result<_, E>>()?;
        Ok(model)
    }

    /// Takes over the parameters in a file that [`Model::to_safetensors`] wrote; networks that the file lacks keep theirs.
    /// Networks that are narrower in the file are widened: the outputs stay the same up to rounding, and the copies of a
    /// channel learn apart (the module `widening`). Returns the settings of
    /// [`Kind::Meaning`](relievo_settings::Kind::Meaning) that differ, with their values in the file: there, the same
    /// outputs meant another surface, view or light. Errors are sentences without the file's name.
    ///
    /// # Errors
    /// If the bytes are no such file, if the file holds no network of this model, or a wider one; then nothing has
    /// changed. For models on the CPU.
    pub fn take_over(&mut self, bytes: &[u8]) -> Result<Vec<String>, String> {
        let file = SafetensorsFile::open(bytes).map_err(|error| error.to_string())?;
        let network = |info: &ParameterInfo| info.name.split('.').next().map(str::to_owned);
        let infos = self.parameter_infos();
        let there: Vec<_> = infos.iter().filter(|info| file.has(&info.name)).filter_map(network).collect();
        let mut parameters = self.parameters.clone();
        let mut taken = 0;
        for (info, parameter) in infos.iter().zip(&mut parameters) {
            if network(info).is_some_and(|network| there.contains(&network)) {
                let named = |reason| format!("parameter {}: {reason}", info.name);
                let (numbers, shape) = read_any(&file, info).map_err(named)?;
                *parameter = widen(info, &numbers, &shape).map_err(named)?;
                taken += 1;
            }
        }
        if taken == 0 {
            return Err("it holds no network of this model".into());
        }
        self.parameters = parameters;
        self.has_seen_truth |= file.metadata(TRUTH_KEY).is_some();
        self.has_seen_landmarks |= file.metadata(LANDMARKS_KEY).is_some();
        let Ok(then) = settings_in(&file, "") else { return Ok(Vec::new()) };
        self.has_seen_truth |= has_seen_truth(&file, &then);
        let both = then.meaning_of_outputs().zip(self.settings().meaning_of_outputs());
        let differences = both.filter(|(then, now)| then != now);
        Ok(differences.map(|((name, then), (_, now))| format!("{name} {then} (here {now})")).collect())
    }
}

impl Model {
    /// Takes over the parameters of a learned renderer. Errors are sentences without the file's name.
    ///
    /// # Errors
    /// If the settings ask for no learned renderer, or for one of other images, depths or width; then nothing has changed. For
    /// models on the CPU.
    pub fn set_renderer(&mut self, renderer: &LearnedRenderer) -> Result<(), String> {
        let (then, now) = (renderer.settings(), self.settings());
        let Some(width) = now.renderer_network().map(|network| network.width()) else {
            return Err("the losses use the exact renderer alone".into());
        };
        if then.width != width {
            return Err(format!(
                "it has {} channels at its finest level, not {width}: say renderer-width {0}",
                then.width
            ));
        }
        let [known, wanted] = [
            [then.min_depth, then.max_depth, then.field_of_view, then.pixel_centre],
            [now.min_depth, now.max_depth, now.field_of_view, now.pixel_centre],
        ];
        if (then.image_size, known) != (now.image_size, wanted) {
            let described = |size: usize, [near, far, angle, centre]: [f32; 4]| {
                format!(
                    "{size}x{size} pixels, depths from {near} to {far}, {angle} degrees and pixel-centre {centre}"
                )
            };
            let (then, now) = (described(then.image_size, known), described(now.image_size, wanted));
            return Err(format!("it learned with {then}; the model has {now}"));
        }
        let range = self.networks.of_renderer();
        self.parameters[range].clone_from_slice(renderer.parameters());
        Ok(())
    }
}

/// The settings in the metadata of a weights file.
fn settings_in(file: &SafetensorsFile<'_>, origin: &str) -> Result<ModelSettings, WeightsError> {
    let origin = || origin.to_owned();
    let settings =
        file.metadata(SETTINGS_KEY).ok_or_else(|| WeightsError::NoSettings { origin: origin() })?;
    serde_json::from_str(settings)
        .map_err(|error| WeightsError::Settings { origin: origin(), reason: error.to_string() })
}

/// A parameter out of a file, of the shape that the settings ask for.
pub(crate) fn read(file: &SafetensorsFile<'_>, info: &ParameterInfo) -> Result<Tensor, String> {
    let (numbers, shape) = read_any(file, info)?;
    if shape[..] != info.shape[..] {
        return Err(another_shape(info, &shape));
    }
    Tensor::new(&numbers, info.shape).map_err(|error| error.to_string())
}

/// Numbers and shape of a parameter in a file.
fn read_any(file: &SafetensorsFile<'_>, info: &ParameterInfo) -> Result<(Vec<f32>, Vec<usize>), String> {
    if !file.has(&info.name) {
        return Err("is not in the file".into());
    }
    let (numbers, shape) = file.numbers(&info.name).map_err(|error| error.to_string())?;
    // Without a way out of the loop, compilers vectorise it.
    if !numbers.iter().fold(true, |all, number| all & number.is_finite()) {
        let index = numbers.iter().position(|number| !number.is_finite()).unwrap_or_default();
        return Err(format!("holds {} at place {index}", numbers[index]));
    }
    Ok((numbers, shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Method;

    fn small() -> Model {
        let settings = ModelSettings { width: 8, code: 16, encoder_width: 8, ..ModelSettings::default() };
        Model::new(settings, 5).unwrap()
    }

    #[test]
    fn weights_survive_the_file() {
        let model = small();
        let again = Model::from_safetensors(&model.to_safetensors().unwrap(), "memory").unwrap();
        assert_eq!(again.settings(), model.settings());
        for (a, b) in again.parameters().iter().zip(model.parameters()) {
            assert_eq!(a.data(), b.data());
        }
    }

    #[test]
    fn packed_weights_are_a_model_without_confidence_a_quarter_of_the_size() {
        let settings = ModelSettings { method: Method::Lemul, ..small().settings().clone() };
        let model = Model::new(settings, 5).unwrap();
        let packed = model.to_packed_safetensors([]).unwrap();
        assert_eq!(packed, model.to_packed_safetensors([]).unwrap());
        let again = Model::from_safetensors(&packed, "memory").unwrap();
        assert!(!again.settings().confidence && again.parameters().len() < model.parameters().len());
        let names = |model: &Model| -> Vec<String> {
            model.parameter_infos().iter().map(|info| info.name.clone()).collect()
        };
        let (all, mut bytes) = (names(&model), 0);
        for (name, tensor) in names(&again).iter().zip(again.parameters()) {
            let of = &model.parameters()[all.iter().position(|other| other == name).unwrap()];
            let most = of.data().iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let step = most * if of.shape().len() > 1 { 0.5 / 127.0 } else { 0.5 / 1024.0 };
            let off = of.data().iter().zip(tensor.data()).map(|(x, y)| (x - y).abs());
            assert!(off.fold(0.0, f32::max) <= 1.001 * step, "{name}");
            bytes += 4 * of.data().len();
        }
        assert!(packed.len() < bytes / 3, "{} of {bytes} bytes", packed.len());
    }

    #[test]
    fn files_say_whether_truth_was_used_and_so_do_models_that_take_them_over() {
        let unsupervised = small();
        assert!(!unsupervised.has_seen_truth());
        let settings = ModelSettings { truth_weight: 1.0, ..small().settings().clone() };
        let supervised = Model::new(settings, 5).unwrap().to_safetensors().unwrap();
        let mut later = small();
        later.take_over(&supervised).unwrap();
        for model in [supervised, later.to_safetensors().unwrap()] {
            let file = SafetensorsFile::open(&model).unwrap();
            assert_eq!(file.metadata(TRUTH_KEY), Some(SEEN));
            assert!(Model::from_safetensors(&model, "memory").unwrap().has_seen_truth());
        }
        let file = unsupervised.to_safetensors().unwrap();
        assert!(SafetensorsFile::open(&file).unwrap().metadata(TRUTH_KEY).is_none());
    }

    fn refusal(bytes: &[u8]) -> String {
        Model::from_safetensors(bytes, "face.safetensors")
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn damaged_files_are_refused_by_name() {
        let bytes = small().to_safetensors().unwrap();
        assert!(
            refusal(&bytes[..bytes.len() / 2]).starts_with("face.safetensors: not a readable weights file")
        );
        assert!(refusal(b"PNG").starts_with("face.safetensors: not a readable weights file"));
        let foreign = serialize(&[], HashMap::new()).unwrap();
        assert!(refusal(&foreign).contains("was not written by relievo"));
    }

    #[test]
    fn a_wrong_shape_is_named() {
        let mut model = small();
        model.parameters[0] = Tensor::zeros([8, 4, 4, 2]);
        let message = refusal(&model.to_safetensors().unwrap());
        assert_eq!(
            message,
            "face.safetensors: parameter depth.0.weight: has the shape [8, 4, 4, 2], but the settings ask for [8, 4, 4, 3]"
        );
        model.parameters[0] = Tensor::full([8, 4, 4, 3], f32::NAN);
        assert!(refusal(&model.to_safetensors().unwrap()).contains("holds NaN at place 0"));
    }

    #[test]
    fn networks_are_taken_over_whole_and_others_stay() {
        let of = |seed, confidence| {
            Model::new(ModelSettings { confidence, ..small().settings().clone() }, seed).unwrap()
        };
        let (known, mut model) = (of(1, false), of(2, true));
        let before = model.parameters().to_vec();
        assert!(model.take_over(&known.to_safetensors().unwrap()).unwrap().is_empty());
        let parts = known.parameters().len();
        for (index, parameter) in model.parameters().iter().enumerate() {
            let right = if index < parts { &known.parameters()[index] } else { &before[index] };
            assert_eq!(parameter.data(), right.data());
        }
        let raised = ModelSettings { dome: 0.7, ..known.settings().clone() };
        let mut raised = Model::new(raised, 1).unwrap();
        let otherwise = raised.take_over(&known.to_safetensors().unwrap()).unwrap();
        assert_eq!(otherwise, ["dome 0 (here 0.7)"]);
        let narrower = ModelSettings { width: 4, ..small().settings().clone() };
        let mut narrower = Model::new(narrower, 1).unwrap();
        let refusal = narrower.take_over(&known.to_safetensors().unwrap()).unwrap_err();
        assert!(refusal.starts_with("parameter depth.0.weight: has the shape [8, 4, 4, 3]"), "{refusal}");
        let nothing = serialize(&[], HashMap::new()).unwrap();
        assert_eq!(model.take_over(&nothing).unwrap_err(), "it holds no network of this model");
    }
}
