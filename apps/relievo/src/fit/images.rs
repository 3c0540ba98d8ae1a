//! Images read and drawn.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use relievo::Image;
use relievo_export::Canvas;
use relievo_mesh::Mesh;
use relievo_mesh::stage::{CalibratedCamera, Light, Look, Orbit, Shot, Stage, Wanted};
use relievo_tensor::Tensor;

/// Frames, or why one could not be drawn.
#[derive(Default)]
pub struct Frames {
    frames: Vec<Canvas>,
    failed: Option<anyhow::Error>,
}

impl Frames {
    pub fn add(&mut self, frame: anyhow::Result<Canvas>) {
        match frame {
            Ok(frame) => self.frames.push(frame),
            Err(error) => self.failed = Some(error),
        }
    }

    pub fn finish(self) -> anyhow::Result<Vec<Canvas>> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        Ok(self.frames)
    }
}

/// Two silhouettes on each other: slate where both are, amber where only the wanted one is, red where only the found one.
pub fn overlay(found: &[f32], wanted: &[f32], width: usize) -> Canvas {
    const BOTH: [f32; 3] = [0.25, 0.35, 0.5];
    const WANTED: [f32; 3] = [0.96, 0.76, 0.35];
    const FOUND: [f32; 3] = [0.85, 0.35, 0.3];
    let pixels = found.iter().zip(wanted).flat_map(|(a, b)| {
        let [both, wanted, found] = [a * b, b * (1.0 - a), a * (1.0 - b)];
        let none = 1.0 - both - wanted - found;
        std::array::from_fn::<f32, 3, _>(|k| both * BOTH[k] + wanted * WANTED[k] + found * FOUND[k] + none)
    });
    Canvas::from_unit(&pixels.collect::<Vec<f32>>(), width)
}

/// Images side by side.
pub fn row(images: &[Canvas]) -> Canvas {
    const GAP: usize = 4;
    let width = images.iter().map(|image| image.width() + GAP).sum::<usize>().saturating_sub(GAP);
    let height = images.iter().map(Canvas::height).max().unwrap_or(0);
    let mut row = Canvas::new(width, height, [255; 3]);
    let mut x = 0;
    for image in images {
        row.paste(image, x, 0);
        x += image.width() + GAP;
    }
    row
}

/// A mesh as it looks from an orbit, over white.
pub fn portrait(
    mesh: &Mesh,
    look: &Look,
    orbit: Orbit,
    [width, height]: [usize; 2],
) -> anyhow::Result<Canvas> {
    let stage = Stage::new(mesh, look)?;
    let shot = Shot { width, height, samples: 3 };
    let shown = stage.shoot(&orbit, shot, Light::default(), Wanted { colour: true, ..Wanted::default() })?;
    Ok(Canvas::from_unit(&shown.over([1.0; 3]), width))
}

/// A silhouette `[H, W]` from an image that is bright where the object is.
pub fn silhouette(path: &Path) -> anyhow::Result<Tensor> {
    let image = Image::open(path)?;
    let grey = image.pixels.as_chunks::<3>().0.iter().map(|rgb| {
        let sum: f32 = rgb.iter().map(|value| f32::from(*value)).sum();
        sum / (3.0 * 255.0)
    });
    let grey: Vec<f32> = grey.collect();
    let covered = grey.iter().filter(|value| **value > 0.5).count();
    ensure!(
        covered > 0 && covered < grey.len(),
        "{} is all {}; a silhouette is white where the object is and black elsewhere",
        path.display(),
        if covered == 0 { "dark" } else { "bright" }
    );
    Ok(Tensor::new(&grey, [image.height as usize, image.width as usize])?)
}

/// An image `[H, W, 3]`.
pub fn colours(path: &Path) -> anyhow::Result<Tensor> {
    let image = Image::open(path)?;
    let values: Vec<f32> = image.pixels.iter().map(|value| f32::from(*value) / 255.0).collect();
    Ok(Tensor::new(&values, [image.height as usize, image.width as usize, 3])?)
}

/// The images of a folder in the order of their names, and a camera for each.
pub fn paired(folder: &Path, cameras: &Path) -> anyhow::Result<Vec<(PathBuf, CalibratedCamera)>> {
    let cameras = CalibratedCamera::open(cameras)?;
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut images = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read the folder {}", folder.display()))?.path();
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if ["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif"].contains(&&*extension) {
            images.push(path);
        }
    }
    images.sort();
    if images.len() != cameras.len() {
        bail!(
            "{} has {} images for {} cameras; give one camera for each image, in the order of their names",
            folder.display(),
            images.len(),
            cameras.len()
        );
    }
    ensure!(!images.is_empty(), "{} has no images", folder.display());
    Ok(images.into_iter().zip(cameras).collect())
}
