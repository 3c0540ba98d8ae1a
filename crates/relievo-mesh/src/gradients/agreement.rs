//! The check of a gradient: against differences of the exact image.

use rayon::prelude::*;
use relievo_tensor::{Device, Error, Result, Tape, Tensor};

use crate::check::as_vectors;
use crate::renderer::Window;
use crate::{Gradient, Object, Outputs, Rendered, Renderer, Scene};

/// How a gradient is checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckOptions {
    /// Samples along a side of a pixel of the image that is taken as exact, 1 to 64.
    pub supersampling: usize,
    /// Pixels by which vertices are moved to either side.
    pub step: f32,
    /// Vertices of each object that are moved, at most; spread evenly over its list.
    pub vertices: usize,
}

impl Default for CheckOptions {
    /// 32x32 samples, a fifth of a pixel, 200 vertices.
    fn default() -> Self {
        Self { supersampling: 32, step: 0.2, vertices: 200 }
    }
}

/// How well a gradient agrees with differences.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Agreement {
    /// The cosine of the angle between them: 1 is the same direction.
    pub cosine: f64,
    /// The length of the gradient over that of the differences.
    pub length_ratio: f64,
    /// The gradient of the vertices of each object, `[V, 3]`, 0 where vertices were not moved.
    pub gradients: Vec<Tensor>,
    /// The differences, likewise.
    pub differences: Vec<Tensor>,
}

/// Compares the gradient of a renderer in the vertices of a scene with central differences of the exact image.
///
/// The exact image is the mean of [`CheckOptions::supersampling`]^2 samples a pixel. `loss` makes one number of it, or
/// several that are added up. Its derivatives by the pixels are what the renderer's gradient is asked for and what weights
/// the differences of the image, so a loss may be of any form. Only the part of the image around a vertex is drawn again when
/// it moves: 42 vertices and the silhouette at 64x64 pixels take about a second.
///
/// A face that is seen edge-on turns over within the step, and differences average over the kink: if the agreement is worse
/// than expected, try a smaller step with more samples.
///
/// Differences hear everything: also textures that move with their faces, and intersections of faces, which no gradient of
/// this crate does.
///
/// ```rust
/// use relievo_mesh::{
///     Appearance, Camera, CheckOptions, Faces, Gradient, Object, Outputs, Renderer, Scene, check_gradient, shapes,
/// };
/// use relievo_tensor::Tensor;
///
/// let sphere = shapes::icosphere(1);
/// let object = Object {
///     vertices: Tensor::new(sphere.vertices.as_flattened(), [42, 3])?,
///     faces: Faces::new(sphere.faces),
///     appearance: Appearance::White,
/// };
/// let scene = Scene::new(object, Camera::default());
/// let renderer = Renderer { gradient: Gradient::EDGES, ..Renderer::new(32, 32) };
/// // The covered area.
/// let loss = |images: &relievo_mesh::Rendered| Ok(images.alpha.clone().unwrap());
/// let agreement = check_gradient(&renderer, &scene, Outputs::SILHOUETTE, CheckOptions::default(), loss)?;
/// assert!(agreement.cosine > 0.998 && (agreement.length_ratio - 1.0).abs() < 0.02);
/// # Ok::<(), relievo_tensor::Error>(())
/// ```
///
/// # Errors
/// As [`Renderer::render`]; if an option is out of range; if other outputs are asked for than alpha, colour and depth; if
/// the loss is not on the tape of the images; if the scene is on a GPU.
pub fn check_gradient(
    renderer: &Renderer,
    scene: &Scene,
    outputs: Outputs,
    options: CheckOptions,
    loss: impl FnOnce(&Rendered) -> Result<Tensor>,
) -> Result<Agreement> {
    let CheckOptions { supersampling, step, vertices } = options;
    let wrong = |detail: &str| Err(Error::shape("check_gradient", detail));
    if !(1..=64).contains(&supersampling) || vertices == 0 || !(step > 0.0 && step.is_finite()) {
        return wrong("supersampling must be 1 to 64, the step above 0, and some vertex moved");
    }
    let compared = Outputs { normals: None, positions: false, faces: false, ..outputs };
    if compared != outputs || compared == Outputs::NONE {
        return wrong("only alpha, colour and depth are compared, at least one of them");
    }
    if scene.objects.iter().any(|object| object.vertices.device() != Device::Cpu) {
        return wrong("the scene must be on the CPU; copy its tensors with `to_device`");
    }
    let mut still = scene.clone();
    still.objects.iter_mut().for_each(|object| object.vertices = object.vertices.detach());
    let exact =
        Exact { renderer: Renderer { gradient: Gradient::Kato, ..renderer.clone() }, outputs, supersampling };
    let upstream = exact.upstream(&still, loss)?;
    let mut agreement =
        Agreement { cosine: 0.0, length_ratio: 0.0, gradients: Vec::new(), differences: Vec::new() };
    let gradients = asked(renderer, &still, outputs, &upstream)?;
    for (index, all) in gradients.iter().enumerate() {
        let moved = Moved::new(&exact, &still, index)?;
        let used = moved.chosen(vertices);
        let found: Vec<[f32; 3]> = used
            .par_iter()
            .map(|vertex| moved.differences(*vertex, step, &upstream))
            .collect::<Result<_>>()?;
        let [mut gradient, mut differences] = [(); 2].map(|()| Tensor::zeros(all.shape()));
        for (vertex, found) in used.iter().zip(found) {
            gradient.data_mut().as_chunks_mut::<3>().0[*vertex] = as_vectors(all)[*vertex];
            differences.data_mut().as_chunks_mut::<3>().0[*vertex] = found;
        }
        agreement.gradients.push(gradient);
        agreement.differences.push(differences);
    }
    (agreement.cosine, agreement.length_ratio) = compare(&agreement.gradients, &agreement.differences);
    Ok(agreement)
}

/// Cosine, and the length of the first over that of the second; 1 of two vectors of zeros.
fn compare(gradients: &[Tensor], differences: &[Tensor]) -> (f64, f64) {
    let product = |a: &[Tensor], b: &[Tensor]| -> f64 {
        let pairs = a.iter().zip(b).flat_map(|(a, b)| a.data().iter().zip(b.data()));
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let [own, other] = [gradients, differences].map(|list| product(list, list).sqrt());
    if own == 0.0 && other == 0.0 {
        return (1.0, 1.0);
    }
    let cosine = if own > 0.0 && other > 0.0 { product(gradients, differences) / own / other } else { 0.0 };
    (cosine, own / other)
}

/// The gradient of the renderer in the vertices of each object, given those of the images.
fn asked(
    renderer: &Renderer,
    scene: &Scene,
    outputs: Outputs,
    upstream: &[Option<Tensor>; 3],
) -> Result<Vec<Tensor>> {
    let tape = Tape::new();
    let mut scene = scene.clone();
    scene.objects.iter_mut().for_each(|object| object.vertices = tape.watch(&object.vertices));
    let watched: Vec<Tensor> = scene.objects.iter().map(|object| object.vertices.clone()).collect();
    let Rendered { alpha, colour, depth, .. } = renderer.render(&[scene], outputs)?;
    let images = [alpha, colour, depth];
    let seeds = images.iter().zip(upstream).filter_map(|(image, g)| Some((image.as_ref()?, g.clone()?)));
    let seeds: Vec<(&Tensor, Tensor)> = seeds.filter(|(image, _)| image.is_recorded()).collect();
    let gradients = if seeds.is_empty() { None } else { Some(tape.backward_from(&seeds)?) };
    let of = |tensor: &Tensor| {
        let found = gradients.as_ref().and_then(|gradients| gradients.get(tensor));
        found.cloned().unwrap_or_else(|| Tensor::zeros(tensor.shape()))
    };
    Ok(watched.iter().map(of).collect())
}

/// The exact image, in parts.
struct Exact {
    renderer: Renderer,
    outputs: Outputs,
    supersampling: usize,
}

/// Pixels along a side of what is drawn at a time.
const TILE: usize = 64;

impl Exact {
    fn size(&self) -> [usize; 2] {
        [self.renderer.width, self.renderer.height]
    }

    /// Calls `visit` with the images alpha, colour and depth of parts of a region, from its first to before its last column
    /// and row, and the index in the whole image of their pixels, row by row: first pixel and number.
    fn draw(
        &self,
        scene: &Scene,
        [columns, rows]: [[usize; 2]; 2],
        mut visit: impl FnMut(&[Option<Tensor>; 3], &[std::ops::Range<usize>]),
    ) -> Result<()> {
        for top in (rows[0]..rows[1]).step_by(TILE) {
            for left in (columns[0]..columns[1]).step_by(TILE) {
                let size = [TILE.min(columns[1] - left), TILE.min(rows[1] - top)];
                let window = Window { first: [left, top], size, per_pixel: self.supersampling };
                let drawn = self.renderer.draw(std::slice::from_ref(scene), self.outputs, Some(window))?;
                let row = |y: usize| {
                    let first = (top + y) * self.renderer.width + left;
                    first..first + size[0]
                };
                let pixels: Vec<_> = (0..size[1]).map(row).collect();
                visit(&[drawn.alpha, drawn.colour, drawn.depth], &pixels);
            }
        }
        Ok(())
    }

    /// The derivatives of the loss by the pixels of alpha, colour and depth.
    fn upstream(
        &self,
        scene: &Scene,
        loss: impl FnOnce(&Rendered) -> Result<Tensor>,
    ) -> Result<[Option<Tensor>; 3]> {
        let [width, height] = self.size();
        let Outputs { alpha, colour, depth, .. } = self.outputs;
        let image = |channels: Option<usize>| {
            let extents: Vec<usize> = [1, height, width].into_iter().chain(channels).collect();
            Tensor::zeros(extents.as_slice())
        };
        let mut images =
            [alpha.then(|| image(None)), colour.then(|| image(Some(3))), depth.then(|| image(None))];
        self.draw(scene, [[0, width], [0, height]], |parts, pixels| {
            for ((image, part), channels) in images.iter_mut().zip(parts).zip([1, 3, 1]) {
                let (Some(image), Some(part)) = (image, part) else { continue };
                let rows = part.data().chunks_exact(pixels[0].len() * channels);
                for (row, to) in rows.zip(pixels) {
                    image.data_mut()[to.start * channels..to.end * channels].copy_from_slice(row);
                }
            }
        })?;
        let tape = Tape::new();
        let watched = images.map(|image| image.map(|image| tape.watch(&image)));
        let [alpha, colour, depth] = watched.clone();
        let loss = loss(&Rendered { alpha, colour, depth, ..Rendered::default() })?;
        let gradients = tape.backward(&loss)?;
        Ok(watched.map(|image| image.and_then(|image| gradients.get(&image).cloned())))
    }
}

/// An object whose vertices are moved.
struct Moved<'a> {
    exact: &'a Exact,
    scene: &'a Scene,
    object: usize,
    /// Positions in pixels from the upper left corner, and depths.
    screen: Vec<[f32; 3]>,
    /// How far each vertex goes on the image, in pixels, when it moves by one.
    speed: Vec<f32>,
    /// For each vertex itself and those that share a face with it; none if it has no face.
    around: Vec<Vec<u32>>,
}

impl<'a> Moved<'a> {
    fn new(exact: &'a Exact, scene: &'a Scene, object: usize) -> Result<Self> {
        let Object { vertices, faces, .. } = &scene.objects[object];
        let [width, height] = exact.size().map(|side| side as f32);
        let tape = Tape::new();
        let watched = tape.watch(vertices);
        let seen = scene.camera.view(&watched)?;
        let projected = scene.camera.project(&seen, width / height)?;
        let mut squares = vec![0.0; vertices.shape()[0]];
        for (axis, side) in [width, height].into_iter().enumerate() {
            let mut seed = Tensor::zeros(projected.shape());
            seed.data_mut().iter_mut().skip(axis).step_by(3).for_each(|seed| *seed = side / 2.0);
            let gradients = tape.backward_from(&[(&projected, seed)])?;
            let slopes = gradients.get(&watched).map_or(&[][..], as_vectors);
            squares.iter_mut().zip(slopes).for_each(|(sum, [x, y, z])| *sum += x * x + y * y + z * z);
        }
        let pixel = |[x, y, z]: [f32; 3]| [(x + 1.0) / 2.0 * width, (1.0 - y) / 2.0 * height, z];
        let screen = as_vectors(&projected).iter().map(|place| pixel(*place)).collect();
        let speed = squares.iter().map(|square| {
            let speed = square.sqrt();
            // One that is in the plane of the camera goes as one that fills the image.
            if speed > 0.0 && speed.is_finite() { speed } else { width / 2.0 }
        });
        let mut around = vec![Vec::new(); vertices.shape()[0]];
        for face in faces.as_slice() {
            face.iter().for_each(|corner| around[*corner as usize].extend(face));
        }
        Ok(Self { exact, scene, object, screen, speed: speed.collect(), around })
    }

    /// At most so many of the vertices that have a face.
    fn chosen(&self, most: usize) -> Vec<usize> {
        let used: Vec<usize> =
            (0..self.around.len()).filter(|vertex| !self.around[*vertex].is_empty()).collect();
        let count = used.len().min(most);
        (0..count).map(|index| used[index * used.len() / count]).collect()
    }

    /// The differences over the change of the three coordinates of a vertex.
    fn differences(&self, vertex: usize, step: f32, upstream: &[Option<Tensor>; 3]) -> Result<[f32; 3]> {
        let region = self.region(vertex, step).filter(|_| self.screen[vertex].iter().all(|x| x.is_finite()));
        let Some(region) = region else { return Ok([0.0; 3]) };
        let by = step / self.speed[vertex];
        let mut differences = [0.0; 3];
        for (axis, difference) in differences.iter_mut().enumerate() {
            let (mut sum, mut way) = (0.0f64, 0.0f64);
            for sign in [1.0, -1.0] {
                let mut scene = self.scene.clone();
                let place = &mut scene.objects[self.object].vertices.data_mut()[3 * vertex + axis];
                *place += sign * by;
                way += f64::from(sign) * f64::from(*place);
                self.exact.draw(&scene, region, |parts, pixels| {
                    for ((part, g), channels) in parts.iter().zip(upstream).zip([1, 3, 1]) {
                        let (Some(part), Some(g)) = (part, g) else { continue };
                        for (row, of) in part.data().chunks_exact(pixels[0].len() * channels).zip(pixels) {
                            let g = &g.data()[of.start * channels..of.end * channels];
                            let products = row.iter().zip(g).map(|(a, b)| f64::from(*a) * f64::from(*b));
                            sum += f64::from(sign) * products.sum::<f64>();
                        }
                    }
                })?;
            }
            *difference = (sum / way) as f32;
        }
        Ok(differences)
    }

    /// The columns and rows of pixels, first and one past the last, that may change when a vertex moves; `None` if there
    /// are none.
    fn region(&self, vertex: usize, step: f32) -> Option<[[usize; 2]; 2]> {
        let size = self.exact.size();
        let mut bounds = [[f32::INFINITY, f32::NEG_INFINITY]; 2];
        for other in &self.around[vertex] {
            let place = self.screen[*other as usize];
            // Faces that are cut may reach anywhere.
            if !(place.iter().all(|x| x.is_finite()) && place[2] > self.exact.renderer.near) {
                return Some(size.map(|side| [0, side]));
            }
            for (bounds, at) in bounds.iter_mut().zip(place) {
                *bounds = [bounds[0].min(at), bounds[1].max(at)];
            }
        }
        let margin = 1.0 + 2.0 * step;
        let region = [0, 1].map(|axis| {
            let [least, greatest] = bounds[axis];
            let limit = size[axis] as f32;
            [
                (least - margin).clamp(0.0, limit) as usize,
                (greatest + margin).ceil().clamp(0.0, limit) as usize,
            ]
        });
        region.iter().all(|[first, end]| first < end).then_some(region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_compared() {
        let of = |x: [f32; 2]| vec![Tensor::new(&x, [2]).unwrap()];
        assert_eq!(compare(&of([0.0, 0.0]), &of([0.0, 0.0])), (1.0, 1.0));
        assert_eq!(compare(&of([0.0, 0.0]), &of([0.0, 1.0])), (0.0, 0.0));
        let (cosine, ratio) = compare(&of([3.0, 3.0]), &of([0.0, 1.0]));
        assert!((cosine - 0.5f64.sqrt()).abs() < 1e-12 && (ratio - 18f64.sqrt()).abs() < 1e-12);
    }
}
