//! The likely ones among many starts.
//!
//! What a silhouette says of the side that it is seen from has many local optima: views from opposite sides differ only by
//! perspective. So all starts are compared on a small image, moved until area and middle agree with the wanted ones; of
//! neighbours the best stays; and several of these are followed before one is chosen.

use std::ops::ControlFlow;

use relievo_mesh::vector::{add, cross, dot, length, scale, sub};
use relievo_mesh::{Gradient, Object};
use relievo_tensor::{Device, Result, Tensor};

use super::{CameraSettings, Sight, Way, follow, silhouettes, size_of};
use crate::{FitError, iou};

/// Places of [`starts_around`]: neighbours are about ten degrees apart.
const STARTS: usize = 400;
/// Starts that are rendered at a time.
const TOGETHER: usize = 64;
/// Starts that are followed on a small image, and those on the image itself.
const LIKELY: usize = 24;
const BEST: usize = 4;
/// Starts whose directions are nearer than this, in degrees, are neighbours.
const NEIGHBOURS: f32 = 15.0;
/// The learning rate is divided by this where starts are near.
pub(super) const SLOWER: f64 = 4.0;

/// Places around the origin to start from, at this distance: evenly on the whole sphere, neighbours about ten degrees apart.
pub fn starts_around(distance: f32) -> Vec<[f32; 3]> {
    // A spiral from pole to pole, each place turned by the golden angle (Vogel 1979), which keeps them apart.
    let turn = std::f64::consts::PI * (3.0 - 5f64.sqrt());
    let place = |index: usize| {
        let up = 1.0 - (2 * index + 1) as f64 / STARTS as f64;
        let across = (1.0 - up * up).sqrt();
        let (sin, cos) = (index as f64 * turn).sin_cos();
        [across * sin, up, -across * cos].map(|x| distance * x as f32)
    };
    (0..STARTS).map(place).collect()
}

/// The best of the starts; `None` if the mesh is seen from none.
pub(super) fn search(
    object: &Object,
    wanted: &Tensor,
    starts: &[[f32; 3]],
    settings: &CameraSettings,
) -> std::result::Result<Option<Sight>, FitError> {
    let small = shrunk(wanted)?;
    let mut framed = Vec::with_capacity(starts.len());
    for starts in starts.chunks(TOGETHER) {
        framed.extend(framed_together(object, &small, starts, settings)?);
    }
    let mut sights = apart(framed);
    for (image, count, steps) in [(&small, LIKELY, settings.tries), (wanted, BEST, settings.tries)] {
        sights.truncate(count);
        if sights.is_empty() {
            return Ok(None);
        }
        let way = Way { steps, enough: 0.0, gradient: Gradient::EDGES, slower: SLOWER };
        let mut followed = follow(object, image, sights, settings, way, &mut |_| ControlFlow::Continue(()))?;
        followed.sort_by(|a, b| a.1.total_cmp(&b.1));
        sights = apart(followed);
    }
    Ok(sights.first().copied())
}

/// The sights without those that have a better neighbour, the best first; given with their errors.
fn apart(mut sights: Vec<(Sight, f32)>) -> Vec<Sight> {
    sights.sort_by(|a, b| a.1.total_cmp(&b.1));
    let near = NEIGHBOURS.to_radians().cos();
    let mut kept: Vec<Sight> = Vec::new();
    for (sight, _) in sights {
        let direction = |sight: &Sight| sub(sight.eye, sight.at);
        let own = direction(&sight);
        let is_near = |other: &Sight| {
            let other = direction(other);
            dot(own, other) > near * length(own) * length(other)
        };
        if !kept.iter().any(is_near) {
            kept.push(sight);
        }
    }
    kept
}

/// Each start moved along its view, and across it if the target is free, until the mesh is as large and where the wanted
/// silhouette is; with the error there. Those from which nothing is seen are left out.
fn framed_together(
    object: &Object,
    wanted: &Tensor,
    starts: &[[f32; 3]],
    settings: &CameraSettings,
) -> Result<Vec<(Sight, f32)>> {
    let size = size_of(wanted)?;
    let Some(goal) = Spot::of(wanted.data(), size[1]) else { return Ok(Vec::new()) };
    let mut sights: Vec<Sight> = starts.iter().map(|eye| Sight { eye: *eye, at: [0.0; 3] }).collect();
    let see = |sights: &[Sight]| {
        let parameters: Vec<[Tensor; 2]> = sights.iter().map(Sight::parameters).collect();
        silhouettes(object, size, &parameters, settings, Gradient::EDGES)?.to_device(Device::Cpu)
    };
    for _ in 0..3 {
        if sights.is_empty() {
            return Ok(Vec::new());
        }
        let seen = see(&sights)?;
        let images = seen.data().chunks(size[0] * size[1]);
        let moved = |(sight, image): (&Sight, &[f32])| {
            Some(sight.framed(&Spot::of(image, size[1])?, &goal, size[0], settings))
        };
        sights = sights.iter().zip(images).filter_map(moved).collect();
    }
    if sights.is_empty() {
        return Ok(Vec::new());
    }
    let seen = see(&sights)?;
    let images = seen.data().chunks(size[0] * size[1]);
    let error = |image: &[f32]| 1.0 - iou(image, wanted.data()) as f32;
    Ok(sights.into_iter().zip(images.map(error)).collect())
}

impl Sight {
    /// Moved until the mesh, which is seen as `now`, is about as large and where `goal` is. `height` is the image's.
    fn framed(self, now: &Spot, goal: &Spot, height: usize, settings: &CameraSettings) -> Self {
        let Self { eye, mut at } = self;
        let axis = sub(at, eye);
        let distance = length(axis);
        let away = scale(axis, 1.0 / distance);
        if settings.free_target {
            let right = cross([0.0, 1.0, 0.0], away);
            let right = scale(right, 1.0 / length(right).max(1e-6));
            let up = cross(away, right);
            // Half the image's height in the plane of the target, per pixel.
            let pixel = settings.half_angle.to_radians().tan() * distance * 2.0 / height as f32;
            let [x, y] = [now.middle[0] - goal.middle[0], goal.middle[1] - now.middle[1]];
            let shift = scale(add(scale(right, x), scale(up, y)), pixel);
            at = add(at, shift);
        }
        let eye = sub(at, scale(away, distance * (now.area / goal.area).sqrt()));
        Self { eye, at }
    }
}

/// The area of a silhouette in pixels, and its middle: column and row.
struct Spot {
    area: f32,
    middle: [f32; 2],
}

impl Spot {
    fn of(image: &[f32], width: usize) -> Option<Self> {
        let sums = image.iter().enumerate().fold([0.0; 3], |[area, x, y], (at, share)| {
            [area + share, x + share * (at % width) as f32, y + share * (at / width) as f32]
        });
        (sums[0] > 0.0).then(|| Self { area: sums[0], middle: [sums[1] / sums[0], sums[2] / sums[0]] })
    }
}

/// Pixels of the shorter side of the small image, or the image's own if it has fewer.
const SMALL: usize = 64;

/// A small version of an image `[H, W]`: each pixel is the mean of those that fall into it.
fn shrunk(image: &Tensor) -> Result<Tensor> {
    let [height, width] = size_of(image)?;
    let by = (height.min(width) as f64 / SMALL as f64).max(1.0);
    let [rows, columns] = [height, width].map(|side| (side as f64 / by).round() as usize);
    let span = |at: usize, of: usize, count: usize| at * of / count..(at + 1) * of / count;
    let mean = |at: usize| {
        let own_rows = span(at / columns, height, rows);
        let own_columns = span(at % columns, width, columns);
        let count = own_rows.len() * own_columns.len();
        let row = |row: usize| image.data()[row * width..][own_columns.clone()].iter().sum::<f32>();
        own_rows.map(row).sum::<f32>() / count as f32
    };
    Tensor::new(&(0..rows * columns).map(mean).collect::<Vec<f32>>(), [rows, columns])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_even_and_sights_kept_apart() {
        let starts = starts_around(2.0);
        assert!(starts.iter().all(|place| (length(*place) - 2.0).abs() < 1e-5));
        let angle = |a: [f32; 3], b: [f32; 3]| (dot(a, b) / 4.0).clamp(-1.0, 1.0).acos().to_degrees();
        for (index, place) in starts.iter().enumerate() {
            let others = starts.iter().enumerate().filter(|(other, _)| *other != index);
            let nearest = others.map(|(_, other)| angle(*place, *other)).fold(180.0, f32::min);
            assert!((7.0..13.0).contains(&nearest), "{index}: {nearest}");
        }
        let sight = |eye: [f32; 3]| Sight { eye, at: [0.0; 3] };
        let sights = [([0.0, 0.0, -2.0], 0.3), ([0.1, 0.0, -2.0], 0.2), ([0.0, 0.0, 2.0], 0.1)];
        let kept = apart(sights.map(|(eye, error)| (sight(eye), error)).to_vec());
        assert_eq!(kept.iter().map(|sight| sight.eye[2]).collect::<Vec<_>>(), [2.0, -2.0]);
        assert_eq!(kept[1].eye[0], 0.1);
    }

    #[test]
    fn small_images_keep_the_mean_and_the_place() {
        let mut image = Tensor::zeros([129, 200]);
        image.data_mut().iter_mut().enumerate().for_each(|(at, value)| *value = f32::from(at % 200 >= 100));
        let small = shrunk(&image).unwrap();
        assert_eq!(small.shape(), [64, 99].into());
        let row = &small.data()[..99];
        assert!(row[..49].iter().all(|share| *share == 0.0) && row[50..].iter().all(|share| *share == 1.0));
        assert_eq!(shrunk(&Tensor::zeros([3, 5])).unwrap().shape(), [3, 5].into());
    }
}
