//! Images of a stage, window by window: memory for samples does not grow with the image.

use rayon::prelude::*;
use relievo_tensor::Tensor;

use super::orbit::Placed;
use super::{CalibratedCamera, LONGEST, MOST_SAMPLES, Orbit, Stage, StageError};
use crate::{DepthMean, Lights, Normals, Outputs, Rendered, Renderer, Scene};

/// The size of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shot {
    /// Columns of pixels, 1 to 16,384.
    pub width: usize,
    /// Rows of pixels, 1 to 16,384.
    pub height: usize,
    /// Samples along each side of a pixel for colours and silhouettes, 1 to 16.
    pub samples: usize,
}

impl Shot {
    /// Width over height.
    pub fn aspect(&self) -> f64 {
        self.width as f64 / self.height as f64
    }
}

/// Light on a stage, relative to the camera, so that what is seen is lit however the mesh is turned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Light {
    /// Where a distant light is, in degrees: 0 at the camera, 90 to the right, -90 to the left.
    pub azimuth: f64,
    /// How far it is above the camera, in degrees.
    pub elevation: f64,
    /// The share of the light that comes from everywhere, in 0..=1; a surface that faces the distant light has its own
    /// colour.
    pub ambient: f64,
}

impl Default for Light {
    /// From above, to the left.
    fn default() -> Self {
        Self { azimuth: -40.0, elevation: 40.0, ambient: 0.2 }
    }
}

impl Light {
    fn check(&self) -> Result<(), StageError> {
        let angles = [("the light's azimuth", self.azimuth), ("the light's elevation", self.elevation)];
        if let Some((what, value)) = angles.into_iter().find(|(_, angle)| !angle.is_finite()) {
            return Err(StageError::Number { what, range: "a finite number", value });
        }
        if !(0.0..=1.0).contains(&self.ambient) {
            return Err(StageError::Number {
                what: "ambient light",
                range: "from 0 to 1",
                value: self.ambient,
            });
        }
        Ok(())
    }

    /// To the light, in the camera's axes: x to the right, y down, z away from the viewer.
    fn direction(&self) -> [f32; 3] {
        let ((sin_a, cos_a), (sin_e, cos_e)) =
            (self.azimuth.to_radians().sin_cos(), self.elevation.to_radians().sin_cos());
        [sin_a * cos_e, -sin_e, -cos_a * cos_e].map(|value| value as f32)
    }
}

/// What is wanted of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Colours under light, and the silhouette.
    pub colour: bool,
    /// The silhouette; colours need it anyway.
    pub silhouette: bool,
    /// Depths.
    pub depth: bool,
    /// Normals.
    pub normals: bool,
    /// Faces.
    pub faces: bool,
}

/// An image, row by row from the top. Lists of what was not wanted are empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// Columns.
    pub width: usize,
    /// `[H, W, 3]`: colours of the part of each pixel that is covered, sRGB in 0..=1; 0 where nothing is.
    pub colour: Vec<f32>,
    /// `[H, W]`: the share of each pixel that is covered.
    pub alpha: Vec<f32>,
    /// `[H, W]`: depth along the camera's axis at the centre of each pixel, in the mesh's units; NaN where nothing is.
    pub depth: Vec<f32>,
    /// `[H, W, 3]`: unit normals at the centre of each pixel, in the camera's axes (x right, y down, z away) and with the
    /// sign that relievo's models have: (0, 0, 1) for a surface that faces the camera. 0 where nothing is.
    pub normals: Vec<f32>,
    /// `[H, W]`: the face of the mesh at the centre of each pixel; `None` where nothing is.
    pub faces: Vec<Option<u32>>,
}

impl Shown {
    /// The colours over a background, `[H, W, 3]`.
    pub fn over(&self, background: [f32; 3]) -> Vec<f32> {
        let pixels = self.colour.as_chunks::<3>().0.iter().zip(&self.alpha);
        let mixed = pixels.flat_map(|(colour, alpha)| {
            std::array::from_fn::<f32, 3, _>(|k| alpha * colour[k] + (1.0 - alpha) * background[k])
        });
        mixed.collect()
    }
}

/// The most samples of a window.
const WINDOW: usize = 1 << 22;

/// A rectangle of pixels, or of samples.
#[derive(Clone, Copy)]
struct Window {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Stage {
    /// An image by a camera that goes around the mesh. A distance or a target that is `None` is that of
    /// [`Stage::framed`] for this image alone.
    ///
    /// # Errors
    /// If a number is out of range, or memory does not suffice.
    pub fn shoot(
        &self,
        orbit: &Orbit,
        shot: Shot,
        light: Light,
        wanted: Wanted,
    ) -> Result<Shown, StageError> {
        checked(shot)?;
        let camera = self.calibrated(orbit, [shot.width, shot.height])?;
        self.shoot_calibrated(&camera, shot, light, wanted)
    }

    /// An image by a calibrated camera. If the image has another size than the camera's own, it is scaled.
    ///
    /// # Errors
    /// As [`Stage::shoot`].
    pub fn shoot_calibrated(
        &self,
        camera: &CalibratedCamera,
        shot: Shot,
        light: Light,
        wanted: Wanted,
    ) -> Result<Shown, StageError> {
        checked(shot)?;
        let placed = self.place(camera, [shot.width, shot.height])?;
        self.shoot_placed(&placed, shot, light, wanted)
    }

    fn shoot_placed(
        &self,
        placed: &Placed,
        shot: Shot,
        light: Light,
        wanted: Wanted,
    ) -> Result<Shown, StageError> {
        light.check()?;
        let mut shown = empty(shot, wanted)?;
        if wanted.colour || wanted.silhouette {
            for window in windows(shot, shot.samples) {
                self.fill_colours(&mut shown, placed, window, shot.samples, light, wanted.colour)?;
            }
        }
        if wanted.depth || wanted.normals || wanted.faces {
            for window in windows(shot, 1) {
                self.fill_geometry(&mut shown, placed, window, wanted)?;
            }
        }
        Ok(shown)
    }

    /// What a window of samples shows, one sample for each of its pixels.
    fn render(
        &self,
        placed: &Placed,
        window: Window,
        samples: usize,
        outputs: Outputs,
    ) -> Result<Rendered, StageError> {
        let [nearest, furthest] = placed.depths;
        let far = (furthest * 1.01).max(1e-3);
        let renderer = Renderer {
            anti_aliasing: false,
            // Not nearer: numbers on the screen grow as faces are cut nearer to the eye, and lose digits.
            near: (nearest * 0.99).max(far * 1e-3) as f32,
            far: far as f32,
            depth_mean: DepthMean::Covered { background: -1.0 },
            ..Renderer::new(window.width, window.height)
        };
        let scene = Scene {
            objects: self.objects.clone(),
            camera: placed.camera(window.left, window.top, window.width, window.height, samples),
            lights: Lights::none(),
        };
        Ok(renderer.render(&[scene], outputs)?)
    }

    fn normals(&self) -> Normals {
        if self.flat { Normals::Faces } else { Normals::Smooth }
    }

    fn fill_colours(
        &self,
        shown: &mut Shown,
        placed: &Placed,
        window: Window,
        samples: usize,
        light: Light,
        colour: bool,
    ) -> Result<(), StageError> {
        let fine = Window {
            left: window.left * samples,
            top: window.top * samples,
            width: window.width * samples,
            height: window.height * samples,
        };
        let outputs =
            Outputs { alpha: true, colour, normals: colour.then(|| self.normals()), ..Outputs::NONE };
        let Rendered { alpha, colour, normals, .. } = self.render(placed, fine, samples, outputs)?;
        let alpha = alpha.unwrap_or_else(|| Tensor::zeros([0]));
        let painted = colour.zip(normals);
        let rig = Rig::new(placed, light);
        let (width, share) = (shown.width, 1.0 / (samples * samples) as f32);
        let row_of = |y: usize| (window.top + y) * width + window.left;
        for y in 0..window.height {
            let alphas = &mut shown.alpha[row_of(y)..][..window.width];
            alphas.par_iter_mut().with_min_len(256).enumerate().for_each(|(x, to)| {
                let of_row =
                    |row: usize| &alpha.data()[(y * samples + row) * fine.width + x * samples..][..samples];
                *to = (0..samples).flat_map(of_row).sum::<f32>() * share;
            });
            let Some((colour, normals)) = &painted else { continue };
            let colours: &[[f32; 3]] = colour.data().as_chunks().0;
            let normals: &[[f32; 3]] = normals.data().as_chunks().0;
            let pixels = shown.colour.as_chunks_mut::<3>().0;
            let pixels = &mut pixels[row_of(y)..][..window.width];
            pixels.par_iter_mut().with_min_len(256).enumerate().for_each(|(x, to)| {
                let (mut sum, mut count) = ([0.0f32; 3], 0.0);
                for row in 0..samples {
                    let first = (y * samples + row) * fine.width + x * samples;
                    for at in first..first + samples {
                        if alpha.data()[at] > 0.0 {
                            let strength = rig.strength(normals[at]);
                            (0..3).for_each(|k| sum[k] += (colours[at][k] * strength).clamp(0.0, 1.0));
                            count += 1.0;
                        }
                    }
                }
                *to = sum.map(|sum| if count > 0.0 { sum / count } else { 0.0 });
            });
        }
        Ok(())
    }

    fn fill_geometry(
        &self,
        shown: &mut Shown,
        placed: &Placed,
        window: Window,
        wanted: Wanted,
    ) -> Result<(), StageError> {
        let Wanted { depth, normals, faces, .. } = wanted;
        let outputs = Outputs { depth, faces, normals: normals.then(|| self.normals()), ..Outputs::NONE };
        let rendered = self.render(placed, window, 1, outputs)?;
        let width = shown.width;
        let rows = |y: usize| ((window.top + y) * width + window.left, y * window.width);
        for (to, from) in (0..window.height).map(rows) {
            if let Some(depth) = &rendered.depth {
                let row = shown.depth[to..][..window.width].iter_mut().zip(&depth.data()[from..]);
                row.for_each(|(to, z)| {
                    *to = if *z > 0.0 { (f64::from(*z) * self.unit) as f32 } else { f32::NAN }
                });
            }
            if let Some(normals) = &rendered.normals {
                let normals = &normals.data().as_chunks::<3>().0[from..];
                let row = shown.normals.as_chunks_mut::<3>().0[to..][..window.width].iter_mut().zip(normals);
                row.for_each(|(to, normal)| *to = placed.seen(*normal).map(|value| -value));
            }
            if let Some(faces) = &rendered.face_index {
                let row = shown.faces[to..][..window.width].iter_mut().zip(&faces.data()[from..]);
                row.for_each(|(to, face)| *to = (*face >= 0.0).then(|| self.face_of[*face as usize]));
            }
        }
        Ok(())
    }
}

/// Of sRGB, about.
const GAMMA: f32 = 2.2;

/// Light and where up is, in the world of the stage.
struct Rig {
    rotation: [[f32; 3]; 3],
    to_light: [f32; 3],
    ambient: f32,
}

impl Rig {
    fn new(placed: &Placed, light: Light) -> Self {
        let rotation = placed.rotation.map(|row| row.map(|value| value as f32));
        Self { rotation, to_light: light.direction(), ambient: light.ambient as f32 }
    }

    /// By how much an sRGB colour is multiplied, so that its light is multiplied by the strength of the light. The light from everywhere is that of a sky: surfaces that face down have half
    /// of it.
    fn strength(&self, normal: [f32; 3]) -> f32 {
        let dot = |a: [f32; 3], b: [f32; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
        let seen = self.rotation.map(|row| dot(row, normal));
        let sky = 0.75 - 0.25 * seen[1];
        let light = self.ambient * sky + (1.0 - self.ambient) * dot(seen, self.to_light).max(0.0);
        light.powf(1.0 / GAMMA)
    }
}

fn checked(Shot { width, height, samples }: Shot) -> Result<(), StageError> {
    let is_side = |side: usize| (1..=LONGEST).contains(&side);
    match is_side(width) && is_side(height) && (1..=MOST_SAMPLES).contains(&samples) {
        true => Ok(()),
        false => Err(StageError::Size { width, height, samples }),
    }
}

/// An image of nothing.
fn empty(Shot { width, height, .. }: Shot, wanted: Wanted) -> Result<Shown, StageError> {
    fn filled<T: Clone>(count: usize, value: T) -> Option<Vec<T>> {
        let mut list = Vec::new();
        list.try_reserve_exact(count).ok()?;
        list.resize(count, value);
        Some(list)
    }
    let pixels = width * height;
    let count = |wanted: bool, channels: usize| if wanted { pixels * channels } else { 0 };
    let lists = || {
        Some(Shown {
            width,
            colour: filled(count(wanted.colour, 3), 0.0)?,
            alpha: filled(count(wanted.colour || wanted.silhouette, 1), 0.0)?,
            depth: filled(count(wanted.depth, 1), f32::NAN)?,
            normals: filled(count(wanted.normals, 3), 0.0)?,
            faces: filled(count(wanted.faces, 1), None)?,
        })
    };
    lists().ok_or(StageError::OutOfMemory { width, height })
}

/// Windows that cover an image, each of at most [`WINDOW`] samples and [`LONGEST`] along its sides.
fn windows(shot: Shot, samples: usize) -> Vec<Window> {
    let width = shot.width.min(LONGEST / samples);
    let height = (WINDOW / (width * samples * samples)).clamp(1, LONGEST / samples).min(shot.height);
    let mut windows = Vec::new();
    for top in (0..shot.height).step_by(height) {
        for left in (0..shot.width).step_by(width) {
            let (width, height) = (width.min(shot.width - left), height.min(shot.height - top));
            windows.push(Window { left, top, width, height });
        }
    }
    windows
}
