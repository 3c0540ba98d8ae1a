//! Which weights an image wants: what is seen in it decides.

use std::sync::OnceLock;

use relievo_data::Image;
use relievo_detect::router::{HUMAN_FACE, Router, RouterCategory, Sighting, View};
use relievo_detect::{FaceLocation, Frame};
use relievo_model::ComputeSettings;
use serde::Serialize;

use crate::Result;
use crate::error::Error;
use crate::reconstructor::Pathway;
use crate::weights::Weights;

/// A face that the detector of human faces is less sure of may be another animal's, if the router says so.
const DOUBTFUL_FACE: f32 = 0.75;

/// A frame that overlaps a face's by more shows the same.
const SAME: f32 = 0.3;

/// Where an object was found that is no human face, and what reconstructed it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Route {
    /// The category: `cat-face`, or one of the user's own.
    pub category: String,
    /// How sure the router is, in \[0,1\].
    pub certainty: f32,
    /// Where the weights came from.
    pub weights: String,
    /// The square that was cut out of the photograph; `None` if the image was taken as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<Frame>,
}

/// The file of the router that is embedded (crate `relievo-weights-research`), if this build has it.
#[cfg(feature = "weights-research")]
static EMBEDDED_ROUTER: Option<&[u8]> = Some(&relievo_weights_research::ROUTER);
/// The file of the router that is embedded (crate `relievo-weights-research`), if this build has it.
#[cfg(not(feature = "weights-research"))]
static EMBEDDED_ROUTER: Option<&[u8]> = None;

/// The router of this build, if it has one (feature `weights-research`).
pub(crate) fn embedded() -> Result<Option<Router>> {
    Ok(EMBEDDED_ROUTER.map(Router::from_safetensors).transpose()?)
}

/// A router, and the models of its categories, each read when it is wanted first.
pub(crate) struct Routing {
    router: Router,
    pathways: Vec<OnceLock<Pathway>>,
    compute: ComputeSettings,
    refine: Option<u16>,
}

impl Routing {
    pub fn new(
        router: Router,
        own: Vec<RouterCategory>,
        compute: ComputeSettings,
        refine: Option<u16>,
    ) -> Result<Self> {
        let router = router.with_categories(own)?;
        let pathways = router.categories().iter().map(|_| OnceLock::new()).collect();
        Ok(Self { router, pathways, compute, refine })
    }

    /// The model of a category.
    pub fn pathway(&self, category: usize) -> Result<&Pathway> {
        if let Some(pathway) = self.pathways[category].get() {
            return Ok(pathway);
        }
        let model = &self.router.categories()[category].model;
        let weights = Weights::named(model).unwrap_or_else(|| Weights::File(model.into()));
        let pathway = Pathway::load(&weights, self.compute, self.refine)?;
        Ok(self.pathways[category].get_or_init(|| pathway))
    }

    pub fn category(&self, number: usize) -> &RouterCategory {
        &self.router.categories()[number]
    }

    /// What is seen in an image.
    pub fn look(&self, image: &Image) -> Result<Vec<Sighting>> {
        Ok(self.router.look(image)?)
    }

    fn is_human(&self, sighting: &Sighting) -> bool {
        self.category(sighting.category).name == HUMAN_FACE
    }

    /// Whether what the detector took for a human face might be something else, because it is hardly sure itself.
    pub fn doubts(&self, place: &FaceLocation) -> bool {
        place.face.score < DOUBTFUL_FACE
    }

    /// Whether what the detector took for a human face is surely something else: it is hardly sure itself, and at that place
    /// the router is sure of another category.
    pub fn denies(&self, place: &FaceLocation, sightings: &[Sighting]) -> bool {
        let overlaps = |sighting: &Sighting| sighting.frame.overlap(&place.crop) > SAME;
        let is_other = |sighting: &Sighting| {
            !self.is_human(sighting)
                && self.category(sighting.category).view == View::Places
                && self.router.is_sure(sighting)
        };
        self.doubts(place) && sightings.iter().any(|sighting| is_other(sighting) && overlaps(sighting))
    }

    /// The sightings of other categories than human faces that are sure, the largest first; those of whole images only where
    /// nothing else is.
    pub fn sure(&self, sightings: &[Sighting]) -> Vec<Sighting> {
        let of_view = |view: View| {
            let sure = sightings.iter().copied().filter(move |sighting| {
                self.category(sighting.category).view == view
                    && self.router.is_sure(sighting)
                    && !self.is_human(sighting)
            });
            sure.collect::<Vec<_>>()
        };
        let mut found = of_view(View::Places);
        found.sort_by(|a, b| b.frame.side.total_cmp(&a.frame.side));
        if found.is_empty() { of_view(View::Whole).into_iter().take(1).collect() } else { found }
    }

    /// Why an image is refused in which there is nothing to reconstruct.
    pub fn refusal(&self, sightings: &[Sighting]) -> Error {
        let nearest = sightings.iter().max_by(|a, b| a.certainty.total_cmp(&b.certainty));
        // A face whose landmarks the detector does not find: it may be a crop already.
        if nearest.is_some_and(|sighting| self.is_human(sighting) && self.router.is_sure(sighting)) {
            return Error::NoFace;
        }
        Error::NothingKnown {
            nearest: nearest
                .map(|sighting| (self.category(sighting.category).name.clone(), sighting.certainty)),
        }
    }
}
