//! The image's own pixels on the surface: sharper than the albedo, which has as few pixels as the network.

use relievo_render::Motion;

use crate::settings::ModelSettings;
use crate::visibility::{sample, smooth_step};

/// Shading below which a pixel says nothing of the colour under the light.
const DARKEST: f32 = 0.1;

/// How far behind the surface seen at a pixel a point may lie and still be taken for that surface, in depth: the maps
/// are coarse, and the depth of a pixel is that of its four samples.
const TOLERANCE: f32 = 0.015;

/// Cosines between normal and line of sight from which on a point counts as seen, and wholly so: at a grazing angle a
/// pixel is stretched over much surface.
const GRAZING: [f32; 2] = [0.15, 0.5];

/// What a model says of one image, as in [`crate::Prediction`]: maps of SxS, row by row.
#[derive(Debug, Clone, Copy)]
pub struct TextureParts<'a> {
    /// Depth in the canonical view.
    pub canonical_depth: &'a [f32],
    /// Its normals, three numbers each.
    pub normals: &'a [f32],
    /// Albedo in [-1,1], three numbers each.
    pub albedo: &'a [f32],
    /// `max(0, normal . direction)`.
    pub diffuse_shading: &'a [f32],
    /// Ambient, diffuse, direction.
    pub light: [f32; 5],
    /// Viewpoint.
    pub view: [f32; 6],
    /// Depth in the view of the image.
    pub depth: &'a [f32],
    /// Where the object is there.
    pub mask: &'a [f32],
}

/// An image of `side` x `side` pixels in [-1,1], row by row: the one the model saw, perhaps finer.
#[derive(Debug, Clone, Copy)]
pub struct FineImage<'a> {
    /// Three numbers for each pixel.
    pub values: &'a [f32],
    /// Rows and columns.
    pub side: usize,
}

/// The lit surface in the canonical view, three numbers in [-1,1] for each pair of a row and a column among `places`
/// (in pixels of the canonical view, from 0 to S-1): with the image's pixels where it shows the surface; with those
/// of the mirrored place, in the light that falls here, where it shows only that; else with the albedo, in that light.
///
/// # Panics
/// If a map is not of the settings' size.
pub fn image_texture(
    settings: &ModelSettings,
    parts: &TextureParts<'_>,
    image: FineImage<'_>,
    places: &[f32],
) -> Vec<f32> {
    let (size, camera) = (settings.image_size, settings.camera());
    let maps = [parts.canonical_depth, parts.diffuse_shading, parts.depth, parts.mask];
    assert!(maps.iter().all(|map| map.len() == size * size), "maps of {size} rows and columns");
    let motion = Motion::new(parts.view);
    let (focal, centre) = (camera.focal(), camera.centre());
    let [ambient, diffuse, ..] = parts.light;
    let shading = |u: f32, v: f32| ambient + diffuse * sample(parts.diffuse_shading, size, [u, v], 0, 1);
    let last = size as f32 - 1.0;
    let scale = image.side as f32 / size as f32;

    // The colour under the light and how much it is to be trusted, from the pixel that shows the place.
    let seen = |u: f32, v: f32| -> ([f32; 3], f32) {
        let depth = sample(parts.canonical_depth, size, [u, v], 0, 1);
        let point = motion.apply([depth * ((u - centre) / focal), depth * ((v - centre) / focal), depth]);
        let at = [0, 1].map(|axis| focal * point[axis] / point[2] + centre);
        let light = shading(u, v);
        if light < DARKEST || at.iter().any(|place| !(0.0..=last).contains(place)) {
            return ([0.0; 3], 0.0);
        }
        let normal: [f32; 3] = std::array::from_fn(|i| sample(parts.normals, size, [u, v], i, 3));
        let turned = motion.rotation.map(|row| dot(row, normal));
        let facing = dot(turned, point) / dot(point, point).sqrt();
        let hidden = point[2] > sample(parts.depth, size, at, 0, 1) + TOLERANCE;
        let inside = sample(parts.mask, size, at, 0, 1);
        let weight = if hidden { 0.0 } else { inside * smooth_step(facing, GRAZING) };
        let fine = at.map(|place| (place + 0.5) * scale - 0.5);
        let colour =
            std::array::from_fn(|i| (sample(image.values, image.side, fine, i, 3) / 2.0 + 0.5) / light);
        (colour, weight)
    };

    let mut texture = Vec::with_capacity(3 * places.len() * places.len());
    for &v in places {
        for &u in places {
            let (here, trust) = seen(u, v);
            let (mirrored, rest) = if trust < 1.0 { seen(last - u, v) } else { ([0.0; 3], 0.0) };
            let light = shading(u, v);
            for channel in 0..3 {
                let albedo = sample(parts.albedo, size, [u, v], channel, 3) / 2.0 + 0.5;
                let other = rest * mirrored[channel] + (1.0 - rest) * albedo;
                let colour = trust * here[channel] + (1.0 - trust) * other;
                texture.push((2.0 * colour * light - 1.0).clamp(-1.0, 1.0));
            }
        }
    }
    texture
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 64;

    /// A flat object lit from the front, in a viewpoint.
    struct Flat {
        depth: Vec<f32>,
        normals: Vec<f32>,
        albedo: Vec<f32>,
        mask: Vec<f32>,
        view: [f32; 6],
    }

    impl Flat {
        fn new(view: [f32; 6]) -> Self {
            let pixels = SIZE * SIZE;
            Self {
                depth: vec![1.0; pixels],
                normals: [0.0, 0.0, 1.0].repeat(pixels),
                albedo: vec![-0.5; 3 * pixels],
                mask: vec![1.0; pixels],
                view,
            }
        }

        fn texture(&self, image: FineImage<'_>, places: &[f32]) -> Vec<f32> {
            let parts = TextureParts {
                canonical_depth: &self.depth,
                normals: &self.normals,
                albedo: &self.albedo,
                diffuse_shading: &self.depth,
                light: [0.5, 0.5, 0.0, 0.0, 1.0],
                view: self.view,
                depth: &self.depth,
                mask: &self.mask,
            };
            image_texture(&ModelSettings::default(), &parts, image, places)
        }
    }

    /// A slope of colours, twice as fine as the maps.
    fn slope() -> Vec<f32> {
        let pixel = |at: usize| [(at % 128) as f32 / 127.0, (at / 128) as f32 / 127.0, 0.0];
        (0..128 * 128).flat_map(pixel).collect()
    }

    fn every_place() -> Vec<f32> {
        (0..SIZE).map(|place| place as f32).collect()
    }

    #[test]
    fn seen_from_the_front_it_is_the_image() {
        let values = slope();
        let image = FineImage { values: &values, side: 128 };
        let texture = Flat::new([0.0; 6]).texture(image, &every_place());
        for (at, colour) in texture.chunks_exact(3).enumerate() {
            let right = [at % SIZE, at / SIZE].map(|place| (place as f32 * 2.0 + 0.5) / 127.0);
            assert!((colour[0] - right[0]).abs() < 1e-4 && (colour[1] - right[1]).abs() < 1e-4, "{at}");
        }
    }

    #[test]
    fn a_moved_object_is_found_where_it_is() {
        let values = slope();
        let image = FineImage { values: &values, side: 128 };
        // Ten pixels to the right at distance 1.
        let shift = 10.0 / ModelSettings::default().camera().focal();
        let flat = Flat::new([0.0, 0.0, 0.0, shift, 0.0, 0.0]);
        let texture = flat.texture(image, &every_place());
        let at = |row: usize, column: usize| texture[3 * (row * SIZE + column)];
        assert!((at(30, 20) - (30.0 * 2.0 + 0.5) / 127.0).abs() < 1e-3);
        // What would lie outside comes from the mirrored place.
        assert!((at(30, 60) - at(30, 3)).abs() < 1e-3);
    }

    #[test]
    fn what_is_hidden_here_and_there_has_the_albedo() {
        let values = slope();
        let image = FineImage { values: &values, side: 128 };
        let mut flat = Flat::new([0.0; 6]);
        flat.mask.fill(0.0);
        let texture = flat.texture(image, &every_place());
        assert!(texture.iter().all(|value| (value + 0.5).abs() < 1e-4));
        let mut turned = Flat::new([0.0, 0.0, 0.0, 0.0, 0.0, 0.05]);
        turned.mask.fill(1.0);
        let texture = turned.texture(image, &every_place());
        assert!(texture.iter().all(|value| (value + 0.5).abs() < 1e-4), "behind what is seen there");
    }
}
