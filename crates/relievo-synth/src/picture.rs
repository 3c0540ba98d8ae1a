//! From a placed head to the picture and its truth.
//!
//! Two rasters see the same triangles. The fine one has four samples a pixel, at the quarter points around the pixel's
//! centre; each is textured and lit, and a pixel's colour and albedo are their means. The coarse one samples the pixel
//! centres (u = column, v = row), and gives the truth that has one value a pixel: depth, normal, mask.

use relievo_data::{Light, Picture, Truth};
use relievo_render::triangle::Raster;

use crate::appearance::{Appearance, Place};
use crate::asset::HeadModel;
use crate::background::Background;
use crate::pose::{TAN_HALF_FOV, View};

/// Greatest depth that is seen, and the truth's depth where there is no head.
pub(crate) const FAR: f32 = 1.1;

/// Everything that is in a picture.
pub(crate) struct Scene<'a> {
    pub model: &'a HeadModel,
    /// Vertices in the canonical frame.
    pub points: Vec<[f32; 3]>,
    pub appearance: Appearance,
    pub background: Background,
    pub light: Light,
    pub view: View,
}

/// What a raster's samples see: triangle and weights of the surface's corners, nearest first.
struct Visible {
    columns: usize,
    depth: Vec<f32>,
    triangle: Vec<u16>,
    weights: Vec<[f32; 2]>,
}

const NOTHING: u16 = u16::MAX;

impl Visible {
    fn new(columns: usize) -> Self {
        let count = columns * columns;
        Self {
            columns,
            depth: vec![FAR; count],
            triangle: vec![NOTHING; count],
            weights: vec![[0.0; 2]; count],
        }
    }

    /// `corners` in samples; `offset` of the first sample as the raster wants it.
    fn draw(&mut self, index: u16, corners: &[[f32; 3]; 3], offset: f32) {
        let raster = Raster { columns: self.columns, rows: self.columns, offset };
        let z = corners.map(|corner| corner[2]);
        raster.visit(corners, |sample| {
            let place = sample.row * self.columns + sample.column;
            if sample.depth < self.depth[place] {
                let [a, b, _] = sample.surface_weights(z);
                self.depth[place] = sample.depth;
                self.triangle[place] = index;
                self.weights[place] = [a, b];
            }
        });
    }
}

impl Scene<'_> {
    /// The picture at `size` x `size` pixels.
    pub fn render(&self, size: usize) -> (Picture, Truth) {
        let normals = vertex_normals(&self.points, &self.model.triangles);
        let seen: Vec<[f32; 3]> = self.points.iter().map(|&point| self.view.apply(point)).collect();
        let (fine, centres) = self.rasterise(&seen, size);

        let pixels = size * size;
        let mut picture = vec![0u8; pixels * 3];
        let mut truth = Truth {
            depth: centres.depth.clone(),
            normals: vec![0.0; pixels * 3],
            albedo: vec![0.0; pixels * 3],
            mask: vec![0; pixels],
            light: self.light,
            view: self.view.parameters,
        };
        for row in 0..size {
            for column in 0..size {
                let pixel = row * size + column;
                let (colour, mut albedo, on_head) = self.pixel(&fine, &normals, row, column);
                let triangle = centres.triangle[pixel];
                let mut normal = [0.0, 0.0, 1.0];
                if triangle != NOTHING {
                    truth.mask[pixel] = 1;
                    let weights = centres.weights[pixel];
                    normal = self.view.rotate(self.normal(&normals, triangle, weights));
                    if !on_head {
                        albedo = self.appearance.albedo(&self.place(triangle, weights));
                    }
                }
                for channel in 0..3 {
                    picture[pixel * 3 + channel] = (colour[channel].clamp(0.0, 1.0) * 255.0).round() as u8;
                }
                truth.albedo[pixel * 3..][..3].copy_from_slice(&albedo);
                truth.normals[pixel * 3..][..3].copy_from_slice(&normal);
            }
        }
        let side = size as u32;
        (Picture { width: side, height: side, pixels: picture }, truth)
    }

    fn rasterise(&self, seen: &[[f32; 3]], size: usize) -> (Visible, Visible) {
        let middle = (size - 1) as f32 / 2.0;
        let focal = middle / TAN_HALF_FOV;
        let screen: Vec<[f32; 3]> =
            seen.iter().map(|[x, y, z]| [x / z * focal + middle, y / z * focal + middle, *z]).collect();
        let mut fine = Visible::new(2 * size);
        let mut centres = Visible::new(size);
        for (index, corners) in self.model.triangles.iter().enumerate() {
            let corners = corners.map(|vertex| screen[usize::from(vertex)]);
            centres.draw(index as u16, &corners, 0.0);
            // Sample i of the fine raster lies at u = i / 2 - 1 / 4.
            fine.draw(index as u16, &corners.map(|[u, v, z]| [2.0 * u, 2.0 * v, z]), -0.5);
        }
        (fine, centres)
    }

    /// Colour and albedo of a pixel, and whether any of its samples lies on the head. Where none does, the background
    /// is both; where some do, the albedo is theirs alone.
    fn pixel(
        &self,
        fine: &Visible,
        normals: &[[f32; 3]],
        row: usize,
        column: usize,
    ) -> ([f32; 3], [f32; 3], bool) {
        let mut colour = [0.0; 3];
        let mut albedo = [0.0; 3];
        let mut on_head = 0.0;
        let across = (fine.columns / 2 - 1) as f32;
        for sub in 0..4 {
            let (sub_row, sub_column) = (2 * row + sub / 2, 2 * column + sub % 2);
            let sample = sub_row * fine.columns + sub_column;
            let triangle = fine.triangle[sample];
            if triangle == NOTHING {
                let [x, y] = [sub_column, sub_row].map(|i| (i as f32 / 2.0 - 0.25) / across - 0.5);
                let behind = self.background.at([x, y]);
                for channel in 0..3 {
                    colour[channel] += behind[channel] * 0.25;
                }
                continue;
            }
            let weights = fine.weights[sample];
            let surface = self.appearance.albedo(&self.place(triangle, weights));
            let shading = shading(&self.light, self.normal(normals, triangle, weights));
            on_head += 1.0;
            for channel in 0..3 {
                colour[channel] += surface[channel] * shading * 0.25;
                albedo[channel] += surface[channel];
            }
        }
        if on_head > 0.0 { (colour, albedo.map(|a| a / on_head), true) } else { (colour, colour, false) }
    }

    /// Unit normal in the canonical frame.
    fn normal(&self, normals: &[[f32; 3]], triangle: u16, [a, b]: [f32; 2]) -> [f32; 3] {
        let corners = self.model.triangles[usize::from(triangle)].map(|vertex| normals[usize::from(vertex)]);
        let c = 1.0 - a - b;
        unit(std::array::from_fn(|axis| a * corners[0][axis] + b * corners[1][axis] + c * corners[2][axis]))
    }

    fn place(&self, triangle: u16, [a, b]: [f32; 2]) -> Place {
        let index = usize::from(triangle);
        let corners = self.model.triangles[index].map(usize::from);
        let c = 1.0 - a - b;
        let [p, q, r] = corners.map(|vertex| self.model.vertices[vertex]);
        let [s, t, u] = corners.map(|vertex| self.model.masks[vertex]);
        Place {
            position: std::array::from_fn(|axis| a * p[axis] + b * q[axis] + c * r[axis]),
            masks: std::array::from_fn(|region| a * s[region] + b * t[region] + c * u[region]),
            part: self.model.parts[index],
        }
    }
}

/// Lambert's law as the model has it; `normal` in the canonical frame.
fn shading(light: &Light, normal: [f32; 3]) -> f32 {
    let cosine: f32 = normal.iter().zip(light.direction).map(|(n, l)| n * l).sum();
    light.ambient + light.diffuse * cosine.max(0.0)
}

/// Unit normals at vertices: the mean of the triangles around, weighted by area, with the sign of `t_u x t_v`, that is
/// into the head.
fn vertex_normals(points: &[[f32; 3]], triangles: &[[u16; 3]]) -> Vec<[f32; 3]> {
    let mut normals = vec![[0.0f32; 3]; points.len()];
    for corners in triangles {
        let [a, b, c] = corners.map(|vertex| points[usize::from(vertex)]);
        let [u, v]: [[f32; 3]; 2] = [b, c].map(|p| std::array::from_fn(|axis| p[axis] - a[axis]));
        let outward = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
        for &vertex in corners {
            for axis in 0..3 {
                normals[usize::from(vertex)][axis] -= outward[axis];
            }
        }
    }
    normals.into_iter().map(unit).collect()
}

fn unit(vector: [f32; 3]) -> [f32; 3] {
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length > 1e-12 { vector.map(|v| v / length) } else { [0.0, 0.0, 1.0] }
}
