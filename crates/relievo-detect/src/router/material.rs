//! The images that a router learns from and is measured on.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;
use relievo_data::{Holdout, Image, Images, OpenError, Sample, SampleError, Source, Split, SplitError};
use relievo_tensor::Tensor;

use super::HUMAN_FACE;
use crate::network::OUTPUTS;
use crate::{DetectError, Detector};

/// Rows and columns of crops in memory. Objects are pasted smaller, whatever size their files have.
const CROP: u32 = 64;

/// Rows and columns of other pictures in memory.
const THING: u32 = 96;

/// Share of crops held out.
const HELD_OUT: f64 = 0.1;

/// Share of pictures of other things and of photographs held out: there are fewer.
const HELD_OUT_THINGS: f64 = 0.25;

/// Where the images lie.
#[derive(Clone, Debug, Default)]
pub struct RouterData {
    /// Each category's name, and folders or archives of crops that show it.
    pub categories: Vec<(String, Vec<PathBuf>)>,
    /// Pictures of anything else. Names that differ behind the last `-` only are crops of one picture, which are on one side
    /// of the split.
    pub things: Vec<PathBuf>,
    /// Of those, names that hold one of these words are left out: they show a category.
    pub except: Vec<String>,
    /// Whole photographs, in which human faces may be.
    pub photographs: Vec<PathBuf>,
}

/// Images that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaterialError {
    /// A folder or an archive that cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An image that cannot be decoded.
    #[error(transparent)]
    Image(#[from] SampleError),
    /// Too few images.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The detector of human faces failed.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// There is nothing to tell categories from.
    #[error("{0} are needed to train a router, and there are none")]
    Missing(&'static str),
}

/// A crop or a picture, with its name.
pub(super) struct Named {
    pub name: String,
    pub image: Image,
}

/// A photograph, and the squares around its human faces: middle and side.
pub(super) struct Photograph {
    pub image: Image,
    pub faces: Vec<([f32; 2], f32)>,
}

/// One side of the split.
#[derive(Default)]
pub(super) struct Side {
    /// The crops of each category.
    pub crops: Vec<Vec<Named>>,
    /// Pictures of nothing known.
    pub things: Vec<Named>,
    /// The number of the picture that each of `things` is a crop of.
    pub pictures: Vec<usize>,
    pub photographs: Vec<Photograph>,
}

impl Side {
    /// How many pictures `things` are crops of.
    pub fn picture_count(&self) -> usize {
        self.pictures.iter().max().map_or(0, |most| most + 1)
    }
}

/// Images in memory, in two parts that share no picture.
pub struct Material {
    /// The names of the categories.
    pub categories: Vec<String>,
    /// Which of them are human faces, if one is.
    pub(super) human: Option<usize>,
    pub(super) train: Side,
    pub(super) held_out: Side,
    /// Pictures of things that were left out because they show a human face or were named.
    pub left_out: usize,
}

impl Material {
    /// Reads and decodes all images.
    ///
    /// # Errors
    /// If images cannot be read, or there are none of a kind.
    pub fn load(data: &RouterData) -> Result<Self, MaterialError> {
        let detector = Detector::new()?;
        let (mut train, mut held_out) = (Side::default(), Side::default());
        if data.categories.is_empty() {
            return Err(MaterialError::Missing("crops of a category"));
        }
        for (_, paths) in &data.categories {
            let split = Split::new(Arc::new(Images::open(paths)?), Holdout::Fraction(HELD_OUT))?;
            train.crops.push(decode(&split.train, CROP)?);
            held_out.crops.push(decode(&split.validation, CROP)?);
        }
        if data.things.is_empty() || data.photographs.is_empty() {
            return Err(MaterialError::Missing("pictures of other things and photographs"));
        }
        let mut left_out = 0;
        let things = Split::by_object(
            Arc::new(Pictures(Images::open(&data.things)?)),
            Holdout::Fraction(HELD_OUT_THINGS),
        )?;
        for (side, part) in [(&mut train, &things.train), (&mut held_out, &things.validation)] {
            let mut pictures = HashMap::new();
            for thing in decode(part, THING)? {
                let is_named = data.except.iter().any(|word| thing.name.contains(word));
                if is_named || shows_face(&detector, &thing.image)? {
                    left_out += 1;
                    continue;
                }
                let count = pictures.len();
                side.pictures.push(*pictures.entry(picture(&thing.name).to_owned()).or_insert(count));
                side.things.push(thing);
            }
        }
        let photographs = Images::open(&data.photographs)?;
        let whole = Split::new(Arc::new(photographs), Holdout::Fraction(HELD_OUT_THINGS))?;
        // The split knows squares only; the whole photographs are asked for by name.
        let photographs = Images::open(&data.photographs)?;
        let by_name: HashMap<String, u64> =
            (0..photographs.len()).map(|index| (photographs.name(index), index)).collect();
        for (side, part) in [(&mut train, &whole.train), (&mut held_out, &whole.validation)] {
            for index in 0..part.len() {
                let name = part.name(index);
                let image = photographs.image(by_name[&name])?;
                let faces = detector.faces(&image)?;
                let faces = faces.iter().map(|face| (face.frame().centre, face.frame().side)).collect();
                side.photographs.push(Photograph { image, faces });
            }
        }
        let categories: Vec<String> = data.categories.iter().map(|(name, _)| name.clone()).collect();
        let human = categories.iter().position(|name| name == HUMAN_FACE);
        Ok(Self { categories, human, train, held_out, left_out })
    }

    /// A line for each kind of images: how many to learn from, and how many held out.
    pub fn describe(&self) -> Vec<String> {
        let line =
            |name: &str, train: usize, held_out: usize| format!("{name}: {train} and {held_out} held out");
        let mut lines: Vec<String> =
            (self.categories.iter().zip(&self.train.crops).zip(&self.held_out.crops))
                .map(|((name, train), held_out)| line(name, train.len(), held_out.len()))
                .collect();
        lines.push(line("other things", self.train.things.len(), self.held_out.things.len()));
        lines.push(line("photographs", self.train.photographs.len(), self.held_out.photographs.len()));
        lines
    }
}

/// Rows and columns at which a picture of something else is searched for a human face.
const SEARCHED: u32 = 192;

/// Certainty, before the sigmoid, from which on it has one: about a third.
const FACE: f32 = -0.62;

/// Whether a picture may show a human face: one look of the network, without the second one that [`Detector::faces`] takes
/// at what it suspects. One too many left out does no harm.
fn shows_face(detector: &Detector, picture: &Image) -> Result<bool, DetectError> {
    let seen = picture.square(SEARCHED);
    let values: Vec<f32> = seen.pixels.iter().map(|byte| f32::from(*byte)).collect();
    let side = SEARCHED as usize;
    let output = detector.network_output(&Tensor::new(&values, [1, side, side, 3])?)?;
    let (places, _) = output.data().as_chunks::<OUTPUTS>();
    Ok(places.iter().any(|place| place[0] >= FACE))
}

fn decode(source: &dyn Source, size: u32) -> Result<Vec<Named>, SampleError> {
    let one = |index: u64| -> Result<Named, SampleError> {
        let Sample { name, image, .. } = source.sample(index, size)?;
        Ok(Named { name, image })
    };
    (0..source.len()).into_par_iter().map(one).collect()
}

/// The picture that a crop of this name was cut from: the name without the last `-` of the file's name and what is behind.
pub(super) fn picture(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((picture, behind)) if !behind.contains('/') => picture,
        _ => name,
    }
}

/// Images of which several are crops of one picture.
struct Pictures(Images);

impl Source for Pictures {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn len(&self) -> u64 {
        self.0.len()
    }

    fn name(&self, index: u64) -> String {
        self.0.name(index)
    }

    fn object(&self, index: u64) -> Option<String> {
        Some(picture(&self.0.name(index)).to_owned())
    }

    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        self.0.sample(index, size)
    }
}

#[cfg(test)]
pub(super) mod testing {
    use relievo_synth::Heads;
    use relievo_tensor::Random;

    use super::*;
    use crate::router::degrade::Patch;

    /// Sharp heads, soft heads of other people, and noise in colours as other things.
    pub fn material() -> Material {
        let heads = |seed: u64, blur: f32| -> Vec<Named> {
            let head = |index: u64| {
                let image = Heads::range(seed, 0, 40).sample(index, CROP).expect("a head is drawn").image;
                let noise = Random::new(seed, index);
                let mut patch = Patch::from_image(&image);
                for (at, value) in patch.values.iter_mut().enumerate() {
                    *value += 24.0 * (noise.uniform(at as u64) - 0.5);
                }
                Named { name: index.to_string(), image: patch.blurred(blur).image() }
            };
            (0..40).map(head).collect()
        };
        let thing = |index: u64| {
            let noise = Random::new(5, index);
            let pixels = (0..u64::from(THING * THING * 3)).map(|at| noise.bits(at / 40) as u8).collect();
            Named { name: format!("thing-{index}"), image: Image { width: THING, height: THING, pixels } }
        };
        let side = || Side {
            crops: vec![heads(1, 0.0), heads(2, 1.6)],
            things: (0..12).map(thing).collect(),
            pictures: (0..12).collect(),
            photographs: vec![Photograph {
                image: Image { width: 300, height: 200, pixels: vec![90; 300 * 200 * 3] },
                faces: Vec::new(),
            }],
        };
        Material {
            categories: vec![HUMAN_FACE.into(), "soft-face".into()],
            human: Some(0),
            train: side(),
            held_out: side(),
            left_out: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_of_one_picture_have_its_name() {
        assert_eq!(picture("things.tar/n01440764_tench-0.jpg"), "things.tar/n01440764_tench");
        assert_eq!(picture("cats-64px/12.jpg"), "cats-64px/12.jpg");
        assert_eq!(picture("a.jpg"), "a.jpg");
    }
}
