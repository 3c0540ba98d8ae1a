//! Several photographs of one object.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use relievo_export::{Canvas, Sheet};

use crate::batch::ImageInput;
use crate::output::OutputOptions;
use crate::panel::stacked;
use crate::quality::Doubt;
use crate::reconstructor::Crop;
use crate::{Error, Reconstruction, Reconstructor, Result};

/// The most photographs of one object that are used: time and memory grow with them.
pub const MOST_TOGETHER: usize = 64;

/// Rows and columns of a photograph on the panel, and photographs in a row.
const TILE: usize = 128;
const IN_ROW: usize = 13;

/// A photograph whose error is by so much larger together with the others than alone shows something else; among N
/// photographs this times 1 - 1/N, since it has its share in what explains them all. Chosen on 16 synthetic heads: none of
/// four, or of two, photographs of one head is taken for another's; a stranger among four is found in 13 of 16 sets, one
/// beside a single photograph in 3 of 10. On photographs it is not measured.
const MOST_EXCESS: f32 = 0.164;

/// One object, as several photographs show it together.
#[derive(Debug)]
pub struct Together {
    /// The object: its depth and albedo fit all photographs, its mesh and renderings show their pixels. Light, viewpoint and
    /// brightness are those of the photograph that shows it most from the front.
    pub object: Reconstruction,
    /// The photographs that show it.
    pub photographs: Vec<Photograph>,
    /// The numbers of those that could not be used, and why.
    pub skipped: Vec<(usize, Error)>,
}

/// One of the photographs of an object.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Photograph {
    /// Its number among the images that were given, from 0.
    pub number: usize,
    /// The object under the light and from the viewpoint of this photograph. [`Doubt::AnotherObject`] is among the doubts of its
    /// quality if it does not fit the others.
    pub reconstruction: Reconstruction,
    /// Mean absolute difference between crop and reconstruction where the object is, of colours in \[-1,1\].
    pub error: f32,
    /// The same if it is reconstructed alone.
    pub single_error: f32,
}

impl Reconstructor {
    /// Reconstructs one object from photographs that all show it (of each the largest face counts): one depth and one albedo,
    /// and a light and a viewpoint for each photograph. With one photograph it is what [`Reconstructor::reconstruct`] gives.
    /// As many photographs are in memory as there are threads; no more are read once [`MOST_TOGETHER`] are usable.
    ///
    /// # Errors
    /// If none of the photographs can be used, the error of the first; if the device fails, or what the networks say is not
    /// finite.
    pub fn reconstruct_together<'r, I>(&'r self, images: I) -> Result<Together>
    where
        I: IntoIterator,
        I::Item: Into<ImageInput<'r>>,
    {
        let (mut numbers, mut crops, mut skipped) = (Vec::new(), Vec::<Crop>::new(), Vec::new());
        let mut images = images.into_iter().map(Into::into).enumerate().peekable();
        while crops.len() < MOST_TOGETHER && images.peek().is_some() {
            let room = (MOST_TOGETHER - crops.len()).min(rayon::current_num_threads());
            let some: Vec<(usize, ImageInput<'r>)> = images.by_ref().take(room).collect();
            let found: Vec<_> = some
                .into_par_iter()
                .map(|(number, input)| (number, input.load().map_err(Error::from)))
                .collect();
            for (number, image) in found {
                match image.and_then(|image| self.crops(&image)) {
                    Ok(found) if crops.first().is_some_and(|first| first.category != found[0].category) => {
                        skipped.push((number, Error::OtherCategory));
                    }
                    Ok(mut found) => {
                        numbers.push(number);
                        crops.push(found.swap_remove(0));
                    }
                    Err(error) => skipped.push((number, error)),
                }
            }
        }
        if crops.is_empty() {
            return Err(skipped.into_iter().next().map_or(Error::NoFace, |(_, error)| error));
        }
        let (faces, errors) = self.fuse(&crops)?;
        let straight = |face: &Reconstruction| -> f32 {
            face.viewpoint().rotation.iter().map(|angle| angle * angle).sum()
        };
        let main = (0..faces.len()).min_by(|&a, &b| straight(&faces[a]).total_cmp(&straight(&faces[b])));
        let main = main.unwrap_or_default();
        let is_other = |photograph: &&Reconstruction| photograph.number != main;
        let others: Vec<_> =
            faces.iter().filter(is_other).map(|face| (face.number, Arc::clone(&face.crop))).collect();
        let object = Reconstruction { others: others.into(), ..faces[main].clone() };
        let most_excess = MOST_EXCESS * (1.0 - 1.0 / faces.len() as f32);
        let photographs = faces.into_iter().zip(numbers).zip(errors);
        let photographs = photographs.map(|((mut reconstruction, number), [error, single_error])| {
            if error - single_error > most_excess {
                reconstruction.quality.doubts.push(Doubt::AnotherObject);
            }
            Photograph { number, reconstruction, error, single_error }
        });
        Ok(Together { object, photographs: photographs.collect(), skipped })
    }
}

impl Together {
    /// The panel of the object, and below it each photograph and its reconstruction.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn panel(&self) -> Result<Canvas> {
        let mut parts = vec![self.object.panel()?];
        if self.photographs.len() > 1 {
            let mut sheet = Sheet::new(TILE);
            for row in self.photographs.chunks(IN_ROW) {
                let faces = || row.iter().map(|photograph| &photograph.reconstruction);
                let input =
                    |face: &Reconstruction| Canvas::from_rgb8(&face.crop().square(TILE as u32).pixels, TILE);
                sheet.row("photographs", faces().map(input));
                sheet.row("as explained", faces().map(Reconstruction::draw_reconstruction));
            }
            parts.push(sheet.draw());
        }
        Ok(stacked(&parts))
    }

    /// Writes the object as [`Reconstruction::write`] does, with the panel and a record of all photographs. `names` are what
    /// the record calls the images that were given, in their order.
    ///
    /// # Errors
    /// If a file cannot be written; others may be there then.
    ///
    /// # Panics
    /// If there are fewer names than images.
    pub fn write(
        &self,
        folder: &Path,
        stem: &str,
        names: &[String],
        options: &OutputOptions,
    ) -> Result<Option<PathBuf>> {
        let main = self.photographs.iter().find(|one| one.reconstruction.number == self.object.number);
        let name = main.map_or("", |main| &names[main.number]);
        self.object.write_with(folder, stem, name, options, Some((self, names)))
    }
}
