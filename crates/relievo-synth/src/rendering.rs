//! Rendering: from a placed head to the image and its truth.
//!
//! Two rasters see the same triangles. The fine one has four samples a pixel, at the quarter points around the pixel's
//! centre; each is textured and lit, and a pixel's colour and albedo are their means. The coarse one samples the pixel
//! centres (u = column, v = row), and gives the truth that has one value a pixel: depth, normal, mask.

use relievo_data::{Image, Light, Truth};
use relievo_mesh::triangle::Raster;
use relievo_mesh::vector::{cross, sub};
use relievo_render::Camera;

use crate::appearance::{Appearance, Place};
use crate::asset::{HeadModel, Part};
use crate::background::Background;
use crate::pose::View;

/// Greatest depth that is seen, and the truth's depth where there is no head.
pub(crate) const FAR: f32 = 1.1;

/// The contents of an image.
pub(crate) struct Scene<'a> {
    pub model: &'a HeadModel,
    /// Vertices in the canonical frame.
    pub points: Vec<[f32; 3]>,
    pub appearance: Appearance,
    pub background: Background,
    pub light: Light,
    pub view: View,
}

/// A head without its background.
#[derive(Clone, Debug, PartialEq)]
pub struct CutOut {
    /// Rows and columns.
    pub side: usize,
    /// Red, green and blue, \[0,1\], row-major: of the part of a pixel that the head covers.
    pub colours: Vec<[f32; 3]>,
    /// Share of each pixel that the head covers, \[0,1\].
    pub cover: Vec<f32>,
}

/// The nearest surface at each sample of a raster: triangle and weights of its corners.
struct Visible {
    columns: usize,
    depth: Vec<f32>,
    triangle: Vec<u16>,
    weights: Vec<[f32; 2]>,
}

const NOTHING: u16 = u16::MAX;

impl Visible {
    /// An empty raster; surfaces beyond `far` are not drawn.
    fn new(columns: usize, far: f32) -> Self {
        let count = columns * columns;
        Self {
            columns,
            depth: vec![far; count],
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
    /// The image at `size` x `size` pixels.
    pub fn render(&self, size: usize) -> (Image, Truth) {
        let normals = vertex_normals(&self.points, self.triangles());
        let seen: Vec<[f32; 3]> = self.points.iter().map(|&point| self.view.apply(point)).collect();
        let (fine, centres) = self.rasterise(&seen, size);

        let pixels = size * size;
        let mut image = vec![0u8; pixels * 3];
        let mut truth = Truth {
            depth: centres.depth.clone(),
            normals: vec![0.0; pixels * 3],
            albedo: vec![0.0; pixels * 3],
            mask: vec![0; pixels],
            light: self.light,
            view: self.view.parameters,
            field_of_view: Camera::new(size).field_of_view_degrees,
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
                    image[pixel * 3 + channel] = (colour[channel].clamp(0.0, 1.0) * 255.0).round() as u8;
                }
                truth.albedo[pixel * 3..][..3].copy_from_slice(&albedo);
                truth.normals[pixel * 3..][..3].copy_from_slice(&normal);
            }
        }
        let side = size as u32;
        (Image { width: side, height: side, pixels: image }, truth)
    }

    /// The triangles that this head has: the curtain's, the last ones, only with long hair.
    fn triangles(&self) -> &[[u16; 3]] {
        let all = &self.model.triangles;
        if self.appearance.hair.is_long() {
            return all;
        }
        let end = self.model.parts.iter().position(|&part| part == Part::Curtain).unwrap_or(all.len());
        &all[..end]
    }

    /// The head alone, up to the depth `far`, its frame at `size` x `size` pixels, with so many pixels more on each
    /// side.
    pub fn cut_out(&self, size: usize, margin: usize, far: f32) -> CutOut {
        let normals = vertex_normals(&self.points, self.triangles());
        let seen: Vec<[f32; 3]> = self.points.iter().map(|&point| self.view.apply(point)).collect();
        let side = size + 2 * margin;
        let mut fine = Visible::new(2 * side, far);
        let margin = margin as f32;
        for (index, corners) in self.turned_here(&seen, size) {
            fine.draw(index, &doubled(&corners.map(|[u, v, z]| [u + margin, v + margin, z])), -0.5);
        }
        let mut cut_out = CutOut { side, colours: Vec::new(), cover: Vec::new() };
        for pixel in 0..side * side {
            let (colour, _, on_head) = self.surface(&fine, &normals, pixel / side, pixel % side);
            cut_out.colours.push(colour.map(|value| (value / on_head.max(1.0)).clamp(0.0, 1.0)));
            cut_out.cover.push(on_head / 4.0);
        }
        cut_out
    }

    /// The triangles that can be seen, with their corners on the screen: columns and rows of pixels, and the depth.
    fn turned_here(&self, seen: &[[f32; 3]], size: usize) -> impl Iterator<Item = (u16, [[f32; 3]; 3])> {
        let camera = Camera::new(size);
        let (focal, middle) = (camera.focal(), camera.centre());
        let screen: Vec<[f32; 3]> =
            seen.iter().map(|[x, y, z]| [x / z * focal + middle, y / z * focal + middle, *z]).collect();
        let corners =
            self.triangles().iter().map(move |corners| corners.map(|vertex| screen[usize::from(vertex)]));
        (0_u16..).zip(corners).filter(|(index, corners)| {
            self.model.parts[usize::from(*index)] == Part::Curtain || !turned_away(corners)
        })
    }

    fn rasterise(&self, seen: &[[f32; 3]], size: usize) -> (Visible, Visible) {
        let mut fine = Visible::new(2 * size, FAR);
        let mut centres = Visible::new(size, FAR);
        for (index, corners) in self.turned_here(seen, size) {
            centres.draw(index, &corners, 0.0);
            fine.draw(index, &doubled(&corners), -0.5);
        }
        (fine, centres)
    }

    /// Colour and albedo of a pixel, and whether any of its samples lies on the head. Where none does, the background
    /// is both; where some do, the albedo is theirs alone. The background is softer than a pixel: one sample does.
    fn pixel(
        &self,
        fine: &Visible,
        normals: &[[f32; 3]],
        row: usize,
        column: usize,
    ) -> ([f32; 3], [f32; 3], bool) {
        let (mut colour, albedo, on_head) = self.surface(fine, normals, row, column);
        for value in &mut colour {
            *value *= 0.25;
        }
        if on_head < 4.0 {
            let across = (fine.columns / 2 - 1) as f32;
            let behind = self.background.at([column, row].map(|i| i as f32 / across - 0.5));
            for channel in 0..3 {
                colour[channel] += behind[channel] * 0.25 * (4.0 - on_head);
            }
        }
        if on_head > 0.0 { (colour, albedo.map(|a| a / on_head), true) } else { (colour, colour, false) }
    }

    /// Sums of the colours and of the albedo of a pixel's four samples that lie on the head, and how many do.
    fn surface(
        &self,
        fine: &Visible,
        normals: &[[f32; 3]],
        row: usize,
        column: usize,
    ) -> ([f32; 3], [f32; 3], f32) {
        let mut colour = [0.0; 3];
        let mut albedo = [0.0; 3];
        let mut on_head = 0.0;
        for sub in 0..4 {
            let (sub_row, sub_column) = (2 * row + sub / 2, 2 * column + sub % 2);
            let sample = sub_row * fine.columns + sub_column;
            let triangle = fine.triangle[sample];
            if triangle == NOTHING {
                continue;
            }
            let weights = fine.weights[sample];
            let surface = self.appearance.albedo(&self.place(triangle, weights));
            let shading = shading(&self.light, self.normal(normals, triangle, weights));
            on_head += 1.0;
            for channel in 0..3 {
                colour[channel] += surface[channel] * shading;
                albedo[channel] += surface[channel];
            }
        }
        (colour, albedo, on_head)
    }

    /// Unit normal in the canonical frame.
    fn normal(&self, normals: &[[f32; 3]], triangle: u16, [a, b]: [f32; 2]) -> [f32; 3] {
        let corners = self.model.triangles[usize::from(triangle)].map(|vertex| normals[usize::from(vertex)]);
        let c = 1.0 - a - b;
        let normal = unit(std::array::from_fn(|axis| {
            a * corners[0][axis] + b * corners[1][axis] + c * corners[2][axis]
        }));
        // Only the curtain can be seen from inside.
        let inside =
            self.model.parts[usize::from(triangle)] == Part::Curtain && self.view.rotate(normal)[2] < 0.0;
        if inside { normal.map(|n| -n) } else { normal }
    }

    fn place(&self, triangle: u16, [a, b]: [f32; 2]) -> Place {
        let index = usize::from(triangle);
        let corners = self.model.triangles[index].map(usize::from);
        let c = 1.0 - a - b;
        let [p, q, r] = corners.map(|vertex| self.model.vertices[vertex]);
        let [s, t, u] = corners.map(|vertex| self.model.masks[vertex]);
        let [d, e, f] = corners.map(|vertex| self.model.wraps[vertex]);
        Place {
            position: std::array::from_fn(|axis| a * p[axis] + b * q[axis] + c * r[axis]),
            wrap: std::array::from_fn(|axis| a * d[axis] + b * e[axis] + c * f[axis]),
            masks: std::array::from_fn(|region| a * s[region] + b * t[region] + c * u[region]),
            part: self.model.parts[index],
        }
    }
}

/// Corners in samples of the fine raster: sample i lies at u = i / 2 - 1 / 4.
fn doubled(corners: &[[f32; 3]; 3]) -> [[f32; 3]; 3] {
    corners.map(|[u, v, z]| [2.0 * u, 2.0 * v, z])
}

/// Whether a triangle on the screen is seen from inside, as none is on a closed surface that is seen from outside.
fn turned_away([a, b, c]: &[[f32; 3]; 3]) -> bool {
    (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) >= 0.0
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
        let inward = cross(sub(b, a), sub(c, a));
        for normal in corners.map(usize::from) {
            normals[normal] = sub(normals[normal], inward);
        }
    }
    normals.into_iter().map(unit).collect()
}

fn unit(vector: [f32; 3]) -> [f32; 3] {
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length > 1e-12 { vector.map(|v| v / length) } else { [0.0, 0.0, 1.0] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::Heads;

    const SIZE: usize = 128;

    /// Point of a pixel at a depth.
    fn lift(column: usize, row: usize, depth: f32) -> [f32; 3] {
        Camera::new(SIZE).lift(column as f32, row as f32, depth)
    }

    /// Pixels whose 5 x 5 neighbourhood lies on the head.
    fn interior(truth: &Truth) -> Vec<(usize, usize)> {
        (2..SIZE - 2)
            .flat_map(|row| (2..SIZE - 2).map(move |column| (row, column)))
            .filter(|&(row, column)| {
                (row - 2..=row + 2).all(|r| (column - 2..=column + 2).all(|c| truth.mask[r * SIZE + c] == 1))
            })
            .collect()
    }

    fn share(count: usize, of: usize) -> f32 {
        count as f32 / of as f32
    }

    #[test]
    fn the_view_moves_the_canonical_surface_onto_the_one_that_is_seen() {
        for number in 0..12 {
            let scene = Heads::range(5, 0, 100).scene([number, 0]);
            let (_, truth) = scene.render(SIZE);
            let view = View::new(truth.view);
            let frontal = Scene { view: View::new([0.0; 6]), ..Heads::range(5, 0, 100).scene([number, 0]) };
            let (_, canonical) = frontal.render(SIZE);
            // Lift a canonical pixel, move it, and see whether the depth there is its own. What the turned head hides
            // lies behind; nothing lies in front.
            let inside = interior(&canonical);
            let (mut met, mut before) = (0, 0);
            for &(row, column) in &inside {
                let moved = view.apply(lift(column, row, canonical.depth[row * SIZE + column]));
                let z = moved[2];
                let [u, v] = Camera::new(SIZE).project(moved);
                if ![u, v].iter().all(|place| (1.0..(SIZE - 2) as f32).contains(place)) {
                    continue;
                }
                let (u, v) = (u.round() as usize, v.round() as usize);
                met += usize::from((truth.depth[v * SIZE + u] - z).abs() < 2e-3);
                let around = (v - 1..=v + 1).flat_map(|v| (u - 1..=u + 1).map(move |u| v * SIZE + u));
                let nearest = around.map(|pixel| truth.depth[pixel]).fold(f32::MAX, f32::min);
                before += usize::from(nearest > z + 2e-3);
            }
            assert!(share(met, inside.len()) > 0.6, "head {number}: {met} of {}", inside.len());
            assert!(share(before, inside.len()) < 0.005, "head {number}: {before} of {}", inside.len());
        }
    }

    #[test]
    fn the_image_is_albedo_times_shading() {
        for number in 0..12 {
            let scene = Heads::range(5, 0, 100).scene([number, 0]);
            let (image, truth) = scene.render(SIZE);
            let inside = interior(&truth);
            let mut close = 0;
            for &(row, column) in &inside {
                let pixel = row * SIZE + column;
                // The light is given in the canonical frame, the normals in the view's.
                let light = scene.view.rotate(truth.light.direction);
                let cosine: f32 = (0..3).map(|k| light[k] * truth.normals[pixel * 3 + k]).sum();
                let shading = truth.light.ambient + truth.light.diffuse * cosine.max(0.0);
                close += usize::from((0..3).all(|channel| {
                    let expected = (truth.albedo[pixel * 3 + channel] * shading).min(1.0);
                    (f32::from(image.pixels[pixel * 3 + channel]) / 255.0 - expected).abs() < 0.015
                }));
            }
            assert!(share(close, inside.len()) > 0.93, "head {number}: {close} of {}", inside.len());
        }
    }

    #[test]
    fn normals_are_those_of_the_depth() {
        for number in 0..12 {
            let (_, truth) = Heads::range(5, 0, 100).scene([number, 0]).render(SIZE);
            let inside = interior(&truth);
            let mut angles: Vec<f32> = inside
                .iter()
                .map(|&(row, column)| {
                    let point = |r: usize, c: usize| lift(c, r, truth.depth[r * SIZE + c]);
                    let difference =
                        |a: [f32; 3], b: [f32; 3]| -> [f32; 3] { std::array::from_fn(|k| b[k] - a[k]) };
                    let u = difference(point(row, column - 1), point(row, column + 1));
                    let v = difference(point(row - 1, column), point(row + 1, column));
                    let across = unit([
                        u[1] * v[2] - u[2] * v[1],
                        u[2] * v[0] - u[0] * v[2],
                        u[0] * v[1] - u[1] * v[0],
                    ]);
                    let normal = &truth.normals[(row * SIZE + column) * 3..][..3];
                    assert!((normal.iter().map(|n| n * n).sum::<f32>() - 1.0).abs() < 1e-3);
                    across.iter().zip(normal).map(|(a, n)| a * n).sum::<f32>().clamp(-1.0, 1.0).acos()
                })
                .collect();
            angles.sort_by(f32::total_cmp);
            let at = |share: f32| angles[(share * angles.len() as f32) as usize].to_degrees();
            assert!(at(0.5) < 4.0 && at(0.8) < 12.0, "head {number}: {} and {} degrees", at(0.5), at(0.8));
        }
    }

    #[test]
    fn images_of_different_sizes_show_the_same_head() {
        let scene = Heads::range(5, 0, 100).scene([3, 0]);
        let (large, _) = scene.render(128);
        let (small, _) = scene.render(64);
        // Pixel centres of the two rasters coincide at the corners only, so compare with the nearest pixel.
        let mut difference = 0.0;
        for index in 0..64 * 64 {
            let (row, column) = (index / 64, index % 64);
            let [r, c] = [row, column].map(|i| (i * 127 + 31) / 63);
            for channel in 0..3 {
                let [a, b] = [small.pixels[index * 3 + channel], large.pixels[(r * 128 + c) * 3 + channel]];
                difference += f32::from(a.abs_diff(b)) / 255.0;
            }
        }
        assert!(difference / (64.0 * 64.0 * 3.0) < 0.05, "{difference}");
    }
}
