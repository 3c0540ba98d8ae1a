//! Cubes of textures: a small grid of colours for each face, as the Neural 3D Mesh Renderer has them.
//!
//! Axis k of a cube `[t,t,t,3]` belongs to vertex k of the face. Texel (i, j, k) is the colour where the weights of the
//! vertices are to each other as i : j : k.

use std::sync::Arc;

use relievo_tensor::Tensor;

use crate::mesh::{Image, Material, Mesh, MeshError, TextureCoordinates, Wrap};

/// The largest side of a cube: 64^3 texels are 3 MiB a face.
const MAX_SIDE: usize = 64;

/// Rows and columns of a face's tile ([`Mesh::with_texture_tiles`]).
const TILE: usize = 16;

/// The largest side of an image of tiles.
const MAX_IMAGE: usize = 16384;

/// The colour of faces without a material.
const GREY: [f32; 3] = [0.5; 3];

/// Ends short of the last texel, so that its neighbour exists.
const EPSILON: f32 = 1e-5;

/// How texture cubes are made ([`Mesh::texture_cubes`]).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CubeOptions {
    /// Texels along each axis, at least 2.
    pub side: usize,
    /// How images continue beyond [0, 1]; `None` for the material's own way.
    pub wrap: Option<Wrap>,
    /// What is wrapped.
    pub wrapped: Wrapped,
    /// How images are sampled.
    pub filter: Filter,
}

/// What is wrapped when a face extends beyond its image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wrapped {
    /// Each texel by itself: a face across a seam shows the image on both sides of it.
    #[default]
    Texels,
    /// The texture coordinates of the three corners, as in the original: a face across a seam shows the image
    /// backwards, squeezed between its wrapped corners.
    Corners,
}

/// How images are sampled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Filter {
    /// Between the four nearest pixels.
    #[default]
    Bilinear,
    /// The nearest pixel.
    Nearest,
}

impl Default for CubeOptions {
    /// The original's: a side of 4, bilinear; but wrapped by texels.
    fn default() -> Self {
        Self { side: 4, wrap: None, wrapped: Wrapped::default(), filter: Filter::default() }
    }
}

impl Mesh {
    /// Texture cubes `[F,t,t,t,3]` of all faces, t = `options.side`.
    ///
    /// | face | texel (i, j, k) |
    /// |---|---|
    /// | with an image and coordinates | the image, times the material's colour, at the mean of the corners' coordinates weighted by (i, j, k)/(i+j+k); (0, 0, 0) is at coordinate (0, 0) |
    /// | without, vertex colours c | (i c0 + j c1 + k c2)/(t-1) times the material's colour: interpolated between texels it is linear over the face, without an error |
    /// | other | the material's colour, or 0.5 without a material |
    ///
    /// Coordinates (0, 0) and (1, 1) are the centres of the image's lower left and upper right pixel.
    ///
    /// Source: Kato, Ushiku and Harada, *Neural 3D Mesh Renderer* (CVPR 2018), and its published code.
    ///
    /// # Errors
    /// For a mesh that is not sound ([`Mesh::check`]), a side below 2 or above 64, or more than 2^40 bytes.
    pub fn texture_cubes(&self, options: &CubeOptions) -> Result<Tensor, MeshError> {
        self.check()?;
        let side = options.side;
        let texels = side.saturating_pow(3).saturating_mul(3);
        let total = texels.saturating_mul(self.faces.len());
        let most = (1_u64 << 38).min(isize::MAX as u64 / size_of::<f32>() as u64);
        if !(2..=MAX_SIDE).contains(&side) || total as u64 > most {
            return Err(MeshError::CubeSize(side, self.faces.len()));
        }
        let mut cubes = vec![0.0; total];
        for (face, cube) in cubes.chunks_exact_mut(texels).enumerate() {
            self.fill_cube(face, cube, options);
        }
        Ok(Tensor::new(&cubes, [self.faces.len(), side, side, side, 3]).expect("the sizes agree"))
    }

    fn fill_cube(&self, face: usize, cube: &mut [f32], options: &CubeOptions) {
        let material = self.material(face);
        let colour = material.map(|material| material.colour);
        let image = material.and_then(|material| Some((material, material.image.as_deref()?)));
        let corners = self.texture_coordinates.as_ref().and_then(|texture| {
            Some(texture.faces[face]?.map(|corner| texture.coordinates[corner as usize]))
        });
        let vertex_colours = self.vertex_colours.as_ref();
        let vertex_colours =
            vertex_colours.map(|colours| self.faces[face].map(|vertex| colours[vertex as usize]));
        let steps = options.side - 1;
        let texels = cube.as_chunks_mut::<3>().0.iter_mut().zip(triples(options.side));
        if let (Some((material, image)), Some(corners)) = (image, corners) {
            let wrap = options.wrap.map_or(material.wrap, |wrap| [wrap; 2]);
            let sampler = Sampler { image, wrap, options };
            for (texel, steps) in texels {
                let sample = sampler.sample(corners, weights(steps));
                *texel = std::array::from_fn(|channel| sample[channel] * material.colour[channel]);
            }
        } else if let Some(vertex_colours) = vertex_colours {
            let colour = colour.unwrap_or([1.0; 3]);
            for (texel, triple) in texels {
                let shares = triple.map(|step| step as f32 / steps as f32);
                let mixed = |channel: usize| -> f32 {
                    vertex_colours.iter().zip(shares).map(|(colour, share)| share * colour[channel]).sum()
                };
                *texel = std::array::from_fn(|channel| colour[channel] * mixed(channel));
            }
        } else {
            texels.for_each(|(texel, _)| *texel = colour.unwrap_or(GREY));
        }
    }

    /// The same mesh with the colours of texture cubes `[F,t,t,t,3]` in a single image, for files: a tile of 16x16
    /// pixels for each face, ceil(sqrt F) tiles in a row. Vertices 0, 1, 2 lie in the lower left, upper left and upper
    /// right pixel of a tile. All faces get one new material; vertex colours are dropped.
    ///
    /// # Errors
    /// For a mesh that is not sound ([`Mesh::check`]), cubes of another shape or not on the CPU, or so many faces that
    /// the image had more than 16,384 columns.
    pub fn with_texture_tiles(&self, cubes: &Tensor) -> Result<Self, MeshError> {
        self.check()?;
        let faces = self.faces.len();
        let side = match cubes.shape().dims::<5>() {
            Some([count, a, b, c, 3]) if count == faces && a == b && b == c && a >= 2 => a,
            _ => return Err(MeshError::CubeShape { found: cubes.shape().to_string(), faces }),
        };
        if faces == 0 {
            return Ok(self.clone());
        }
        let across = (faces - 1).isqrt() + 1;
        let most = MAX_IMAGE / TILE;
        if across > most {
            return Err(MeshError::TooManyFaces(faces, most * most));
        }
        let down = faces.div_ceil(across);
        let [width, height] = [across * TILE, down * TILE];
        let mut rgb = vec![0; width * height * 3];
        let texels = side * side * side;
        let data = cubes.data().as_chunks::<3>().0;
        for (face, cube) in data.chunks_exact(texels).enumerate() {
            let [left, bottom] = [face % across * TILE, face / across * TILE];
            for (at, colour) in tile(cube, side).into_iter().enumerate() {
                let [x, y] = [left + at % TILE, bottom + at / TILE];
                // Rows run from the top in an image, from the bottom in tiles.
                let start = ((height - 1 - y) * width + x) * 3;
                rgb[start..start + 3]
                    .copy_from_slice(&colour.map(|c| (c.clamp(0.0, 1.0) * 255.0).round() as u8));
            }
        }
        let mut texture = TextureCoordinates::default();
        for face in 0..faces {
            let [left, bottom] = [face % across * TILE, face / across * TILE];
            let start = texture.coordinates.len() as u32;
            for [x, y] in [[0, 0], [0, TILE - 1], [TILE - 1, TILE - 1]] {
                let place = |pixel: usize, of: usize| (pixel as f64 / (of - 1) as f64) as f32;
                texture.coordinates.push([place(left + x, width), place(bottom + y, height)]);
            }
            texture.faces.push(Some([start, start + 1, start + 2]));
        }
        let image = Some(Arc::new(Image { width, height, rgb }));
        let wrap = [Wrap::ClampToEdge; 2];
        Ok(Self {
            name: self.name.clone(),
            vertices: self.vertices.clone(),
            faces: self.faces.clone(),
            normals: self.normals.clone(),
            vertex_colours: None,
            texture_coordinates: Some(texture),
            materials: vec![Material { name: "tiles".into(), image, wrap, ..Material::default() }],
            face_materials: vec![Some(0); faces],
        })
    }
}

/// The colours of a face's tile, row by row from the bottom.
fn tile(cube: &[[f32; 3]], side: usize) -> Vec<[f32; 3]> {
    let last = (TILE - 1) as f32;
    let colour = |column: usize, row: usize| {
        let [x, y] = [column as f32 / last, row as f32 / last];
        // Of the triangle (0,0), (0,1), (1,1).
        interpolated(cube, side, [1.0 - y, y - x, x])
    };
    let mut tile = Vec::with_capacity(TILE * TILE);
    for row in 0..TILE {
        for column in 0..TILE {
            // The pixels beside the diagonal copy it, because readers interpolate between pixels.
            tile.push(colour(if column == row + 1 { row } else { column }, row));
        }
    }
    tile
}

/// The colour of a cube at weights of the three vertices; those outside the face are clamped.
fn interpolated(cube: &[[f32; 3]], side: usize, weights: [f32; 3]) -> [f32; 3] {
    let steps = (side - 1) as f32;
    let places = weights.map(|weight| (weight * steps).clamp(0.0, steps - EPSILON));
    let first = places.map(|place| place as usize);
    let mut sum = [0.0; 3];
    for corner in 0..8 {
        let bits = [corner >> 2 & 1, corner >> 1 & 1, corner & 1];
        let mut weight = 1.0;
        let mut at = 0;
        for axis in 0..3 {
            let rest = places[axis] - first[axis] as f32;
            weight *= if bits[axis] == 1 { rest } else { 1.0 - rest };
            at = at * side + first[axis] + bits[axis];
        }
        sum.iter_mut().zip(cube[at]).for_each(|(sum, value)| *sum += weight * value);
    }
    sum
}

/// All (i, j, k), k fastest.
fn triples(side: usize) -> impl Iterator<Item = [usize; 3]> {
    (0..side * side * side).map(move |at| [at / (side * side), at / side % side, at % side])
}

/// (i, j, k)/(i+j+k), and 0 for (0, 0, 0).
fn weights(steps: [usize; 3]) -> [f32; 3] {
    let sum = steps.iter().sum::<usize>().max(1) as f32;
    steps.map(|step| step as f32 / sum)
}

/// Samples an image for the texels of a face.
struct Sampler<'a> {
    image: &'a Image,
    wrap: [Wrap; 2],
    options: &'a CubeOptions,
}

impl Sampler<'_> {
    fn sample(&self, corners: [[f32; 2]; 3], weights: [f32; 3]) -> [f32; 3] {
        let mean =
            |values: [f32; 3]| values.iter().zip(weights).map(|(value, weight)| value * weight).sum::<f32>();
        let place = [0, 1].map(|axis| {
            let (wrap, values) = (self.wrap[axis], corners.map(|corner| corner[axis]));
            match self.options.wrapped {
                Wrapped::Texels => wrap.apply(mean(values)),
                // Nothing is wrapped for a black border: there it is the sample that lies outside.
                Wrapped::Corners if wrap == Wrap::ClampToBorder => wrap.apply(mean(values)),
                Wrapped::Corners => Some(mean(values.map(|value| wrap.apply(value).unwrap_or(0.0)))),
            }
        });
        let [Some(u), Some(v)] = place else { return [0.0; 3] };
        let Image { width, height, .. } = *self.image;
        let [x, y] = [(u, width), (v, height)].map(|(place, size)| place * (size - 1) as f32);
        match self.options.filter {
            Filter::Nearest => self.pixel(x.round() as usize, y.round() as usize),
            Filter::Bilinear => {
                let [x0, y0] = [x, y].map(|place| place as usize);
                let [right, up] = [x - x0 as f32, y - y0 as f32];
                let neighbours = [
                    (x0, y0, (1.0 - right) * (1.0 - up)),
                    (x0, y0 + 1, (1.0 - right) * up),
                    (x0 + 1, y0, right * (1.0 - up)),
                    (x0 + 1, y0 + 1, right * up),
                ];
                let mut sum = [0.0; 3];
                for (x, y, weight) in neighbours {
                    sum.iter_mut().zip(self.pixel(x, y)).for_each(|(sum, value)| *sum += weight * value);
                }
                sum
            }
        }
    }

    /// A pixel in [0,1], rows from the bottom, beyond the border the nearest one.
    fn pixel(&self, x: usize, y: usize) -> [f32; 3] {
        let Image { width, height, ref rgb } = *self.image;
        let row = height - 1 - y.min(height - 1);
        let start = (row * width + x.min(width - 1)) * 3;
        std::array::from_fn(|channel| f32::from(rgb[start + channel]) / 255.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shapes::{cube, icosphere, quad};

    fn textured(mut mesh: Mesh, image: Image) -> Mesh {
        let image = Some(Arc::new(image));
        mesh.materials = vec![Material { name: "m".into(), image, ..Material::default() }];
        mesh.face_materials = vec![Some(0); mesh.faces.len()];
        mesh
    }

    /// Red grows with u, green with v, in pixels of which (0, 0) is the lower left.
    fn ramp(width: usize, height: usize) -> Image {
        let pixels = (0..height).rev().flat_map(|y| (0..width).map(move |x| [10 * x as u8, 20 * y as u8, 7]));
        Image { width, height, rgb: pixels.flatten().collect() }
    }

    fn texel(cubes: &Tensor, face: usize, [i, j, k]: [usize; 3]) -> [f32; 3] {
        let side = cubes.shape().dims::<5>().unwrap()[1];
        let at = (((face * side + i) * side + j) * side + k) * 3;
        std::array::from_fn(|channel| cubes.data()[at + channel] * 255.0)
    }

    fn close(a: [f32; 3], b: [f32; 3]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3)
    }

    #[test]
    fn texels_of_an_image_lie_between_the_corners() {
        // Corners (0,0), (1,0), (1,1) of an image whose colours are linear.
        let mesh = textured(quad(), ramp(11, 5));
        let cubes = mesh.texture_cubes(&CubeOptions::default()).unwrap();
        assert_eq!(cubes.shape().to_string(), "[2, 4, 4, 4, 3]");
        let expected = |[i, j, k]: [f32; 3]| {
            let sum = (i + j + k).max(1.0);
            [100.0 * (j + k) / sum, 80.0 * k / sum, 7.0]
        };
        for triple in triples(4) {
            let found = texel(&cubes, 0, triple);
            assert!(close(found, expected(triple.map(|step| step as f32))), "{triple:?} {found:?}");
        }
    }

    #[test]
    fn colours_stand_where_there_is_no_image() {
        let mut mesh = quad();
        mesh.materials =
            vec![Material { name: "red".into(), colour: [1.0, 0.2, 0.0], ..Material::default() }];
        mesh.face_materials = vec![Some(0), None];
        let cubes = mesh.texture_cubes(&CubeOptions { side: 2, ..Default::default() }).unwrap();
        assert!(triples(2).all(|at| close(texel(&cubes, 0, at), [255.0, 51.0, 0.0])));
        assert!(triples(2).all(|at| close(texel(&cubes, 1, at), [127.5; 3])));
        assert_eq!(
            mesh.texture_cubes(&CubeOptions { side: 1, ..Default::default() }).unwrap_err(),
            MeshError::CubeSize(1, 2)
        );
        assert_eq!(Mesh::default().texture_cubes(&CubeOptions::default()).unwrap().numel(), 0);
    }

    #[test]
    fn nearest_pixels_round_halves_up() {
        // Three pixels: position 2 u. The middle of an edge from 0 to 0.5 is 0.5, that of one from 0.5 to 1 is 1.5.
        let mut mesh = textured(quad(), ramp(3, 1));
        let texture = mesh.texture_coordinates.as_mut().unwrap();
        texture.coordinates = vec![[0.0, 0.0], [0.5, 0.0], [1.0, 0.0], [0.0, 0.0]];
        let options = CubeOptions { side: 3, filter: Filter::Nearest, ..Default::default() };
        let cubes = mesh.texture_cubes(&options).unwrap();
        assert!(close(texel(&cubes, 0, [1, 1, 0]), [10.0, 0.0, 7.0]));
        assert!(close(texel(&cubes, 0, [0, 1, 1]), [20.0, 0.0, 7.0]));
        assert!(close(texel(&cubes, 0, [0, 2, 1]), [10.0, 0.0, 7.0]));
    }

    #[test]
    fn a_face_across_a_seam_shows_both_sides_unless_corners_are_wrapped() {
        // u from 0.75 to 1.25, all at v = 0; eleven pixels, so red is 100 u.
        let mut mesh = textured(quad(), ramp(11, 1));
        let texture = mesh.texture_coordinates.as_mut().unwrap();
        texture.coordinates = vec![[0.75, 0.0], [1.25, 0.0], [1.25, 0.0], [0.75, 0.0]];
        let red = |options: &CubeOptions, j: usize| {
            texel(&mesh.texture_cubes(options).unwrap(), 0, [4 - j, j, 0])[0]
        };
        let along = |options: CubeOptions| -> Vec<f32> {
            (0..5).map(|j| (red(&CubeOptions { side: 5, ..options }, j) * 8.0).round() / 8.0).collect()
        };
        let plain = CubeOptions::default();
        assert_eq!(along(plain), [75.0, 87.5, 100.0, 12.5, 25.0]);
        assert_eq!(along(CubeOptions { wrapped: Wrapped::Corners, ..plain }), [75.0, 62.5, 50.0, 37.5, 25.0]);
        let with = |wrap| CubeOptions { wrap: Some(wrap), ..plain };
        assert_eq!(along(with(Wrap::MirroredRepeat)), [75.0, 87.5, 100.0, 87.5, 75.0]);
        assert_eq!(along(with(Wrap::ClampToEdge)), [75.0, 87.5, 100.0, 100.0, 100.0]);
        assert_eq!(along(with(Wrap::ClampToBorder)), [75.0, 87.5, 100.0, 0.0, 0.0]);
    }

    #[test]
    fn vertex_colours_are_linear_over_a_face() {
        let mut mesh = icosphere(0);
        let colours: Vec<[f32; 3]> =
            (0..12).map(|at| [at as f32 / 11.0, 0.3, 1.0 / (1 + at) as f32]).collect();
        mesh.vertex_colours = Some(colours.clone());
        for side in [2, 5] {
            let cubes = mesh.texture_cubes(&CubeOptions { side, ..Default::default() }).unwrap();
            let cubes = cubes.data().as_chunks::<3>().0;
            let weights = [0.2, 0.5, 0.3];
            for (face, cube) in mesh.faces.iter().zip(cubes.chunks(side * side * side)) {
                let found = interpolated(cube, side, weights);
                for channel in 0..3 {
                    let corners = face.map(|vertex| colours[vertex as usize][channel]);
                    let expected: f32 = corners.iter().zip(weights).map(|(c, w)| c * w).sum();
                    assert!((found[channel] - expected).abs() < 1e-6);
                }
            }
        }
    }

    /// Where a coordinate leads, by the definitions of the wraps: `None` for the black of a border, and for positions so near a
    /// jump that rounding decides.
    fn wrapped(wrap: Wrap, u: f64) -> Option<Option<f64>> {
        let to_jump = (u - u.round()).abs();
        match wrap {
            Wrap::ClampToEdge => Some(Some(u.clamp(0.0, 1.0))),
            Wrap::MirroredRepeat => Some(Some(1.0 - ((u.rem_euclid(2.0)) - 1.0).abs())),
            _ if to_jump < 1e-4 => None,
            Wrap::Repeat => Some(Some(u.rem_euclid(1.0))),
            Wrap::ClampToBorder => Some((0.0..1.0).contains(&u).then_some(u)),
        }
    }

    fn any_wrap() -> impl Strategy<Value = Wrap> {
        prop::sample::select(vec![Wrap::Repeat, Wrap::MirroredRepeat, Wrap::ClampToEdge, Wrap::ClampToBorder])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// Between the pixels of an image that is affine in column and row, bilinear samples are affine, too: every texel
        /// must have the value of that function where its weights, and the wraps by their definitions, lead.
        #[test]
        fn cubes_of_an_affine_image_have_its_values(
            (width, height) in (1_usize..12, 1_usize..12),
            (start, across, up) in (0_u8..20, 0_u8..9, 0_u8..9),
            places in prop::array::uniform3([-2.3_f32..3.4, -2.3_f32..3.4]),
            wraps in [any_wrap(), any_wrap()],
            by_corners in any::<bool>(),
            side in 2_usize..6,
        ) {
            let value = |x: f64, y: f64| f64::from(start) + f64::from(across) * x + f64::from(up) * y;
            let pixels = (0..height).rev().flat_map(|y| (0..width).map(move |x| [x as f64, y as f64]));
            let rgb: Vec<u8> = pixels.flat_map(|[x, y]| [value(x, y) as u8, value(0.0, y) as u8, 3]).collect();
            let mut mesh = textured(Mesh::new(vec![[0.0; 3]; 3], vec![[0, 1, 2]]), Image { width, height, rgb });
            mesh.materials[0].wrap = wraps;
            let faces = vec![Some([0, 1, 2])];
            mesh.texture_coordinates = Some(TextureCoordinates { coordinates: places.to_vec(), faces });
            let how = if by_corners { Wrapped::Corners } else { Wrapped::Texels };
            let cubes = mesh.texture_cubes(&CubeOptions { side, wrapped: how, ..Default::default() }).unwrap();
            for steps in triples(side).skip(1) {
                let sum = steps.iter().sum::<usize>() as f64;
                let mean = |of: [f64; 3]| (0..3).map(|k| steps[k] as f64 / sum * of[k]).sum::<f64>();
                let place = [0, 1].map(|axis| {
                    let (own, wrap) = (places.map(|place| f64::from(place[axis])), wraps[axis]);
                    // A border is where the texel is, whatever is wrapped.
                    if !by_corners || wrap == Wrap::ClampToBorder {
                        return wrapped(wrap, mean(own));
                    }
                    let [a, b, c] = own.map(|u| wrapped(wrap, u).map(|u| u.expect("no border")));
                    Some(Some(mean([a?, b?, c?])))
                });
                let [Some(u), Some(v)] = place else { continue };
                let right = match (u, v) {
                    (Some(u), Some(v)) => {
                        let [x, y] = [u * (width - 1) as f64, v * (height - 1) as f64];
                        [value(x, y), value(0.0, y), 3.0]
                    }
                    _ => [0.0; 3],
                };
                let found = texel(&cubes, 0, steps);
                for (found, right) in found.iter().zip(right) {
                    prop_assert!((f64::from(*found) - right).abs() < 0.01, "{steps:?}: {found} {right}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn tiles_have_the_colours_of_the_cubes(
            colours in prop::collection::vec(0.0_f32..1.0, 12 * 2 * 2 * 2 * 3),
        ) {
            let mesh = cube();
            let cubes = Tensor::new(&colours, [12, 2, 2, 2, 3]).unwrap();
            let tiled = mesh.with_texture_tiles(&cubes).unwrap();
            tiled.check().unwrap();
            let image = tiled.materials[0].image.as_deref().unwrap();
            // Twelve tiles: four in a row, three rows.
            prop_assert_eq!((image.width, image.height), (64, 48));
            let texture = tiled.texture_coordinates.as_ref().unwrap();
            let options = CubeOptions::default();
            let sampler = Sampler { image, wrap: [Wrap::ClampToEdge; 2], options: &options };
            for (face, places) in texture.faces.iter().enumerate() {
                let corners = places.unwrap().map(|place| texture.coordinates[place as usize]);
                let cube = &cubes.data().as_chunks::<3>().0[face * 8..][..8];
                // Pixel centres within the face, on its edges and in its corners.
                for [x, y] in [[0_u8, 0], [0, 15], [15, 15], [3, 9], [7, 7], [0, 4]] {
                    let [x, y] = [x, y].map(|pixel| f32::from(pixel) / 15.0);
                    let weights = [1.0 - y, y - x, x];
                    let found = sampler.sample(corners, weights);
                    let expected = interpolated(cube, 2, weights);
                    for (found, expected) in found.iter().zip(expected) {
                        prop_assert!((found - expected).abs() < 0.51 / 255.0 + 1e-4, "{found} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn tiles_stand_where_the_original_has_them() {
        // Face f has the colour f: 5 faces, 3 in a row. Rows count from the bottom.
        let mesh = Mesh::new(vec![[0.0; 3]; 3], vec![[0, 1, 2]; 5]);
        let cubes: Vec<f32> = (0..5).flat_map(|face| [face as f32 / 255.0; 24]).collect();
        let cubes = Tensor::new(&cubes, [5, 2, 2, 2, 3]).unwrap();
        let tiled = mesh.with_texture_tiles(&cubes).unwrap();
        let image = tiled.materials[0].image.as_deref().unwrap();
        assert_eq!((image.width, image.height), (48, 32));
        let pixel = |x: usize, y: usize| image.rgb[((31 - y) * 48 + x) * 3];
        assert_eq!([pixel(0, 0), pixel(16, 15), pixel(47, 0), pixel(15, 16), pixel(31, 31)], [0, 1, 2, 3, 4]);
        let texture = tiled.texture_coordinates.unwrap();
        let corners = texture.faces[4].unwrap().map(|place| texture.coordinates[place as usize]);
        let expected = [[16.0 / 47.0, 16.0 / 31.0], [16.0 / 47.0, 1.0], [31.0 / 47.0, 1.0]];
        assert_eq!(corners, expected);
        assert!(mesh.with_texture_tiles(&Tensor::zeros([4, 2, 2, 2, 3])).is_err());
        assert!(mesh.with_texture_tiles(&Tensor::zeros([5, 2, 2, 3, 3])).is_err());
    }
}
