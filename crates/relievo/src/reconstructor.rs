//! From photographs to reconstructions.

use std::sync::Arc;

use relievo_data::{Image, Reservation, SampleError, reserve_memory};
use relievo_detect::router::{RouterCategory, Sighting, View};
use relievo_detect::{Detector, Face, FaceLocation, FaceSelection, MOST_OUTSIDE};
use relievo_model::{
    ComputeSettings, DeviceChoice, Model, ModelError, ModelSettings, Prediction, Predictor, Supervision,
    continued_depth, refinement_steps,
};
use relievo_tensor::{Device, Tensor, pool_release};

use crate::batch::{Batch, ImageInput};
use crate::mesh::LEAST_TEXTURE;
use crate::quality::{Doubt, Quality};
use crate::routing::{self, Route, Routing};
use crate::weights::{Category, LoadedWeights, Weights};
use crate::{Error, Reconstruction, Result};

/// Images that go through the networks together, if nothing else is said.
const BATCH_SIZE: usize = 16;

/// How the object is found in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Framing {
    /// Faces are looked for if the model is one of human faces; other models take images as they are. Where no model is named,
    /// what is seen in an image decides.
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
    /// None leaves the choice to the router.
    weights: Option<Weights>,
    categories: Vec<RouterCategory>,
    compute: ComputeSettings,
    framing: Framing,
    faces: Option<FaceSelection>,
    refine: Option<u16>,
    batch_size: Option<usize>,
}

impl Builder {
    /// Which model, for all images. If nothing is said, what is seen in an image decides: human faces go to
    /// [`Weights::default`], cats' faces to [`Weights::Cats`], and images of [`Builder::categories`] to their models. That
    /// needs the feature `weights-research`, which embeds the router; without it only human faces are known.
    pub fn weights(mut self, weights: Weights) -> Self {
        self.weights = Some(weights);
        self
    }

    /// Categories of the user's own ([`Categories::own`](crate::Categories::own)), for images of which no model is named.
    pub fn categories(mut self, categories: Vec<RouterCategory>) -> Self {
        self.categories = categories;
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

    /// Reads the weights and makes everything ready. Weights of other categories than human faces are read when an image
    /// shows one.
    ///
    /// # Errors
    /// If the weights cannot be used, the device is not there or out of memory, faces are to be looked for and the model is
    /// of something else, or a category does not fit the router.
    pub fn build(self) -> Result<Reconstructor> {
        let weights = self.weights.clone().unwrap_or_default();
        let pathway = Pathway::load(&weights, self.compute, self.refine)?;
        let looks_for_faces = match (self.framing, pathway.category) {
            (Framing::Faces, Category::HumanFaces) | (Framing::Automatic, Category::HumanFaces) => true,
            (Framing::Whole | Framing::Automatic, _) => false,
            (Framing::Faces, category) => {
                return Err(Error::NoDetector { origin: pathway.origin, category });
            }
        };
        let routes = self.weights.is_none() && self.framing == Framing::Automatic;
        let router = if routes { routing::embedded()? } else { None };
        let routing = router.map(|router| Routing::new(router, self.categories, self.compute, self.refine));
        Ok(Reconstructor {
            pathway,
            routing: routing.transpose()?,
            detector: looks_for_faces.then(Detector::new).transpose()?,
            faces: self.faces.unwrap_or(FaceSelection::All),
            batch_size: self.batch_size.unwrap_or(BATCH_SIZE).max(1),
        })
    }
}

/// A model and how it is used.
pub(crate) struct Pathway {
    pub model: Model,
    settings: Arc<ModelSettings>,
    category: Category,
    origin: String,
    /// Steps of refinement, if something is said.
    refine: Option<u16>,
}

impl Pathway {
    /// Reads weights. Without a number of steps it refines as much as is usual for the model.
    pub fn load(weights: &Weights, compute: ComputeSettings, refine: Option<u16>) -> Result<Self> {
        let LoadedWeights { mut model, category, origin } = weights.load()?;
        compute.place(&mut model)?;
        let refine = match model.settings().supervision {
            Supervision::Depth => refine.or(Some(0)),
            _ => refine,
        };
        let settings = Arc::new(model.settings().clone());
        Ok(Self { settings, model, category, origin, refine })
    }

    /// Steps of refinement for so many images of one object.
    fn steps(&self, images: usize) -> u16 {
        self.refine.unwrap_or_else(|| refinement_steps(images))
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
}

/// Models, a face detector and perhaps a router, ready to reconstruct photographs. Share it among threads by reference: one
/// call uses all cores already.
pub struct Reconstructor {
    pathway: Pathway,
    /// None if all images go to one model.
    routing: Option<Routing>,
    /// None if images are taken as they are.
    detector: Option<Detector>,
    faces: FaceSelection,
    batch_size: usize,
}

/// What is cut out of a photograph, or the middle of a whole image.
pub(crate) struct Crop {
    /// The category of the router whose model it goes to; `None` for the one of the reconstructor.
    pub category: Option<usize>,
    /// How it was found by the router, if so.
    pub route: Option<Route>,
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

    /// The model; that of human faces if what is seen in an image decides.
    pub fn model(&self) -> &Model {
        &self.pathway.model
    }

    /// What the model's images show.
    pub fn category(&self) -> Category {
        self.pathway.category
    }

    /// Where the weights came from.
    pub fn origin(&self) -> &str {
        &self.pathway.origin
    }

    /// Whether what is seen in an image decides which weights it goes to.
    pub fn routes(&self) -> bool {
        self.routing.is_some()
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
    /// one. If what is seen decides, objects of other categories follow human faces.
    ///
    /// # Errors
    /// [`Error::NoFace`], [`Error::NothingKnown`] or [`Error::FaceCutOff`] if there is nothing to reconstruct; if the device
    /// fails, or what the networks say is not finite.
    pub fn reconstruct(&self, image: &Image) -> Result<Vec<Reconstruction>> {
        let mut faces = Vec::new();
        let crops = self.crops(image)?;
        for of_one_model in crops.chunk_by(|a, b| a.category == b.category) {
            for some in of_one_model.chunks(self.batch_size) {
                faces.extend(self.reconstruct_crops(some, None)?);
            }
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

    /// What there is to reconstruct in an image, the largest face first; at least one. Crops of one model stand together.
    pub(crate) fn crops(&self, image: &Image) -> Result<Vec<Crop>> {
        let Some(detector) = &self.detector else { return Ok(vec![self.whole(image)?]) };
        check(image)?;
        let find = || detector.places(image, self.faces, Face::level_frame);
        let Some(routing) = &self.routing else { return self.face_crops(image, find()?) };
        let (mut places, sightings) = if self.faces == FaceSelection::Largest {
            // A face that nothing could put in doubt is all that is wanted: then the router need not look.
            let places = find()?;
            let is_enough = |place: &FaceLocation| place.refusal().is_none() && !routing.doubts(place);
            if !places.is_empty() && places.iter().all(is_enough) {
                return self.face_crops(image, places);
            }
            (places, routing.look(image)?)
        } else {
            // Side by side: neither keeps all cores busy.
            let (places, sightings) = rayon::join(find, || routing.look(image));
            (places?, sightings?)
        };
        if places.iter().any(|place| routing.denies(place, &sightings)) {
            places = detector.places(image, FaceSelection::All, Face::level_frame)?;
            places.retain(|place| !routing.denies(place, &sightings));
        }
        let mut crops = match self.face_crops(image, places) {
            Ok(mut crops) => {
                if self.faces == FaceSelection::Largest {
                    crops.truncate(1);
                    return Ok(crops);
                }
                crops
            }
            // What else is there decides.
            Err(Error::NoFace) => Vec::new(),
            Err(error) if routing.sure(&sightings).is_empty() => return Err(error),
            Err(_) => Vec::new(),
        };
        let mut others = routing.sure(&sightings);
        // Beside human faces, an image as a whole shows nothing else.
        others
            .retain(|sighting| crops.is_empty() || routing.category(sighting.category).view == View::Places);
        if self.faces == FaceSelection::Largest {
            others.truncate(1);
        }
        others.sort_by_key(|sighting| sighting.category);
        for sighting in others {
            crops.push(self.routed_crop(image, routing, sighting.category, &sighting)?);
        }
        if crops.is_empty() { Err(routing.refusal(&sightings)) } else { Ok(crops) }
    }

    /// The crops of human faces that can be used; at least one.
    fn face_crops(&self, image: &Image, places: Vec<FaceLocation>) -> Result<Vec<Crop>> {
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
                let cut = place.crop.cut(image, self.crop_size());
                Crop { category: None, route: None, image: cut, location: Some(place), doubts }
            })
            .collect();
        if crops.is_empty() { Err(Error::FaceCutOff { outside }) } else { Ok(crops) }
    }

    /// The crop of something that the router found.
    fn routed_crop(
        &self,
        image: &Image,
        routing: &Routing,
        category: usize,
        sighting: &Sighting,
    ) -> Result<Crop> {
        let pathway = routing.pathway(category)?;
        let size = pathway.crop_size();
        let &RouterCategory { ref name, view, .. } = routing.category(category);
        let frame = (view == View::Places).then_some(sighting.frame);
        let outside = frame.map_or(0.0, |frame| frame.outside(image.width, image.height));
        let cut = match frame {
            Some(frame) => frame.cut(image, size),
            None => image.square(image.width.min(image.height).min(size)),
        };
        let route = Route {
            category: name.clone(),
            certainty: sighting.certainty,
            weights: pathway.origin.clone(),
            crop: frame,
        };
        let doubts = if outside > MOST_OUTSIDE { vec![Doubt::Tight] } else { Vec::new() };
        Ok(Crop { category: Some(category), route: Some(route), image: cut, location: None, doubts })
    }

    /// The middle of an image that is taken as it is.
    fn whole(&self, image: &Image) -> Result<Crop> {
        check(image)?;
        let side = image.width.min(image.height).min(self.crop_size());
        Ok(Crop {
            category: None,
            route: None,
            image: image.square(side),
            location: None,
            doubts: Vec::new(),
        })
    }

    /// The most rows and columns of a crop of a face: as many as the textures made of it.
    fn crop_size(&self) -> u32 {
        self.pathway.crop_size()
    }

    /// What reconstructs crops, all of one model.
    pub(crate) fn pathway_of(&self, crops: &[Crop]) -> Result<&Pathway> {
        match (&self.routing, crops.first().and_then(|crop| crop.category)) {
            (Some(routing), Some(category)) => routing.pathway(category),
            _ => Ok(&self.pathway),
        }
    }

    /// Runs the networks of one model on crops, at most a batch, through `predictor` if there is one, and refines their
    /// answer if that is asked for.
    pub(crate) fn reconstruct_crops(
        &self,
        crops: &[Crop],
        predictor: Option<&mut Predictor<'_>>,
    ) -> Result<Vec<Reconstruction>> {
        let pathway = self.pathway_of(crops)?;
        let Answer { images, prediction, qualities } = pathway.answer(crops, |images| match predictor {
            Some(predictor) => Ok(predictor.predict(images)?.fetch_all()?),
            None => pathway.model.predict(images),
        })?;
        let steps = pathway.steps(1);
        let prediction = match steps {
            0 => prediction,
            steps => pathway.model.refine(&images, &prediction, steps.into())?,
        };
        pathway.reconstructions(crops, qualities, prediction, steps)
    }

    /// What crops that show one object, and so go to one model, say together; the error of each, and that of each alone.
    pub(crate) fn fuse(&self, crops: &[Crop]) -> Result<(Vec<Reconstruction>, Vec<[f32; 2]>)> {
        let pathway = self.pathway_of(crops)?;
        let Answer { images, prediction, qualities } =
            pathway.answer(crops, |images| pathway.model.predict_with_confidence(images))?;
        let steps = pathway.steps(crops.len());
        let found = pathway.model.refine_together(&images, &prediction, steps.into())?;
        let alone = match crops.len() {
            1 => found.errors.clone(),
            _ => pathway.model.errors_alone(&images, &prediction, steps.into())?,
        };
        let errors = found.errors.into_iter().zip(alone).map(|(error, alone)| [error, alone]).collect();
        Ok((pathway.reconstructions(crops, qualities, found.prediction, steps)?, errors))
    }
}

impl Pathway {
    /// What the networks say of crops, asked by `predict`.
    fn answer(
        &self,
        crops: &[Crop],
        predict: impl FnOnce(&Tensor) -> std::result::Result<Prediction, ModelError>,
    ) -> Result<Answer> {
        let _memory = self.memory_for(crops.len())?;
        let size = self.settings.image_size;
        let seen: Vec<Image> = crops.iter().map(|crop| crop.image.square(size as u32)).collect();
        let values: Vec<f32> = seen.iter().flat_map(Image::signed).collect();
        let images = Tensor::new(&values, [crops.len(), size, size, 3])?;
        let prediction = predict(&images)?;
        let quality = |number: usize| {
            let share = |tensor: &Tensor| {
                let elements = tensor.numel() / crops.len();
                number * elements..(number + 1) * elements
            };
            let reconstruction = &prediction.image.data()[share(&prediction.image)];
            let mask = &prediction.mask.data()[share(&prediction.mask)];
            let crop = &crops[number];
            let score = crop.location.map(|location| location.face.score);
            let score = score.or(crop.route.as_ref().map(|route| route.certainty));
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
            route: crop.route.clone(),
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
