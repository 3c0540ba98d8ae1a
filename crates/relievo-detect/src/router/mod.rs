//! What an image shows, and where: human faces, cats' faces, categories of one's own, or nothing known.
//!
//! A [`Router`] is one small fully convolutional network ([`FEATURES`] numbers for every eighth pixel of an image, and the
//! square around an object whose middle is there) and a list of categories, each a direction in the space of these
//! features. Objects of an octave of sizes are found in each image of a pyramid.
//!
//! The program's own categories are learned with the network ([`train`], [`calibrate`]); one of one's own is made from
//! some images that show it, without training ([`Router::prototype`]). Weights that learned from images for research only
//! are for research only: they are in the crate `relievo-weights-research`.
//!
//! ```
//! use relievo_data::Image;
//! use relievo_detect::router::Router;
//!
//! let router = Router::from_safetensors(&relievo_weights_research::ROUTER)?;
//! let grey = Image { width: 320, height: 240, pixels: vec![128; 320 * 240 * 3] };
//! let sure = |sighting: &&_| router.is_sure(sighting);
//! assert_eq!(router.look(&grey)?.iter().filter(sure).count(), 0);
//! # Ok::<(), relievo_detect::router::RouterError>(())
//! ```

mod backgrounds;
mod calibrate;
mod category;
mod degrade;
mod draws;
mod evaluate;
mod look;
mod material;
mod network;
mod scenes;
mod train;

use std::collections::HashMap;

use relievo_data::Image;
use relievo_tensor::safetensors::{Entry, ReadError, SafetensorsFile, quantise, serialize};

pub use calibrate::calibrate;
pub use category::{RouterCategory, View};
pub use evaluate::{Altered, Composed, Confusion, RouterEvaluation, evaluate};
pub use look::Sighting;
pub use material::{Material, MaterialError, RouterData};
pub use network::FEATURES;
pub use train::{RouterStep, RouterTraining, TrainError, Trained, train};

use self::category::Prototype;
use self::network::Network;

/// The name of the category of human faces.
pub const HUMAN_FACE: &str = "human-face";

/// The least number of images that a prototype is made from.
pub const LEAST_IMAGES: usize = 5;

/// The key of the categories in the file's metadata.
const CATEGORIES: &str = "categories";

/// The features of images to compare with, in the file.
const BANK: &str = "bank";

/// A router that cannot be read, or a category that does not fit it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouterError {
    /// No file of a router.
    #[error("not a readable router: {0}")]
    Read(#[from] ReadError),
    /// Categories that are not what they should be.
    #[error("not a readable router: its categories are damaged ({0})")]
    Categories(String),
    /// A category that does not fit the network.
    #[error("the category {name} does not fit this router: {reason}")]
    Category {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Too few images to make a category of.
    #[error("{found} images do not make a category; it takes {LEAST_IMAGES}")]
    TooFew {
        /// How many there are.
        found: usize,
    },
    /// An image without pixels.
    #[error("an image of {width} x {height} pixels shows nothing")]
    Empty {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The network failed.
    #[error(transparent)]
    Tensor(#[from] relievo_tensor::Error),
}

/// Says what images show, and where.
#[derive(Clone)]
pub struct Router {
    network: Network,
    categories: Vec<RouterCategory>,
    /// Features of images as wholes, to compare those of a new category with; each names the category that it shows, if one.
    bank: Vec<(Option<usize>, Vec<f32>)>,
    fingerprint: u32,
}

impl Router {
    /// From a file of [`Router::to_safetensors`].
    ///
    /// # Errors
    /// If it is none.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, RouterError> {
        let file = SafetensorsFile::open(bytes)?;
        let network = Network::read(&file)?;
        let categories = file.metadata(CATEGORIES).unwrap_or("[]");
        let categories: Vec<RouterCategory> =
            serde_json::from_str(categories).map_err(|error| RouterError::Categories(error.to_string()))?;
        let mut bank = Vec::new();
        for number in 0..=categories.len() {
            let (name, of) = bank_part(number, &categories);
            if file.has(&name) {
                let (values, shape) = file.numbers(&name)?;
                if shape.get(1) != Some(&FEATURES) {
                    return Err(RouterError::Categories(format!("{name} has the shape {shape:?}")));
                }
                bank.extend(values.chunks_exact(FEATURES).map(|row| (of, row.to_vec())));
            }
        }
        let router = Self { network, categories: Vec::new(), bank, fingerprint: crc32fast::hash(bytes) };
        router.with_categories(categories)
    }

    /// The file: weights in integers of 8 bits, the categories in its metadata.
    ///
    /// # Panics
    /// If there is more than one category of a name.
    pub fn to_safetensors(&self) -> Vec<u8> {
        let mut entries: Vec<Entry> = self.network.entries();
        for number in 0..=self.categories.len() {
            let (name, of) = bank_part(number, &self.categories);
            let rows: Vec<f32> =
                self.bank.iter().filter(|(shown, _)| *shown == of).flat_map(|(_, row)| row.clone()).collect();
            if !rows.is_empty() {
                entries.extend(quantise(&name, &[rows.len() / FEATURES, FEATURES], &rows));
            }
        }
        let categories = serde_json::to_string(&self.categories).expect("names and numbers");
        serialize(&entries, HashMap::from([(CATEGORIES.to_owned(), categories)]))
            .expect("tensors with names of their own")
    }

    /// With more categories, behind those that it has.
    ///
    /// # Errors
    /// If one does not fit the network, or has a name that is there already.
    pub fn with_categories(mut self, more: Vec<RouterCategory>) -> Result<Self, RouterError> {
        for category in more {
            let is_known = self.categories.iter().any(|known| known.name == category.name);
            let reason = category
                .defect()
                .or_else(|| is_known.then(|| "there is one of this name already".to_owned()));
            if let Some(reason) = reason {
                return Err(RouterError::Category { name: category.name, reason });
            }
            self.categories.push(category);
        }
        Ok(self)
    }

    /// The categories.
    pub fn categories(&self) -> &[RouterCategory] {
        &self.categories
    }

    /// A number that says which router it is: a prototype fits the one that it was made with.
    pub fn fingerprint(&self) -> u32 {
        self.fingerprint
    }

    /// What is seen in an upright image, the most certain first, also what is hardly certain. Of what overlaps there is the
    /// most certain. The result does not depend on the number of threads.
    ///
    /// # Errors
    /// If the image has no pixels.
    pub fn look(&self, image: &Image) -> Result<Vec<Sighting>, RouterError> {
        check(image)?;
        Ok(look::look(&self.network, &self.categories, image)?)
    }

    /// Whether a sighting is so certain that it counts.
    pub fn is_sure(&self, sighting: &Sighting) -> bool {
        sighting.certainty >= self.categories[sighting.category].threshold
    }

    /// A category made from images that show it, each as a whole as a model of them learns from, and how many of them
    /// are known by a prototype of the others.
    ///
    /// # Errors
    /// If there are fewer than [`LEAST_IMAGES`], or one has no pixels.
    pub fn prototype(
        &self,
        name: &str,
        model: &str,
        images: &[Image],
    ) -> Result<(RouterCategory, usize), RouterError> {
        if images.len() < LEAST_IMAGES {
            return Err(RouterError::TooFew { found: images.len() });
        }
        images.iter().try_for_each(check)?;
        let shown = look::whole(&self.network, images)?;
        let others: Vec<Vec<f32>> = self.bank.iter().map(|(_, row)| row.clone()).collect();
        let Prototype { weight, bias, recognised } = Prototype::new(&shown, &others);
        let category = RouterCategory {
            name: name.to_owned(),
            model: model.to_owned(),
            view: View::Whole,
            threshold: 0.5,
            images: images.len(),
            weight,
            bias,
        };
        Ok((category, recognised))
    }
}

/// The name of the part of the bank of images that show nothing known (0) or a category.
fn bank_part(number: usize, categories: &[RouterCategory]) -> (String, Option<usize>) {
    match number.checked_sub(1) {
        None => (format!("{BANK}.nothing"), None),
        Some(category) => (format!("{BANK}.{}", categories[category].name), Some(category)),
    }
}

fn check(image: &Image) -> Result<(), RouterError> {
    let &Image { width, height, .. } = image;
    if width == 0 || height == 0 { Err(RouterError::Empty { width, height }) } else { Ok(()) }
}
