//! How well a router does on images that it has not learned from.

use rayon::prelude::*;
use relievo_data::Image;
use relievo_tensor::Random;

use super::backgrounds;
use super::calibrate::is_for_calibration;
use super::degrade::{Patch, degrade};
use super::draws::Draws;
use super::material::{Material, Named};
use super::scenes::{Label, Placed, Scene, paste};
use super::{Router, RouterError};

/// Rows and columns of a composed photograph.
const PHOTOGRAPH: usize = 480;

/// Composed photographs for each category.
const PHOTOGRAPHS: u64 = 150;

/// Sides of objects in them, as shares of the photograph's side.
const SHARES: [f32; 2] = [0.1, 0.6];

/// A frame is found by one that overlaps it by so much.
const FOUND: f32 = 0.5;

/// Training scenes whose sharpness is measured.
const SCENES: u64 = 200;

/// What images of each kind were taken for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Confusion {
    /// The categories' names.
    pub categories: Vec<String>,
    /// For each category, and last for other things: how many images were taken for each category, and last for nothing
    /// known.
    pub counts: Vec<Vec<usize>>,
    /// The mean difference between certainty and the share of images that show the category, over ten bins of certainty, with
    /// images of each kind weighing alike.
    pub calibration_error: Vec<f32>,
    /// The threshold of each category.
    pub thresholds: Vec<f32>,
}

impl Confusion {
    /// The share of images of kind `row` that were taken for `column`.
    pub fn share(&self, row: usize, column: usize) -> f32 {
        self.counts[row][column] as f32 / self.counts[row].iter().sum::<usize>().max(1) as f32
    }
}

/// Objects of a category in photographs composed of crops and backgrounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Composed {
    /// Objects.
    pub objects: usize,
    /// Of those, found with an overlap (intersection over union) of at least a half.
    pub found: usize,
    /// Their mean overlap.
    pub overlap: f32,
    /// What was taken for one where none is.
    pub false_alarms: usize,
    /// Photographs.
    pub photographs: usize,
}

/// Images that were altered.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Altered {
    /// How.
    pub how: &'static str,
    /// Images.
    pub images: usize,
    /// Of those, taken for another category than before.
    pub changed: usize,
    /// Taken for nothing known any more.
    pub lost: usize,
}

/// What [`evaluate`] measures.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RouterEvaluation {
    /// Crops and pictures.
    pub confusion: Confusion,
    /// For each category.
    pub composed: Vec<Composed>,
    /// What blur, size and storage do.
    pub altered: Vec<Altered>,
    /// The share of pairs of crops of the first two categories that sharpness alone orders, of the files and in training
    /// scenes; a half says nothing.
    pub sharpness: [f32; 2],
}

/// Measures a router on the held out images that its thresholds were not chosen on.
///
/// # Errors
/// If the engine fails.
pub fn evaluate(router: &Router, material: &Material) -> Result<RouterEvaluation, RouterError> {
    let test = |images: &'_ [Named]| -> Vec<Image> {
        images.iter().filter(|one| !is_for_calibration(&one.name)).map(|one| one.image.clone()).collect()
    };
    let mut kinds: Vec<Vec<Image>> = material.held_out.crops.iter().map(|crops| test(crops)).collect();
    kinds.push(test(&material.held_out.things));
    let composed = (0..material.categories.len()).map(|category| composed(router, material, category));
    Ok(RouterEvaluation {
        confusion: confusion(router, &kinds)?,
        composed: composed.collect::<Result<_, _>>()?,
        altered: altered(router, &kinds[..kinds.len() - 1])?,
        sharpness: sharpness(material),
    })
}

impl Router {
    /// The number of the category that an image shows, or that of categories for nothing known.
    fn taken_for(&self, image: &Image) -> Result<usize, RouterError> {
        let sure = self.look(image)?.into_iter().find(|sighting| self.is_sure(sighting));
        Ok(sure.map_or(self.categories.len(), |sighting| sighting.category))
    }
}

fn confusion(router: &Router, kinds: &[Vec<Image>]) -> Result<Confusion, RouterError> {
    let categories = router.categories();
    let mut counts = vec![vec![0; categories.len() + 1]; kinds.len()];
    // For each category and bin: weights, certainties, and those of images that show it.
    let mut bins = vec![[[0.0_f32; 3]; 10]; categories.len()];
    for (kind, (images, counts)) in kinds.iter().zip(&mut counts).enumerate() {
        for image in images {
            counts[router.taken_for(image)?] += 1;
            for (number, (odds, bins)) in router.odds(image)?.into_iter().zip(&mut bins).enumerate() {
                let certainty = 1.0 / (1.0 + (-odds).exp());
                let share = if number == kind { 1.0 } else { 1.0 / (kinds.len() - 1) as f32 };
                let weight = share / images.len() as f32;
                let bin = &mut bins[((10.0 * certainty) as usize).min(9)];
                bin[0] += weight;
                bin[1] += weight * certainty;
                bin[2] += if number == kind { weight } else { 0.0 };
            }
        }
    }
    let error = |bins: &[[f32; 3]; 10]| {
        let all: f32 = bins.iter().map(|bin| bin[0]).sum();
        bins.iter().map(|bin| (bin[1] - bin[2]).abs()).sum::<f32>() / all.max(f32::MIN_POSITIVE)
    };
    Ok(Confusion {
        categories: categories.iter().map(|category| category.name.clone()).collect(),
        counts,
        calibration_error: bins.iter().map(error).collect(),
        thresholds: categories.iter().map(|category| category.threshold).collect(),
    })
}

/// A photograph with one to three crops of a category on a background that was not learned from.
fn compose(material: &Material, category: usize, number: u64) -> Scene {
    let mut draws = Draws::new(Random::new(77 + category as u64, number));
    let side = &material.held_out;
    let size = PHOTOGRAPH as u32;
    let empty = |patch| Scene { patch, placed: Vec::new() };
    let mut scene = match draws.below(3) {
        0 if !side.photographs.is_empty() => {
            let photograph = &side.photographs[draws.below(side.photographs.len())];
            let image = &photograph.image;
            let (width, height) = (image.width as f32, image.height as f32);
            let scale = PHOTOGRAPH as f32 / width.min(height);
            let place = |at: f32, extent: f32| (at - extent / 2.0) * scale + PHOTOGRAPH as f32 / 2.0;
            let placed = photograph.faces.iter().map(|([x, y], side)| Placed {
                label: Label::Unclear,
                centre: [place(*x, width), place(*y, height)],
                side: side * scale,
            });
            Scene { patch: Patch::from_image(&image.square(size)), placed: placed.collect() }
        }
        1 if !side.things.is_empty() => {
            empty(Patch::from_image(&side.things[draws.below(side.things.len())].image.square(size)))
        }
        _ => empty(backgrounds::synthetic(PHOTOGRAPH, &mut draws)),
    };
    let crops: Vec<&Named> =
        side.crops[category].iter().filter(|crop| !is_for_calibration(&crop.name)).collect();
    let wanted = 1 + draws.below(3);
    for _ in 0..4 * wanted {
        let there = scene.placed.iter().filter(|placed| placed.label != Label::Unclear).count();
        if there < wanted && !crops.is_empty() {
            let length = draws.factor(SHARES.map(|share| share * PHOTOGRAPH as f32));
            let crop = &crops[draws.below(crops.len())].image;
            paste(&mut scene, crop, Label::Category(category), length, &mut draws);
        }
    }
    scene.patch = degrade(scene.patch, &mut draws);
    scene
}

fn composed(router: &Router, material: &Material, category: usize) -> Result<Composed, RouterError> {
    let one = |number: u64| -> Result<Composed, RouterError> {
        let scene = compose(material, category, number);
        let sightings = router.look(&scene.patch.image())?;
        let seen: Vec<_> = (sightings.iter())
            .filter(|sighting| sighting.category == category && router.is_sure(sighting))
            .map(|sighting| sighting.frame.area())
            .collect();
        let mut found = Composed { photographs: 1, ..Composed::default() };
        for placed in &scene.placed {
            if placed.label == Label::Unclear {
                continue;
            }
            let overlaps = seen.iter().map(|area| area.overlap(&placed.area()));
            let best = overlaps.fold(0.0, f32::max);
            found.objects += 1;
            found.found += usize::from(best >= FOUND);
            found.overlap += best;
        }
        let near = |area: &crate::Area| scene.placed.iter().any(|placed| area.overlap(&placed.area()) > 0.1);
        found.false_alarms = seen.iter().filter(|area| !near(area)).count();
        Ok(found)
    };
    let all: Vec<Composed> = (0..PHOTOGRAPHS).into_par_iter().map(one).collect::<Result<_, _>>()?;
    let mut sum = all.into_iter().fold(Composed::default(), |sum, one| Composed {
        objects: sum.objects + one.objects,
        found: sum.found + one.found,
        overlap: sum.overlap + one.overlap,
        false_alarms: sum.false_alarms + one.false_alarms,
        photographs: sum.photographs + one.photographs,
    });
    sum.overlap /= sum.objects.max(1) as f32;
    Ok(sum)
}

/// Alterations, and what they are called.
type Alteration = (&'static str, fn(&Patch) -> Patch);

const ALTERATIONS: [Alteration; 5] = [
    ("blurred by 1.5 pixels", |patch| patch.blurred(1.5)),
    ("shrunk to 32 pixels", |patch| patch.through_size(32)),
    ("JPEG of quality 30", |patch| patch.through_jpeg(30)),
    ("as soft as the softest of ten", |patch| patch.clone().no_sharper_than(5.0)),
    ("sharpened", |patch| {
        let soft = patch.blurred(1.0);
        let values =
            patch.values.iter().zip(&soft.values).map(|(value, soft)| (2.0 * value - soft).clamp(0.0, 255.0));
        Patch { side: patch.side, values: values.collect() }
    }),
];

fn altered(router: &Router, kinds: &[Vec<Image>]) -> Result<Vec<Altered>, RouterError> {
    let mut all: Vec<Altered> =
        ALTERATIONS.iter().map(|(how, _)| Altered { how, images: 0, changed: 0, lost: 0 }).collect();
    // A few hundred of each kind tell.
    for image in kinds.iter().flat_map(|images| images.iter().take(400)) {
        let before = router.taken_for(image)?;
        if before == router.categories().len() {
            continue;
        }
        for ((_, alter), counts) in ALTERATIONS.iter().zip(&mut all) {
            let after = router.taken_for(&alter(&Patch::from_image(image)).image())?;
            counts.images += 1;
            counts.lost += usize::from(after == router.categories().len());
            counts.changed += usize::from(after != before && after != router.categories().len());
        }
    }
    Ok(all)
}

/// See [`RouterEvaluation::sharpness`].
pub(super) fn sharpness(material: &Material) -> [f32; 2] {
    let crops = |category: usize| -> Vec<f32> {
        let Some(crops) = material.train.crops.get(category) else { return Vec::new() };
        let count = crops.len().min(500);
        let chosen = (0..count).map(|at| &crops[at * crops.len() / count].image);
        chosen.map(|image| Patch::from_image(&image.square(40)).sharpness()).collect()
    };
    let scenes: Vec<Scene> =
        (0..SCENES).into_par_iter().map(|number| Scene::compose(material, 5, number)).collect();
    let objects = |category: usize| -> Vec<f32> {
        let placed = scenes.iter().flat_map(|scene| scene.placed.iter().map(move |placed| (scene, placed)));
        placed
            .filter(|(_, placed)| placed.label == Label::Category(category))
            .map(|(scene, placed)| scene.patch.window(placed.centre, 0.7 * placed.side).sharpness())
            .collect()
    };
    [separation(&crops(0), &crops(1)), separation(&objects(0), &objects(1))]
}

/// The share of pairs of numbers of two kinds that a threshold orders, whichever way is better: 1 if one tells them apart.
fn separation(a: &[f32], b: &[f32]) -> f32 {
    let pairs = a.iter().flat_map(|a| {
        b.iter().map(move |b| {
            if a > b {
                1.0_f64
            } else if a == b {
                0.5
            } else {
                0.0
            }
        })
    });
    let share = pairs.sum::<f64>() / (a.len() * b.len()).max(1) as f64;
    share.max(1.0 - share) as f32
}

#[cfg(test)]
mod tests {
    use super::super::material::testing;
    use super::*;

    #[test]
    fn scenes_hide_how_sharp_the_files_of_a_category_are() {
        let [files, scenes] = sharpness(&testing::material());
        assert!(files > 0.95, "{files}");
        assert!(scenes < 0.65, "{scenes}");
    }

    #[test]
    fn separation_is_the_area_under_the_curve() {
        assert_eq!(separation(&[3.0, 4.0], &[1.0, 2.0]), 1.0);
        assert_eq!(separation(&[1.0, 2.0], &[3.0, 4.0]), 1.0);
        assert_eq!(separation(&[1.0, 4.0], &[2.0, 3.0]), 0.5);
        assert_eq!(separation(&[2.0], &[2.0]), 0.5);
    }
}
