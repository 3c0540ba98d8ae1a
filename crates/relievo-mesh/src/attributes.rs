//! What pixels show beside colour and depth: faces, positions on them, and attributes of vertices and faces.
//!
//! A pixel shows its nearest sample: nothing is mixed at edges.

use std::sync::Arc;

use rayon::prelude::*;
use relievo_tensor::{Backward, Context, Device, Operation, Result, Tensor, apply, apply_one};

use crate::Faces;
use crate::check::{as_vectors, shape, vectors};
use crate::cuda::{attributes as gpu, faces as gpu_faces};
use crate::raster::{Coverage, Covered, Place};
use crate::vector::{Vector, add, cross, dot, scale, sub};

/// Which normals are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normals {
    /// Those of faces.
    Faces,
    /// Those of vertices, the mean over their faces by area, interpolated over faces.
    Smooth,
}

/// No sample.
const NONE: u32 = u32::MAX;

/// The nearest sample of each pixel of each image, of equals the first; [`NONE`] where there is no face.
#[derive(Clone)]
pub(crate) struct Nearest {
    coverage: Coverage,
    width: usize,
    samples: Arc<[Vec<u32>]>,
    /// In position of these on a GPU.
    on_gpu: Option<Arc<gpu::OnGpu>>,
    /// The faces of each part before any was cut.
    faces: Arc<[Faces]>,
}

/// What a pixel shows.
struct Shown {
    place: Place,
    /// The face before it was cut.
    face: usize,
    /// Barycentric coordinates, in the order of the face's own corners.
    weights: [f32; 3],
}

impl Nearest {
    /// `coverage` must have depths; `faces` has those of all parts of all images.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(coverage: Coverage, per_pixel: usize, faces: Vec<Faces>) -> Result<Self> {
        if coverage.numbers.device() != Device::Cpu {
            let depths = coverage.depth.as_ref().expect("depths were kept");
            let (drawn, numbers, samples) = (coverage.drawn(), &coverage.numbers, coverage.samples);
            let found = gpu::nearest(drawn, samples, per_pixel, numbers, depths)?;
            let width = samples.columns / per_pixel;
            let on_gpu = Some(Arc::new(found));
            return Ok(Self { coverage, width, samples: Arc::default(), on_gpu, faces: faces.into() });
        }
        let (columns, rows) = (coverage.samples.columns, coverage.samples.rows);
        let (width, height) = (columns / per_pixel, rows / per_pixel);
        let of_pixel = |image: &Covered<'_>, pixel: usize| {
            let depth = image.depth.expect("depths were kept");
            let (x, y) = (pixel % width * per_pixel, (height - 1 - pixel / width) * per_pixel);
            let samples = (0..per_pixel * per_pixel)
                .map(|i| (y + i / per_pixel) * columns + x + i % per_pixel)
                .filter(|sample| image.numbers[*sample] >= 0.0);
            let nearest = samples.min_by(|a, b| depth[*a].total_cmp(&depth[*b]));
            nearest.map_or(NONE, |sample| sample as u32)
        };
        let of_image = |image: Covered<'_>| -> Vec<u32> {
            (0..width * height).into_par_iter().map(|pixel| of_pixel(&image, pixel)).collect()
        };
        let samples: Vec<Vec<u32>> = coverage.images().map(of_image).collect();
        Ok(Self { coverage, width, samples: samples.into(), on_gpu: None, faces: faces.into() })
    }

    /// As the kernels take it.
    fn batch(&self) -> gpu::Batch<'_> {
        gpu::Batch {
            drawn: self.coverage.drawn(),
            geometries: &self.coverage.geometries,
            numbers: &self.coverage.numbers,
            nearest: self.on_gpu.as_ref().expect("the images are on a GPU"),
            faces: &self.faces,
        }
    }

    fn pixels(&self) -> usize {
        self.samples[0].len()
    }

    /// `[B, H, W]` and what else.
    fn extents(&self, channels: Option<usize>) -> Vec<usize> {
        let fixed = [self.samples.len(), self.pixels() / self.width, self.width];
        fixed.into_iter().chain(channels).collect()
    }

    /// What a sample of an image shows.
    fn shown(&self, image: &Covered<'_>, sample: u32) -> Shown {
        let columns = self.coverage.samples.columns;
        let (column, row) = (sample as usize % columns, sample as usize / columns);
        let number = image.numbers[sample as usize];
        let place = image.geometry.place(number as usize);
        let on_screen = image.triangle(number).surface_weights(column, row);
        let (face, weights) = image.geometry.on_face(place, on_screen);
        Shown { place, face, weights }
    }

    /// The first part of each image among all.
    fn first_parts(&self) -> Vec<usize> {
        let counts = self.coverage.geometries.iter().map(|geometry| geometry.parts().len());
        counts.scan(0, |next, count| Some(std::mem::replace(next, *next + count))).collect()
    }

    /// Fills `channels` numbers a pixel where there is a face: `fill(part among all, what is shown, numbers)`. Others get
    /// `background`.
    fn fill(
        &self,
        tensor: &mut Tensor,
        channels: usize,
        background: f32,
        fill: impl Fn(usize, &Shown, &mut [f32]) + Sync,
    ) {
        let images: Vec<Covered<'_>> = self.coverage.images().collect();
        let (first, height) = (self.first_parts(), self.pixels() / self.width);
        tensor.data_mut().par_chunks_mut(self.width * channels).enumerate().for_each(|(line, row)| {
            let (index, y) = (line / height, line % height);
            let samples = &self.samples[index][y * self.width..][..self.width];
            for (numbers, sample) in row.chunks_exact_mut(channels).zip(samples) {
                if *sample == NONE {
                    numbers.fill(background);
                } else {
                    let shown = self.shown(&images[index], *sample);
                    fill(first[index] + shown.place.part, &shown, numbers);
                }
            }
        });
    }
}

/// The face of each pixel, counted through all objects of its scene, `[B, H, W]`, -1 where there is none; and its three
/// barycentric coordinates on the surface, `[B, H, W, 3]`. Neither has a gradient.
///
/// # Errors
/// If the device fails.
pub(crate) fn identify(nearest: &Nearest) -> Result<[Tensor; 2]> {
    let numbers = nearest.coverage.numbers.detach();
    let outputs = apply(Identify(nearest.clone()), &[&numbers])?;
    Ok(outputs.try_into().expect("two outputs"))
}

struct Identify(Nearest);

impl Operation for Identify {
    fn name(&self) -> &'static str {
        "render"
    }

    fn forward(&self, _: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        let nearest = &self.0;
        // Faces before those of a part in its image.
        let mut before = Vec::with_capacity(nearest.faces.len());
        for (geometry, first) in nearest.coverage.geometries.iter().zip(nearest.first_parts()) {
            let mut sum = 0;
            for part in first..first + geometry.parts().len() {
                before.push(sum);
                sum += nearest.faces[part].len();
            }
        }
        let mut index = Tensor::empty(nearest.extents(None).as_slice());
        nearest.fill(&mut index, 1, -1.0, |part, shown, to| to[0] = (before[part] + shown.face) as f32);
        let mut weights = Tensor::empty(nearest.extents(Some(3)).as_slice());
        nearest.fill(&mut weights, 3, 0.0, |_, shown, to| to.copy_from_slice(&shown.weights));
        Ok(vec![index, weights])
    }

    fn forward_cuda(&self, _: &[&Tensor], _: &mut Context) -> Result<Vec<Tensor>> {
        Ok(gpu::identify(&self.0.batch())?.into())
    }

    fn backward(&self, _: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![None])
    }
}

/// What attributes belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Per {
    Vertex,
    Face,
}

/// Attributes `[V, 3]` or `[F, 3]` of all parts, interpolated at the nearest samples: `[B, H, W, 3]`, 0 where there is
/// none; `signed` ones change their sign on backs. Gradient: exact in the attributes, what is seen where held constant.
///
/// # Errors
/// If a shape is another.
pub(crate) fn interpolate(
    nearest: &Nearest,
    per: Per,
    signed: bool,
    attributes: &[Tensor],
) -> Result<Tensor> {
    let operation = Interpolate { nearest: nearest.clone(), per, signed };
    if attributes.is_empty() {
        return Ok(Tensor::zeros(nearest.extents(Some(3)).as_slice()));
    }
    apply_one(operation, &attributes.iter().collect::<Vec<_>>())
}

struct Interpolate {
    nearest: Nearest,
    per: Per,
    signed: bool,
}

impl Interpolate {
    /// Calls `visit(index of the attribute, weight)` for all that a pixel is mixed of.
    #[inline(always)]
    fn mixture(&self, part: usize, shown: &Shown, mut visit: impl FnMut(usize, f32)) {
        let sign = if self.signed && shown.place.back { -1.0 } else { 1.0 };
        match self.per {
            Per::Face => visit(shown.face, sign),
            Per::Vertex => {
                let corners = self.nearest.faces[part].as_slice()[shown.face];
                for (corner, weight) in corners.into_iter().zip(shown.weights) {
                    visit(corner as usize, sign * weight);
                }
            }
        }
    }
}

impl Interpolate {
    fn check(&self, inputs: &[&Tensor]) -> Result<()> {
        for (input, faces) in inputs.iter().zip(self.nearest.faces.iter()) {
            match self.per {
                Per::Face => shape(self.name(), "attributes of faces", input, &[faces.len(), 3])?,
                Per::Vertex => faces.check(self.name(), vectors(self.name(), "attributes", input)?)?,
            }
        }
        Ok(())
    }
}

impl Operation for Interpolate {
    fn name(&self) -> &'static str {
        "render"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.check(inputs)?;
        // For their shapes.
        inputs.iter().for_each(|input| context.save(input));
        let attributes: Vec<&[Vector]> = inputs.iter().map(|input| as_vectors(input)).collect();
        let mut pixels = Tensor::empty(self.nearest.extents(Some(3)).as_slice());
        self.nearest.fill(&mut pixels, 3, 0.0, |part, shown, to| {
            let mut sum = [0.0; 3];
            self.mixture(part, shown, |index, weight| sum = add(sum, scale(attributes[part][index], weight)));
            to.copy_from_slice(&sum);
        });
        Ok(vec![pixels])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let nearest = &self.nearest;
        let mut gradients: Vec<Tensor> =
            backward.saved.iter().map(|input| Tensor::zeros(input.shape())).collect();
        let mut rest = &mut gradients[..];
        let mut of_images = Vec::new();
        for (index, image) in nearest.coverage.images().enumerate() {
            let (own, others) = rest.split_at_mut(image.geometry.parts().len());
            rest = others;
            of_images.push((index, image, own));
        }
        let first = nearest.first_parts();
        let upstream = as_vectors(backward.gradient());
        of_images.into_par_iter().for_each(|(index, image, own)| {
            let mut own: Vec<&mut [Vector]> =
                own.iter_mut().map(|gradient| gradient.data_mut().as_chunks_mut().0).collect();
            let pixels = &upstream[index * nearest.pixels()..][..nearest.pixels()];
            for (sample, g) in nearest.samples[index].iter().zip(pixels) {
                if *sample != NONE && *g != [0.0; 3] {
                    let shown = nearest.shown(&image, *sample);
                    let into = &mut own[shown.place.part];
                    self.mixture(first[index] + shown.place.part, &shown, |index, weight| {
                        into[index] = add(into[index], scale(*g, weight));
                    });
                }
            }
        });
        Ok(gradients.into_iter().map(Some).collect())
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.check(inputs)?;
        inputs.iter().for_each(|input| context.save(input));
        let batch = self.nearest.batch();
        Ok(vec![gpu::interpolate(&batch, self.per == Per::Vertex, self.signed, inputs)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let (batch, per_vertex) = (self.nearest.batch(), self.per == Per::Vertex);
        let (saved, dy) = (backward.saved, backward.gradient());
        let gradients = gpu::interpolate_gradients(&batch, per_vertex, self.signed, saved, dy)?;
        Ok(gradients.into_iter().map(Some).collect())
    }
}

/// `v / |v|`, or 0.
fn unit(v: Vector) -> Vector {
    // Scaled first, so that no square is lost or overflows.
    let longest = v.iter().fold(0.0f32, |longest, x| longest.max(x.abs()));
    if !(longest > 0.0 && longest.is_finite()) {
        return [0.0; 3];
    }
    let v = scale(v, 1.0 / longest);
    scale(v, 1.0 / dot(v, v).sqrt())
}

/// The gradient of [`unit`].
fn unit_gradient(v: Vector, g: Vector) -> Vector {
    let n = unit(v);
    let length = dot(v, n);
    if !(length > 0.0 && length.is_finite()) {
        return [0.0; 3];
    }
    scale(sub(g, scale(n, dot(n, g))), 1.0 / length)
}

/// Normals of an object: of its faces `[F, 3]` or of its vertices `[V, 3]` (the sum of their faces' by area, normalised).
/// They point to a viewer who sees the corners counter-clockwise in a mirror; `flipped`, without one. 0 where there is no
/// area. Gradient: exact.
///
/// # Errors
/// If a shape is another, or a face has a vertex that does not exist.
pub(crate) fn normals(vertices: &Tensor, faces: &Faces, kind: Normals, flipped: bool) -> Result<Tensor> {
    apply_one(
        ObjectNormals { faces: faces.clone(), kind, side: if flipped { -1.0 } else { 1.0 } },
        &[vertices],
    )
}

struct ObjectNormals {
    faces: Faces,
    kind: Normals,
    side: f32,
}

/// The normals of vertices, [`Normals::Smooth`], on the side from which faces run counter-clockwise.
pub(crate) fn smooth_normals(vertices: &[Vector], faces: &[[u32; 3]]) -> Vec<Vector> {
    ObjectNormals { faces: Faces::new(faces), kind: Normals::Smooth, side: -1.0 }.of(vertices)
}

/// The normals of faces, on the side from which they run counter-clockwise; 0 for one without area.
#[cfg(feature = "files")]
pub(crate) fn face_normals(vertices: &[Vector], faces: &[[u32; 3]]) -> Vec<Vector> {
    ObjectNormals { faces: Faces::new(faces), kind: Normals::Faces, side: -1.0 }.of(vertices)
}

impl ObjectNormals {
    /// Of faces or vertices.
    fn of(&self, vertices: &[Vector]) -> Vec<Vector> {
        let mut list = self.areas(vertices);
        if self.kind == Normals::Smooth {
            list = self.at_vertices(&list, vertices.len());
        }
        list.iter_mut().for_each(|v| *v = unit(*v));
        list
    }

    /// Twice the area of each face, as a vector.
    fn areas(&self, vertices: &[Vector]) -> Vec<Vector> {
        let of_face = |face: &[u32; 3]| {
            let [a, b, c] = face.map(|index| vertices[index as usize]);
            scale(cross(sub(a, b), sub(c, b)), self.side)
        };
        self.faces.as_slice().iter().map(of_face).collect()
    }

    /// The sums of areas at each vertex. A face that is not finite does not spoil others.
    fn at_vertices(&self, areas: &[Vector], vertices: usize) -> Vec<Vector> {
        let mut sums = vec![[0.0; 3]; vertices];
        for (face, area) in self.faces.as_slice().iter().zip(areas) {
            if area.iter().all(|x| x.is_finite()) {
                face.iter().for_each(|corner| sums[*corner as usize] = add(sums[*corner as usize], *area));
            }
        }
        sums
    }
}

impl Operation for ObjectNormals {
    fn name(&self) -> &'static str {
        "normals"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        let count = vectors(self.name(), "vertices", inputs[0])?;
        self.faces.check(self.name(), count)?;
        context.save(inputs[0]);
        let list = self.of(as_vectors(inputs[0]));
        Ok(vec![Tensor::new(list.as_flattened(), [list.len(), 3])?])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let vertices = as_vectors(&backward.saved[0]);
        let (areas, g) = (self.areas(vertices), as_vectors(backward.gradient()));
        let of_sums: Vec<Vector> = match self.kind {
            Normals::Faces => areas.iter().zip(g).map(|(area, g)| unit_gradient(*area, *g)).collect(),
            Normals::Smooth => {
                let sums = self.at_vertices(&areas, vertices.len());
                sums.iter().zip(g).map(|(sum, g)| unit_gradient(*sum, *g)).collect()
            }
        };
        let mut dvertices = Tensor::zeros(backward.saved[0].shape());
        let into = dvertices.data_mut().as_chunks_mut::<3>().0;
        for (index, face) in self.faces.as_slice().iter().enumerate() {
            let darea = match self.kind {
                Normals::Faces => of_sums[index],
                Normals::Smooth => {
                    face.iter().fold([0.0; 3], |sum, corner| add(sum, of_sums[*corner as usize]))
                }
            };
            if darea == [0.0; 3] || !areas[index].iter().all(|x| x.is_finite()) {
                continue;
            }
            let [a, b, c] = face.map(|index| vertices[index as usize]);
            let (first, second) = (sub(a, b), sub(c, b));
            let darea = scale(darea, self.side);
            let (da, dc) = (cross(second, darea), cross(darea, first));
            for (corner, d) in face.iter().zip([da, scale(add(da, dc), -1.0), dc]) {
                into[*corner as usize] = add(into[*corner as usize], d);
            }
        }
        Ok(vec![Some(dvertices)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        self.faces.check(self.name(), vectors(self.name(), "vertices", inputs[0])?)?;
        context.save(inputs[0]);
        Ok(vec![gpu_faces::normals(&self.faces, self.kind, self.side, inputs[0])?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(gpu_faces::normals_gradient(&self.faces, self.kind, self.side, backward)?)])
    }
}

/// Vectors of any tensor `[.., 3]`, normalised; 0 where they are 0. Gradient: exact.
///
/// # Errors
/// If the last extent is not 3.
pub(crate) fn normalised(input: &Tensor) -> Result<Tensor> {
    apply_one(Normalised, &[input])
}

struct Normalised;

impl Operation for Normalised {
    fn name(&self) -> &'static str {
        "normals"
    }

    fn forward(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        context.save(inputs[0]);
        let mut output = Tensor::empty(inputs[0].shape());
        let pairs = output.data_mut().as_chunks_mut::<3>().0.iter_mut().zip(as_vectors(inputs[0]));
        pairs.for_each(|(to, from)| *to = unit(*from));
        Ok(vec![output])
    }

    fn backward(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let input = &backward.saved[0];
        let mut gradient = Tensor::empty(input.shape());
        let pairs = as_vectors(input).iter().zip(as_vectors(backward.gradient()));
        for (to, (v, g)) in gradient.data_mut().as_chunks_mut::<3>().0.iter_mut().zip(pairs) {
            *to = unit_gradient(*v, *g);
        }
        Ok(vec![Some(gradient)])
    }

    fn forward_cuda(&self, inputs: &[&Tensor], context: &mut Context) -> Result<Vec<Tensor>> {
        context.save(inputs[0]);
        Ok(vec![gpu_faces::units(inputs[0], None)?])
    }

    fn backward_cuda(&self, backward: &Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(gpu_faces::units(&backward.saved[0], Some(backward.gradient()))?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relievo_tensor::testing::{Tolerance, assert_gradients, random_tensor};

    #[test]
    fn gradients_of_normals_are_those_of_differences() {
        let faces = Faces::new(vec![[0, 1, 2], [1, 3, 2], [2, 3, 4], [4, 0, 3]]);
        let tolerance = Tolerance { norm: 2e-3, element: 2e-3 };
        for kind in [Normals::Faces, Normals::Smooth] {
            let vertices = random_tensor(31, [5, 3]);
            assert_gradients(&[vertices], 1.0 / 512.0, tolerance, |x| normals(&x[0], &faces, kind, true));
        }
        assert_gradients(&[random_tensor(5, [4, 3])], 1.0 / 512.0, tolerance, |x| normalised(&x[0]));
    }
}
