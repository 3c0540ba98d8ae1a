//! Many images, one after the other, with bounded memory.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use relievo_data::{Image, SampleError};
use relievo_model::Predictor;

use crate::reconstructor::Crop;
use crate::{Error, Reconstruction, Reconstructor, Result};

/// Loads an image when its turn comes, on any thread.
type Load<'a> = Box<dyn FnOnce() -> std::result::Result<Image, SampleError> + Send + 'a>;

/// An image to be reconstructed: there, or still to be loaded.
pub struct ImageInput<'a>(Load<'a>);

impl<'a> ImageInput<'a> {
    /// What loads the image when its turn comes, on any thread.
    pub fn from_loader(load: impl FnOnce() -> std::result::Result<Image, SampleError> + Send + 'a) -> Self {
        Self(Box::new(load))
    }

    /// Loads it.
    pub(crate) fn load(self) -> std::result::Result<Image, SampleError> {
        (self.0)()
    }
}

impl From<Image> for ImageInput<'_> {
    fn from(image: Image) -> Self {
        Self::from_loader(move || Ok(image))
    }
}

impl<'a> From<&'a Image> for ImageInput<'a> {
    fn from(image: &'a Image) -> Self {
        Self::from_loader(move || Ok(image.clone()))
    }
}

impl From<PathBuf> for ImageInput<'_> {
    fn from(path: PathBuf) -> Self {
        Self::from_loader(move || Image::open(path))
    }
}

impl<'a> From<&'a Path> for ImageInput<'a> {
    fn from(path: &'a Path) -> Self {
        Self::from_loader(move || Image::open(path))
    }
}

impl<'a> From<&'a str> for ImageInput<'a> {
    fn from(path: &'a str) -> Self {
        Self::from_loader(move || Image::open(path))
    }
}

/// What [`Reconstructor::reconstruct_batch`] gives: for each image, in order, its faces or an error of its own.
///
/// If memory does not suffice for a batch, halves of it are tried; what does not fit alone is an error of that image.
pub struct Batch<'r, I> {
    reconstructor: &'r Reconstructor,
    inputs: I,
    /// Made when it is needed first, for the model of a category; anew for another, or if the batch shrinks.
    predictor: Option<(Option<usize>, Predictor<'r>)>,
    /// Images that go through the networks together.
    batch_size: usize,
    done: u64,
    ready: VecDeque<Result<Vec<Reconstruction>>>,
    cancelled: Option<&'r AtomicBool>,
    progress: Option<Box<dyn FnMut(u64) + Send + 'r>>,
}

impl<'r, I> Batch<'r, I>
where
    I: Iterator,
    I::Item: Into<ImageInput<'r>>,
{
    pub(crate) fn new(reconstructor: &'r Reconstructor, inputs: I) -> Self {
        Self {
            reconstructor,
            inputs,
            predictor: None,
            batch_size: reconstructor.batch_size(),
            done: 0,
            ready: VecDeque::new(),
            cancelled: None,
            progress: None,
        }
    }

    /// Ends after the images at hand once this is true.
    #[must_use]
    pub fn cancelled_by(mut self, flag: &'r AtomicBool) -> Self {
        self.cancelled = Some(flag);
        self
    }

    /// Calls `report` with the number of images that are done, whenever some are.
    #[must_use]
    pub fn on_progress(mut self, report: impl FnMut(u64) + Send + 'r) -> Self {
        self.progress = Some(Box::new(report));
        self
    }

    /// Images that go through the networks together: less than was asked for if memory did not suffice.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// The results of the next images, as many as are computed together, so that what is done with them can be done
    /// side by side; `None` behind the last.
    pub fn next_group(&mut self) -> Option<Vec<Result<Vec<Reconstruction>>>> {
        if !self.ready.is_empty() {
            return Some(self.ready.drain(..).collect());
        }
        if self.cancelled.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return None;
        }
        let group = self.reconstructor.batch_size();
        let inputs: Vec<ImageInput<'r>> = self.inputs.by_ref().take(group).map(Into::into).collect();
        if inputs.is_empty() {
            return None;
        }
        let results = self.reconstruct(inputs);
        self.done += results.len() as u64;
        if let Some(report) = &mut self.progress {
            report(self.done);
        }
        Some(results)
    }

    fn reconstruct(&mut self, inputs: Vec<ImageInput<'r>>) -> Vec<Result<Vec<Reconstruction>>> {
        let mut crops = Vec::new();
        let mut results = Vec::with_capacity(inputs.len());
        // As many photographs in memory as there are threads to decode them; what is cut out of them is small.
        let mut inputs = inputs.into_iter().peekable();
        while inputs.peek().is_some() {
            let some: Vec<_> = inputs.by_ref().take(rayon::current_num_threads()).collect();
            let images: Vec<_> = some.into_par_iter().map(ImageInput::load).collect();
            for image in images {
                let found = image.map_err(Error::from).and_then(|image| self.reconstructor.crops(&image));
                let owner = results.len();
                results.push(found.map(|found| {
                    crops.extend(found.into_iter().map(|crop| (owner, crop)));
                    Vec::new()
                }));
            }
        }
        // Those of one model together; the sort is stable, so each image's stay in their order.
        crops.sort_by_key(|(_, crop)| crop.category);
        let (owners, crops): (Vec<usize>, Vec<Crop>) = crops.into_iter().unzip();
        let mut owners = owners.into_iter();
        let mut next = 0;
        while next < crops.len() {
            let is_other = |crop: &Crop| crop.category != crops[next].category;
            let end = crops.len().min(next + self.batch_size);
            let end = crops[next..end].iter().position(is_other).map_or(end, |at| next + at);
            let found = self.reconstruct_crops(&crops[next..end]);
            for (face, owner) in found.into_iter().zip(owners.by_ref()) {
                // The first of an image's errors stays.
                if let Ok(faces) = &mut results[owner] {
                    match face {
                        Ok(face) => faces.push(face),
                        Err(error) => results[owner] = Err(error),
                    }
                }
            }
            next = end;
        }
        results
    }

    /// A result for each crop. What does not go together is tried by halves.
    fn reconstruct_crops(&mut self, crops: &[Crop]) -> Vec<Result<Reconstruction>> {
        let together = self
            .predictor(crops)
            .and_then(|(reconstructor, predictor)| reconstructor.reconstruct_crops(crops, Some(predictor)));
        match together {
            Ok(faces) => faces.into_iter().map(Ok).collect(),
            Err(error) => {
                if error.is_out_of_memory() && self.batch_size > 1 {
                    self.predictor = None;
                    self.batch_size = self.batch_size.min(crops.len()).div_ceil(2);
                }
                if crops.len() == 1 {
                    return vec![Err(error)];
                }
                let (first, second) = crops.split_at(crops.len().div_ceil(2));
                let mut results = self.reconstruct_crops(first);
                results.extend(self.reconstruct_crops(second));
                results
            }
        }
    }

    /// The predictor of the model that crops go to. Images of several categories in turn make it anew for each.
    fn predictor(&mut self, crops: &[Crop]) -> Result<(&'r Reconstructor, &mut Predictor<'r>)> {
        let reconstructor = self.reconstructor;
        let category = crops.first().and_then(|crop| crop.category);
        let predictor = match self.predictor.take() {
            Some((of, predictor)) if of == category => predictor,
            _ => Predictor::new(&reconstructor.pathway_of(crops)?.model, self.batch_size)?,
        };
        let (_, predictor) = self.predictor.insert((category, predictor));
        Ok((reconstructor, predictor))
    }
}

impl<'r, I> Iterator for Batch<'r, I>
where
    I: Iterator,
    I::Item: Into<ImageInput<'r>>,
{
    type Item = Result<Vec<Reconstruction>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            self.ready = self.next_group()?.into();
        }
        self.ready.pop_front()
    }
}
