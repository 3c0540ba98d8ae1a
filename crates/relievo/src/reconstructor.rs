//! From photographs to reconstructions.

use std::sync::Arc;

use relievo_data::{Image, Reservation, SampleError, reserve_memory};
use relievo_detect::{Detector, Face, FaceLocation, FaceSelection};
use relievo_model::{
    ComputeSettings, DeviceChoice, Model, ModelSettings, Prediction, Predictor, Supervision, continued_depth,
    refinement_steps,
};
use relievo_tensor::{Device, Tensor, pool_release};

use crate::batch::{Batch, ImageInput};
use crate::mesh::LEAST_TEXTURE;
use crate::quality::{Doubt, Quality};
use crate::weights::{Category, LoadedWeights, Weights};
use crate::{Error, Reconstruction, Result};

/// Images that go through the networks together, if nothing else is said.
const BATCH_SIZE: usize = 16;

/// How the object is found in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Framing {
    /// Faces are looked for if the model is one of human faces; other models take images as they are.
    #[default]
    Automatic,
    /// Faces are looked for; an error if the model is of something else.
    Faces,
    /// Images are taken as they are, cropped already: of one that is not square the middle.
    Whole,
}

/// The choices for a [`Reconstructor`], begun by [`Reconstructor::builder`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Builder {
    weights: Weights,
    compute: ComputeSettings,
    framing: Framing,
    faces: Option<FaceSelection>,
    refine: Option<u16>,
    batch_size: Option<usize>,
}

impl Builder {
    /// Which model; [`Weights::default`] if nothing is said.
    pub fn weights(mut self, weights: Weights) -> Self {
        self.weights = weights;
        self
    }

    /// Where the networks run; the CPU if nothing is said.
    pub fn device(mut self, device: Device) -> Self {
        self.compute.device = DeviceChoice::Only(device);
        self
    }

    /// Where the networks run, and in what precision.
    pub fn compute(mut self, compute: ComputeSettings) -> Self {
        self.compute = compute;
        self
    }

    /// How the object is found in an image.
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Which faces of a photograph; all of them if nothing is said.
    pub fn faces(mut self, faces: FaceSelection) -> Self {
        self.faces = Some(faces);
        self
    }

    /// Fits depth, albedo, light and viewpoint to each image in so many steps, about 2 ms each on two cores; 20 bring the
    /// reconstruction much closer to the image and are the default ([`relievo_model::refinement_steps`]; 50 for four and more images of one
    /// object), but for models of depth alone, which have nothing to refine. 0 gives the networks' own answer.
    pub fn refine(mut self, steps: u16) -> Self {
        self.refine = Some(steps);
        self
    }

    /// The most images that go through the networks together, at least 1; 16 if nothing is said.
    pub fn batch_size(mut self, images: usize) -> Self {
        self.batch_size = Some(images);
        self
    }

    /// Reads the weights and makes everything ready.
    ///
    /// # Errors
    /// If the weights cannot be used, the device is not there or out of memory, or faces are to be looked for and the
    /// model is of something else.
    pub fn build(self) -> Result<Reconstructor> {
        let LoadedWeights { mut model, category, origin } = self.weights.load()?;
        let looks_for_faces = match (self.framing, category) {
            (Framing::Faces, Category::HumanFaces) | (Framing::Automatic, Category::HumanFaces) => true,
            (Framing::Whole | Framing::Automatic, _) => false,
            (Framing::Faces, category) => return Err(Error::NoDetector { origin, category }),
        };
        self.compute.place(&mut model)?;
        let refine = match model.settings().supervision {
            Supervision::Depth => self.refine.or(Some(0)),
            _ => self.refine,
        };
        Ok(Reconstructor {
            settings: Arc::new(model.settings().clone()),
            model,
            category,
            origin,
            detector: looks_for_faces.then(Detector::new).transpose()?,
            faces: self.faces.unwrap_or(FaceSelection::All),
            refine,
            batch_size: self.batch_size.unwrap_or(BATCH_SIZE).max(1),
        })
    }
}

/// A model and a face detector, ready to reconstruct photographs. Share it among threads by reference: one call uses
/// all cores already.
pub struct Reconstructor {
    model: Model,
    settings: Arc<ModelSettings>,
    category: Category,
    origin: String,
    /// None if images are taken as they are.
    detector: Option<Detector>,
    faces: FaceSelection,
    /// Steps, if something is said.
    refine: Option<u16>,
    batch_size: usize,
}

/// What is cut out of a photograph, or the middle of a whole image.
pub(crate) struct Crop {
    /// Square, of 512 pixels at most (or the model's size, if that is more).
    pub image: Image,
    pub location: Option<FaceLocation>,
    /// What speaks against the result before there is one.
    pub doubts: Vec<Doubt>,
}

impl Reconstructor {
    /// The choices, all at their defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What the model's images show.
    pub fn category(&self) -> Category {
        self.category
    }

    /// Where the weights came from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether faces are looked for; otherwise images are taken as they are.
    pub fn looks_for_faces(&self) -> bool {
        self.detector.is_some()
    }

    /// The most images that go through the networks together.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Reconstructs the faces of a photograph, the largest first; at least one. If images are taken as they are, the
    /// one.
    ///
    /// # Errors
    /// [`Error::NoFace`] or [`Error::FaceCutOff`] if there is no face to reconstruct; if the device fails, or what the
    /// networks say is not finite.
    pub fn reconstruct(&self, image: &Image) -> Result<Vec<Reconstruction>> {
        let mut faces = Vec::new();
        let mut crops = self.crops(image)?.into_iter().peekable();
        while crops.peek().is_some() {
            let some: Vec<Crop> = crops.by_ref().take(self.batch_size).collect();
            faces.extend(self.reconstruct_crops(&some, None)?);
        }
        Ok(faces)
    }

    /// Reconstructs images that are cropped already, together: no faces are looked for, of an image that is not square
    /// the middle counts. One result for each.
    ///
    /// # Errors
    /// If an image has no pixels, the device fails, or what the networks say is not finite.
    pub fn reconstruct_framed(&self, images: &[Image]) -> Result<Vec<Reconstruction>> {
        let crops: Vec<Crop> = images.iter().map(|image| self.whole(image)).collect::<Result<_>>()?;
        let mut faces = Vec::with_capacity(crops.len());
        for some in crops.chunks(self.batch_size) {
            faces.extend(self.reconstruct_crops(some, None)?);
        }
        Ok(faces)
    }

    /// Reconstructs many images: decoded, searched and reconstructed on all cores, a batch in memory at a time. The
    /// iterator gives for each image, in order, its faces or an error of its own.
    ///
    /// An image is anything that turns into an [`ImageInput`]: an [`Image`], a path, or a closure that loads one. The
    /// work is done as results are asked for: whoever stops asking stops it.
    pub fn reconstruct_batch<'r, I>(&'r self, images: I) -> Batch<'r, I::IntoIter>
    where
        I: IntoIterator,
        I::Item: Into<ImageInput<'r>>,
    {
        Batch::new(self, images.into_iter())
    }

    /// What there is to reconstruct in an image, the largest face first; at least one.
    pub(crate) fn crops(&self, image: &Image) -> Result<Vec<Crop>> {
        let Some(detector) = &self.detector else { return Ok(vec![self.whole(image)?]) };
        check(image)?;
        let places = detector.places(image, self.faces, Face::level_frame)?;
        let Some(largest) = places.first() else { return Err(Error::NoFace) };
        let outside = largest.outside;
        let is_cut = largest.refusal().is_some();
        let usable = places.into_iter().filter(|place| place.refusal().is_none());
        let crops: Vec<Crop> = (usable.enumerate())
            .map(|(number, place)| {
                let doubts = [
                    (place.warning().is_some(), Doubt::Tight),
                    (is_cut && number == 0, Doubt::LargerFaceCut),
                ];
                let doubts = doubts.into_iter().filter_map(|(is_so, doubt)| is_so.then_some(doubt)).collect();
                Crop { image: place.crop.cut(image, self.crop_size()), location: Some(place), doubts }
            })
            .collect();
        if crops.is_empty() { Err(Error::FaceCutOff { outside }) } else { Ok(crops) }
    }

    /// The middle of an image that is taken as it is.
    fn whole(&self, image: &Image) -> Result<Crop> {
        check(image)?;
        let side = image.width.min(image.height).min(self.crop_size());
        Ok(Crop { image: image.square(side), location: None, doubts: Vec::new() })
    }

    /// The most rows and columns of a crop: as many as the textures made of it.
    fn crop_size(&self) -> u32 {
        LEAST_TEXTURE.max(self.settings.image_size) as u32
    }

    /// The memory in which the networks run on so many crops, or an error where the system would end the program. A GPU tells
    /// by itself.
    fn memory_for(&self, crops: usize) -> Result<Option<Reservation>> {
        if self.model.device() != Device::Cpu {
            return Ok(None);
        }
        let needed = self.settings.prediction_bytes(crops);
        let reserved = reserve_memory(needed, 0).or_else(|| {
            // Tensors of the search for faces may be all that stands in the way.
            pool_release();
            reserve_memory(needed, 0)
        });
        reserved.map(Some).ok_or(Error::OutOfMemory { needed })
    }

    /// Runs the networks on crops, at most a batch, through `predictor` if there is one, and refines their answer if
    /// that is asked for.
    pub(crate) fn reconstruct_crops(
        &self,
        crops: &[Crop],
        predictor: Option<&mut Predictor<'_>>,
    ) -> Result<Vec<Reconstruction>> {
        let Answer { images, prediction, qualities } = self.answer(crops, predictor)?;
        let steps = self.steps(1);
        let prediction = match steps {
            0 => prediction,
            steps => self.model.refine(&images, &prediction, steps.into())?,
        };
        self.reconstructions(crops, qualities, prediction, steps)
    }

    /// What crops that show one object say together; the error of each, and that of each alone.
    pub(crate) fn fuse(&self, crops: &[Crop]) -> Result<(Vec<Reconstruction>, Vec<[f32; 2]>)> {
        let Answer { images, prediction, qualities } = self.answer(crops, None)?;
        let steps = self.steps(crops.len());
        let found = self.model.refine_together(&images, &prediction, steps.into())?;
        let errors = found.errors.into_iter().zip(found.single_errors).map(|(error, single)| [error, single]);
        let errors = errors.collect();
        Ok((self.reconstructions(crops, qualities, found.prediction, steps)?, errors))
    }

    /// Steps of refinement for so many images of one object.
    fn steps(&self, images: usize) -> u16 {
        self.refine.unwrap_or_else(|| refinement_steps(images))
    }

    /// What the networks say of crops.
    fn answer(&self, crops: &[Crop], predictor: Option<&mut Predictor<'_>>) -> Result<Answer> {
        let _memory = self.memory_for(crops.len())?;
        let size = self.settings.image_size;
        let seen: Vec<Image> = crops.iter().map(|crop| crop.image.square(size as u32)).collect();
        let values: Vec<f32> = seen.iter().flat_map(Image::signed).collect();
        let images = Tensor::new(&values, [crops.len(), size, size, 3])?;
        let prediction = match predictor {
            Some(predictor) => predictor.predict(&images)?.fetch_all()?,
            None => self.model.predict(&images)?,
        };
        let quality = |number: usize| {
            let share = |tensor: &Tensor| {
                let elements = tensor.numel() / crops.len();
                number * elements..(number + 1) * elements
            };
            let reconstruction = &prediction.image.data()[share(&prediction.image)];
            let mask = &prediction.mask.data()[share(&prediction.mask)];
            let score = crops[number].location.map(|location| location.face.score);
            let mut quality = Quality::new(&seen[number], reconstruction, mask, score);
            quality.doubts.extend(&crops[number].doubts);
            quality
        };
        let qualities = (0..crops.len()).map(quality).collect();
        Ok(Answer { images, prediction, qualities })
    }

    /// A reconstruction of each crop of a batch.
    fn reconstructions(
        &self,
        crops: &[Crop],
        qualities: Vec<Quality>,
        mut prediction: Prediction,
        refined: u16,
    ) -> Result<Vec<Reconstruction>> {
        prediction.depth = continued_depth(&prediction.depth, &prediction.mask)?;
        let prediction = Arc::new(prediction);
        let reconstruction = |(number, (crop, quality)): (usize, (&Crop, Quality))| Reconstruction {
            settings: Arc::clone(&self.settings),
            prediction: Arc::clone(&prediction),
            number,
            crop: Arc::new(crop.image.clone()),
            others: Arc::default(),
            location: crop.location,
            refined,
            quality,
        };
        let faces: Vec<Reconstruction> =
            crops.iter().zip(qualities).enumerate().map(reconstruction).collect();
        if faces.iter().all(Reconstruction::is_finite) { Ok(faces) } else { Err(Error::NotFinite) }
    }
}

/// What the networks say of a batch.
struct Answer {
    /// The crops as they saw them, `[B,S,S,3]`.
    images: Tensor,
    prediction: Prediction,
    qualities: Vec<Quality>,
}

/// Refuses an image whose buffer is not what its size says: the fields are public.
fn check(image: &Image) -> Result<()> {
    let &Image { width, height, ref pixels } = image;
    let count = u64::from(width) * u64::from(height);
    if count == 0 || pixels.len() as u64 != 3 * count {
        let reason = format!("{width} x {height} pixels in {} bytes are no RGB image", pixels.len());
        return Err(SampleError { name: "the image".into(), reason }.into());
    }
    Ok(())
}
