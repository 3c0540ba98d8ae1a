//! Distillation: a model learns the answers of another one (Hinton, Vinyals and Dean, *Distilling the Knowledge in a
//! Neural Network*, 2015). The answers take the place of the ground truth, so the losses are those of `truth-weight`.

use std::path::Path;
use std::sync::Arc;

use relievo_data::{Image, Light, Sample, SampleError, Source, Truth};
use relievo_model::{Model, ModelError, ModelSettings, Supervision};
use relievo_render::normals;
use relievo_tensor::Tensor;

use crate::settings::EmbeddedWeights;

/// A source whose images have a model's answers as their truth. The images are as they are in the source: what turns or
/// moves them later turns the answers with them, so the student also learns from crops that the teacher never saw.
pub(crate) struct Taught<S> {
    source: S,
    teacher: Arc<Model>,
}

impl<S> Taught<S> {
    pub(crate) fn new(source: S, teacher: Arc<Model>) -> Self {
        Self { source, teacher }
    }
}

/// The teacher at a path, as `--initial-weights` understands paths, for a student with these settings.
///
/// # Errors
/// A sentence, without the path: if it cannot be read, or its answers do not fit the student.
pub(crate) fn teacher(path: &Path, known: EmbeddedWeights, student: &ModelSettings) -> Result<Model, String> {
    let bytes = crate::trainer::weights_at(path, known)?;
    let model = Model::from_safetensors(&bytes, "the teacher").map_err(|error| error.to_string())?;
    let settings = model.settings();
    if settings.supervision == Supervision::Depth {
        return Err("it predicts depth alone, and a student needs albedo, light and viewpoint too".into());
    }
    if (settings.image_size, settings.field_of_view) != (student.image_size, student.field_of_view) {
        return Err(format!(
            "it decomposes images of {0}x{0} pixels and {1} degrees; the student has {2}x{2} and {3} degrees",
            settings.image_size, settings.field_of_view, student.image_size, student.field_of_view
        ));
    }
    Ok(model)
}

/// What a model says of an image of its size.
fn answers(model: &Model, image: &Image) -> Result<Truth, ModelError> {
    let size = model.settings().image_size;
    let pixels: Vec<f32> = image.signed().collect();
    let found = model.predict(&Tensor::new(&pixels, [1, size, size, 3])?)?;
    let albedo = model.albedo_in_view(&found)?;
    let [ambient, diffuse, direction @ ..]: [f32; 5] = std::array::from_fn(|at| found.light.data()[at]);
    Ok(Truth {
        depth: found.depth.data().to_vec(),
        normals: normals(&found.depth, model.settings().camera())?.data().to_vec(),
        albedo: albedo.data().iter().map(|colour| 0.5 * (colour + 1.0)).collect(),
        mask: found.mask.data().iter().map(|seen| u8::from(*seen > 0.5)).collect(),
        light: Light { ambient, diffuse, direction },
        view: std::array::from_fn(|at| found.view.data()[at]),
        field_of_view: model.settings().field_of_view,
    })
}

impl<S: Source> Source for Taught<S> {
    fn describe(&self) -> String {
        self.source.describe()
    }

    fn warnings(&self) -> Vec<String> {
        self.source.warnings()
    }

    fn len(&self) -> u64 {
        self.source.len()
    }

    fn name(&self, index: u64) -> String {
        self.source.name(index)
    }

    fn object(&self, index: u64) -> Option<String> {
        self.source.object(index)
    }

    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        let sample = self.source.sample(index, size)?;
        let truth = answers(&self.teacher, &sample.image)
            .map_err(|error| SampleError { name: sample.name.clone(), reason: error.to_string() })?;
        Ok(Sample { truth: Some(truth), ..sample })
    }
}

#[cfg(test)]
mod tests {
    use relievo_synth::Heads;

    use super::*;

    fn teacher_of(size: usize) -> Model {
        Model::new(ModelSettings { image_size: size, ..ModelSettings::tiny() }, 3).unwrap()
    }

    #[test]
    fn the_truth_of_an_image_is_what_the_teacher_says() {
        let teacher = teacher_of(64);
        let sample = Taught::new(Heads::range(5, 0, 2), Arc::new(teacher_of(64))).sample(1, 64).unwrap();
        let images = Tensor::new(&sample.image.signed().collect::<Vec<_>>(), [1, 64, 64, 3]).unwrap();
        let found = teacher.predict(&images).unwrap();
        let truth = sample.truth.unwrap();
        assert_eq!(truth.depth, found.depth.data());
        assert_eq!(truth.view[..], *found.view.data());
        assert_eq!(truth.light.direction, found.light.data()[2..]);
        // The albedo under its light is the reconstruction: both are sampled at the same places.
        let lit = |pixel: usize| {
            let shading = found.image.data()[3 * pixel] + 1.0;
            shading / 2.0 / truth.albedo[3 * pixel]
        };
        let seen: Vec<f32> = (0..64 * 64).filter(|pixel| truth.mask[*pixel] == 1).map(lit).collect();
        let [ambient, diffuse] = [truth.light.ambient, truth.light.diffuse];
        assert!(seen.len() > 1000);
        let within = |shading: f32| (ambient - 0.02..=ambient + diffuse + 0.02).contains(&shading);
        let share = seen.iter().filter(|shading| within(**shading)).count() as f32 / seen.len() as f32;
        assert!(share > 0.99, "{share}");
    }

    #[test]
    fn a_teacher_that_does_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("teacher.safetensors");
        let refusal = |settings: ModelSettings| {
            std::fs::write(&path, Model::new(settings, 3).unwrap().to_safetensors().unwrap()).unwrap();
            teacher(&path, EmbeddedWeights::default(), &ModelSettings::tiny()).err().unwrap_or_default()
        };
        assert_eq!(refusal(ModelSettings::tiny()), "");
        assert!(refusal(ModelSettings { image_size: 128, ..ModelSettings::tiny() }).contains("128x128"));
        let depth = ModelSettings { supervision: Supervision::Depth, ..ModelSettings::tiny() };
        assert!(refusal(depth).contains("depth alone"));
    }
}
