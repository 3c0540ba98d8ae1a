//! The photographs' own pixels on the surface, with the light taken out: sharper than the albedo, which has as few
//! pixels as the network.
//!
//! A place of the surface gets its colour from the pixel that shows it, if one does (`visibility.rs`), else from the
//! pixel that shows the mirrored place, else from the albedo. The three disagree in brightness and tint, so what is put
//! beside a seen pixel is first shifted by the difference of the two, continued smoothly into where only one of them
//! is known (`fill.rs`): seams have no step. Several photographs of one object are put together the same way: where more
//! than one shows a place, the straightest view of it counts most.

use rayon::prelude::*;
use relievo_tensor::{Error, Tensor};

use crate::fill::filled;
use crate::settings::ModelSettings;
use crate::visibility::{Enlarged, Seen, Visibility, sample, smooth_step, visibility};

/// The least light that is taken out, as a share of the mean: below it a pixel is brightened no further, since shading
/// is least certain where it is smallest.
const LEAST_LIGHT: f32 = 0.5;

/// Passes of a 3x3 binomial filter over the shading before it is taken out. The model's shading has creases (around
/// the mouth, along the jaw) that are not where the photograph has them, and would leave bright lines.
const SMOOTHING: usize = 12;

/// Trust from which on a pixel takes part, and takes all: between, two sources are mixed. Narrow, so that features
/// which do not lie exactly on each other are not seen twice.
const MIXED: [f32; 2] = [0.25, 0.6];

/// How steeply a photograph's share in a place falls with the angle at which it sees it: this power of the cosine.
/// Photographs do not lie exactly on each other, so mixtures of several are blurred.
const STRAIGHTEST: i32 = 24;

/// The most by which the colours of a photograph are multiplied to match those of another.
const MOST_GAIN: f32 = 3.0;

/// What a model says of one image, as in [`crate::Prediction`]: maps of SxS, row by row.
#[derive(Debug, Clone, Copy)]
pub struct TextureParts<'a> {
    /// Depth in the canonical view, `[S,S]`.
    pub canonical_depth: &'a [f32],
    /// Its normals, `[S,S,3]` of length one.
    pub normals: &'a [f32],
    /// Albedo, `[S,S,3]` in [-1,1].
    pub albedo: &'a [f32],
    /// `max(0, normal . direction)`, `[S,S]`.
    pub diffuse_shading: &'a [f32],
    /// Ambient, diffuse, direction (x, y, z) of length one.
    pub light: [f32; 5],
    /// Viewpoint: radians about x, y, z, translation along x, y, z.
    pub view: [f32; 6],
}

/// An image of `side` x `side` pixels in [-1,1], row by row: the one the model saw, perhaps finer.
#[derive(Debug, Clone, Copy)]
pub struct FineImage<'a> {
    /// Three numbers for each pixel.
    pub values: &'a [f32],
    /// Rows and columns.
    pub side: usize,
}

/// Colours of the surface in the canonical view at pairs of a row and a column.
#[derive(Debug, Clone)]
pub struct ImageTexture {
    /// In \[0,1\] and beyond, in even light.
    texels: Tensor,
    /// The image's light on each place, over its mean.
    light: Tensor,
    /// The mean of the image's light on what it shows: ambient and diffuse.
    mean_light: f32,
    places: Vec<f32>,
}

impl ImageTexture {
    /// The mean of the image's light on what it shows: [`ImageTexture::even`] shows colours under it.
    pub fn mean_light(&self) -> f32 {
        self.mean_light
    }

    /// In light that is the same everywhere, as strong as the image's on average, for viewers that light the surface:
    /// three numbers in \[-1,1\] for each place, row by row.
    pub fn even(&self) -> Vec<f32> {
        self.map(|_, colour| colour.map(signed))
    }

    /// In the image's light, as [`ImageTexture::even`]: where the image shows the surface, its own pixels.
    pub fn lit(&self) -> Vec<f32> {
        let light = self.light.data();
        self.map(|place, colour| colour.map(|value| signed(value * light[place])))
    }

    /// In another light, given as a factor for red, green and blue at each of `size` rows and columns of the canonical view
    /// (ambient + diffuse * max(0, normal . direction), say); otherwise as [`ImageTexture::even`].
    ///
    /// # Panics
    /// If the light has another size.
    pub fn relit(&self, light: &[[f32; 3]], size: usize) -> Vec<f32> {
        assert_eq!(light.len(), size * size, "light for {size} rows and columns");
        let count = self.places.len();
        self.map(|place, colour| {
            let at = [self.places[place % count], self.places[place / count]];
            let light = sample(light, size, at);
            std::array::from_fn(|channel| {
                let light = light[channel] / self.mean_light;
                ((signed(colour[channel]) + 1.0) * light - 1.0).clamp(-1.0, 1.0)
            })
        })
    }

    /// `change` of the number and the colour of each place.
    fn map(&self, change: impl Fn(usize, [f32; 3]) -> [f32; 3] + Sync) -> Vec<f32> {
        let texels = texels(&self.texels);
        let mut values = vec![0.0; 3 * texels.len()];
        let places = values.as_chunks_mut::<3>().0.par_iter_mut().zip(texels).enumerate();
        places.with_min_len(LEAST_TASK).for_each(|(place, (value, [red, green, blue, _]))| {
            *value = change(place, [*red, *green, *blue]);
        });
        values
    }
}

/// From \[0,1\] to \[-1,1\], clamped.
fn signed(value: f32) -> f32 {
    (2.0 * value - 1.0).clamp(-1.0, 1.0)
}

/// The surface in the canonical view in the pixels of images that show it, at pairs of a row and a column among `places`
/// (in pixels of the canonical view, 0 to S-1), which must be symmetric: the k-th from the left is as far from column 0 as
/// the k-th from the right from column S-1. Brightness, tint and light are those of the first image; depth, normals and
/// albedo are the same for all.
///
/// # Errors
/// If the engine refuses the maps.
///
/// # Panics
/// If a map is not of the settings' size, or there is no image.
pub fn image_texture(
    settings: &ModelSettings,
    images: &[(TextureParts<'_>, FineImage<'_>)],
    places: &[f32],
) -> Result<ImageTexture, Error> {
    let (size, count) = (settings.image_size, places.len());
    let parts = &images[0].0;
    let Unlit { texels: mut own, mut facing, light, mean } =
        Unlit::new(settings, parts, images[0].1, places)?;
    for (parts, image) in &images[1..] {
        let mut other = Unlit::new(settings, parts, *image, places)?;
        other.match_colours(&own);
        add_view(own.data_mut().as_chunks_mut().0, facing.data_mut(), &other);
    }
    let albedo: Vec<Texel> =
        padded(parts.albedo).map(|albedo| albedo.map(|value| (value / 2.0 + 0.5) * mean)).collect();
    let albedo = Enlarged::new(&albedo, size, places);
    let albedo = |row: usize, texels: &mut [Texel]| albedo.write_row(row, texels);
    let own = Layer { texels: texels(&own), side: count, mirrored: false };
    // Rows are made as they are needed, some of them twice: that takes less time than to write them to memory.
    let mirrored = joined(albedo, Layer { mirrored: true, ..own });
    let all = joined(mirrored, own);
    let texels = rows_of(count, all);
    Ok(ImageTexture { texels, light, mean_light: mean, places: places.to_vec() })
}

/// A colour, and how much it is to be trusted: four numbers fill a vector register, and three do not.
type Texel = [f32; 4];

/// The texels of a tensor `[n,n,4]`. What is as large as a texture is a tensor, because those reuse their memory: to touch
/// memory that is new to the process takes as long as the work on it.
fn texels(tensor: &Tensor) -> &[Texel] {
    tensor.data().as_chunks().0
}

/// Colours as texels that are not trusted.
fn padded(values: &[f32]) -> impl Iterator<Item = Texel> {
    values.as_chunks::<3>().0.iter().map(|&[red, green, blue]| [red, green, blue, 0.0])
}

/// An image on the surface, its light taken out.
struct Unlit {
    /// Trusted as far as the image is to be trusted to show each place.
    texels: Tensor,
    /// How straight on it sees each place.
    facing: Tensor,
    /// The image's light on each place, over its mean.
    light: Tensor,
    /// The mean of the image's light on what it shows.
    mean: f32,
}

impl Unlit {
    fn new(
        settings: &ModelSettings,
        parts: &TextureParts<'_>,
        image: FineImage<'_>,
        places: &[f32],
    ) -> Result<Self, Error> {
        let (size, count) = (settings.image_size, places.len());
        assert!(
            [parts.canonical_depth, parts.diffuse_shading].iter().all(|map| map.len() == size * size),
            "maps of {size} rows and columns"
        );
        let Visibility { seen, facing } =
            visibility(settings.camera(), parts.canonical_depth, parts.normals, parts.view, places)?;
        let shading = Enlarged::new(smooth_shading(parts, size).as_chunks::<1>().0, size, places);
        let mut light = rows_of(count, |row, light: &mut [[f32; 1]]| shading.write_row(row, light));
        let mean = mean_light(light.data(), seen.data().as_chunks().0);
        light
            .data_mut()
            .par_iter_mut()
            .with_min_len(LEAST_TASK)
            .for_each(|light| *light = (*light / mean).max(LEAST_LIGHT));

        let scale = image.side as f32 / size as f32;
        let pixels = rows_of(image.side, |row, pixels: &mut [Texel]| {
            let values = &image.values[3 * row * image.side..][..3 * image.side];
            pixels.iter_mut().zip(padded(values)).for_each(|(pixel, colour)| *pixel = colour);
        });
        let (pixels, seen): (_, &[Seen]) = (texels(&pixels), seen.data().as_chunks().0);
        let texels = rows_of(count, |row, own: &mut [Texel]| {
            let here = row * count..(row + 1) * count;
            let here = seen[here.clone()].iter().zip(&light.data()[here]);
            for (own, ([column, row, weight], light)) in own.iter_mut().zip(here) {
                let pixel = [column, row].map(|place| (place + 0.5) * scale - 0.5);
                *own = sample(pixels, image.side, pixel).map(|value| (value / 2.0 + 0.5) / light);
                own[3] = *weight;
            }
        });
        Ok(Self { texels, facing, light, mean })
    }

    /// Brings the colours to those of a texture that is trusted so far: by a factor, then by a shift, continued smoothly to
    /// what only this image shows.
    fn match_colours(&mut self, texture: &Tensor) {
        let texture = texels(texture);
        let mut sums = [[0.0_f64; 3]; 2];
        for (known, own) in texture.iter().zip(texels(&self.texels)) {
            let weight = f64::from(known[3].min(own[3]));
            for i in 0..3 {
                sums[0][i] += weight * f64::from(known[i]);
                sums[1][i] += weight * f64::from(own[i]);
            }
        }
        let gain: [f32; 3] = std::array::from_fn(|i| match sums[1][i] {
            0.0 => 1.0,
            own => ((sums[0][i] / own) as f32).clamp(1.0 / MOST_GAIN, MOST_GAIN),
        });
        let side = texture.len().isqrt();
        let shift = filled(side, |row, differences| {
            let pairs = texture[row * side..].iter().zip(&texels(&self.texels)[row * side..]);
            for (difference, (known, own)) in differences.iter_mut().zip(pairs) {
                let [red, green, blue] = [0, 1, 2].map(|i| known[i] - gain[i] * own[i]);
                *difference = [red, green, blue, known[3].min(own[3])];
            }
        });
        let own: &mut [Texel] = self.texels.data_mut().as_chunks_mut().0;
        let rows = own.par_chunks_mut(side.max(1)).enumerate();
        rows.for_each(|(row, texels)| {
            for (texel, shift) in texels.iter_mut().zip(shift.row(row)) {
                (0..3).for_each(|i| texel[i] = gain[i] * texel[i] + shift[i]);
            }
        });
    }
}

/// Adds another view to a texture: where both know a place, the one that sees it straighter counts most.
fn add_view(own: &mut [Texel], facing: &mut [f32], other: &Unlit) {
    let others = texels(&other.texels).iter().zip(other.facing.data());
    for ((texel, facing), (added, other_facing)) in own.iter_mut().zip(facing).zip(others) {
        // Over the larger of the cosines: powers of small ones are too small for numbers.
        let most = facing.max(*other_facing).max(f32::MIN_POSITIVE);
        let share = |trust: f32, facing: f32| trust * (facing / most).powi(STRAIGHTEST);
        let (before, new) = (share(texel[3], *facing), share(added[3], *other_facing));
        if new > 0.0 {
            let share = new / (before + new);
            let [red, green, blue] = [0, 1, 2].map(|i| (1.0 - share) * texel[i] + share * added[i]);
            *texel = [red, green, blue, texel[3].max(added[3])];
            *facing = (1.0 - share) * *facing + share * other_facing;
        }
    }
}

/// Least places that a thread takes at a time.
const LEAST_TASK: usize = 4096;

/// `side` rows of as many texels or other chunks of `C` numbers, each row written by `write`: `[side,side,C]`.
fn rows_of<const C: usize>(side: usize, write: impl Fn(usize, &mut [[f32; C]]) + Sync) -> Tensor {
    let mut rows = Tensor::empty([side, side, C]);
    let least = LEAST_TASK.div_ceil(side.max(1));
    let lines = rows.data_mut().as_chunks_mut().0.par_chunks_mut(side.max(1)).enumerate();
    lines.with_min_len(least).for_each(|(number, row)| write(number, row));
    rows
}

/// Rows of texels, which may run from right to left.
#[derive(Clone, Copy)]
struct Layer<'a> {
    texels: &'a [Texel],
    side: usize,
    mirrored: bool,
}

impl Layer<'_> {
    /// `change(a place of a row of this size, the texel there)`, for a whole row.
    #[inline(always)]
    fn each(&self, row: usize, changed: &mut [Texel], change: impl Fn(&mut Texel, Texel)) {
        let texels = self.texels[row * self.side..][..self.side].iter();
        if self.mirrored {
            changed.iter_mut().zip(texels.rev()).for_each(|(changed, texel)| change(changed, *texel));
        } else {
            changed.iter_mut().zip(texels).for_each(|(changed, texel)| change(changed, *texel));
        }
    }
}

/// Writes the rows of a texture that is `better` where that is to be trusted and `base` elsewhere, shifted by their
/// difference where both are known. The fourth numbers have no meaning.
fn joined<'a>(
    base: impl Fn(usize, &mut [Texel]) + Sync + 'a,
    better: Layer<'a>,
) -> impl Fn(usize, &mut [Texel]) + Sync + 'a {
    let shift = filled(better.side, |row, differences| {
        base(row, differences);
        better.each(row, differences, |difference, texel| {
            *difference = std::array::from_fn(|i| texel[i] - difference[i]);
            difference[3] = texel[3];
        });
    });
    move |row, joined| {
        base(row, joined);
        for (joined, shift) in joined.iter_mut().zip(shift.row(row)) {
            *joined = std::array::from_fn(|i| joined[i] + shift[i]);
        }
        better.each(row, joined, |joined, texel| {
            let share = smooth_step(texel[3], MIXED);
            *joined = std::array::from_fn(|i| share * texel[i] + (1.0 - share) * joined[i]);
        });
    }
}

/// Ambient and diffuse light on every pixel, smoothed.
fn smooth_shading(parts: &TextureParts<'_>, size: usize) -> Vec<f32> {
    let [ambient, diffuse, ..] = parts.light;
    let mut light: Vec<f32> = parts.diffuse_shading.iter().map(|share| ambient + diffuse * share).collect();
    for _ in 0..SMOOTHING {
        for step in [1, size] {
            let before = light.clone();
            for (place, light) in light.iter_mut().enumerate() {
                let along = if step == 1 { place % size } else { place / size };
                let low = if along > 0 { place - step } else { place };
                let high = if along + 1 < size { place + step } else { place };
                *light = 0.25 * (before[low] + 2.0 * before[place] + before[high]);
            }
        }
    }
    light
}

/// The mean of the light on what is seen; of all if nothing is. Above zero.
fn mean_light(light: &[f32], seen: &[Seen]) -> f32 {
    let total: f64 = seen.iter().map(|[.., weight]| f64::from(*weight)).sum();
    let mean = match total {
        0.0 => light.iter().map(|light| f64::from(*light)).sum::<f64>() / light.len().max(1) as f64,
        total => {
            let weighted =
                light.iter().zip(seen).map(|(light, [.., weight])| f64::from(*light) * f64::from(*weight));
            weighted.sum::<f64>() / total
        }
    };
    (mean as f32).max(1e-3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 64;

    /// A flat object in a viewpoint, lit by an ambient light of 0.5 and by `diffuse` on each column.
    struct Flat {
        depth: Vec<f32>,
        normals: Vec<f32>,
        albedo: Vec<f32>,
        diffuse: Vec<f32>,
        view: [f32; 6],
    }

    impl Flat {
        fn new(view: [f32; 6], diffuse: impl Fn(usize) -> f32) -> Self {
            let pixels = SIZE * SIZE;
            Self {
                depth: vec![1.0; pixels],
                normals: [0.0, 0.0, 1.0].repeat(pixels),
                albedo: vec![-0.5; 3 * pixels],
                diffuse: (0..pixels).map(|at| diffuse(at % SIZE)).collect(),
                view,
            }
        }

        fn parts(&self) -> TextureParts<'_> {
            TextureParts {
                canonical_depth: &self.depth,
                normals: &self.normals,
                albedo: &self.albedo,
                diffuse_shading: &self.diffuse,
                light: [0.5, 0.5, 0.0, 0.0, 1.0],
                view: self.view,
            }
        }

        fn texture(&self, image: FineImage<'_>) -> ImageTexture {
            let places: Vec<f32> = (0..SIZE).map(|place| place as f32).collect();
            image_texture(&ModelSettings::default(), &[(self.parts(), image)], &places).unwrap()
        }
    }

    /// A slope of colours, twice as fine as the maps.
    fn slope() -> Vec<f32> {
        let pixel = |at: usize| [(at % 128) as f32 / 127.0, (at / 128) as f32 / 127.0, 0.0];
        (0..128 * 128).flat_map(pixel).collect()
    }

    fn red(values: &[f32], row: usize, column: usize) -> f32 {
        values[3 * (row * SIZE + column)]
    }

    #[test]
    fn seen_from_the_front_it_is_the_image_and_in_even_light_too() {
        let values = slope();
        let texture = Flat::new([0.0; 6], |_| 1.0).texture(FineImage { values: &values, side: 128 });
        assert_eq!(texture.even(), texture.lit());
        let half = texture.relit(&[[0.5; 3]; SIZE * SIZE], SIZE);
        assert!((red(&half, 9, 9) - ((red(&texture.even(), 9, 9) + 1.0) / 2.0 - 1.0)).abs() < 1e-5);
        for row in 1..SIZE - 1 {
            for column in 1..SIZE - 1 {
                let right = (column as f32 * 2.0 + 0.5) / 127.0;
                assert!((red(&texture.lit(), row, column) - right).abs() < 1e-4, "{row} {column}");
            }
        }
    }

    #[test]
    fn the_light_is_taken_out_but_not_where_there_is_hardly_any() {
        // A grey object, brighter to the right; at the left edge the light is said to be much weaker than it is.
        let diffuse = |column: usize| if column < 6 { -0.9 } else { 0.2 + 0.8 * column as f32 / 63.0 };
        let pixel = |at: usize| 0.6 * (0.5 + 0.5 * (0.2 + 0.8 * (at % SIZE) as f32 / 63.0)) * 2.0 - 1.0;
        let values: Vec<f32> = (0..SIZE * SIZE).flat_map(|at| [pixel(at); 3]).collect();
        let texture = Flat::new([0.0; 6], diffuse).texture(FineImage { values: &values, side: SIZE });
        let inner: Vec<f32> = (20..55).map(|column| red(&texture.even(), 31, column)).collect();
        assert!(inner.iter().all(|value| (value - inner[0]).abs() < 0.02), "{inner:?}");
        // At most twice as bright as the pixel.
        let edge = (red(&texture.even(), 31, 1) + 1.0) / (pixel(1) + 1.0);
        assert!(edge <= 2.0 + 1e-4, "{edge}");
    }

    #[test]
    fn a_moved_object_is_found_where_it_is() {
        let values = slope();
        // Ten pixels to the right at distance 1.
        let shift = 10.0 / ModelSettings::default().camera().focal();
        let flat = Flat::new([0.0, 0.0, 0.0, shift, 0.0, 0.0], |_| 1.0);
        let texture = flat.texture(FineImage { values: &values, side: 128 });
        assert!((red(&texture.lit(), 30, 20) - (30.0 * 2.0 + 0.5) / 127.0).abs() < 1e-3);
        // What lies outside comes from the mirrored place, shifted to go on where the image ends.
        let [seen, beside] = [red(&texture.lit(), 30, 51), red(&texture.lit(), 30, 56)];
        assert!((seen - beside).abs() < 0.15, "{seen} {beside}");
        // There red falls to the right, as the mirror image does.
        assert!(red(&texture.lit(), 30, 61) < red(&texture.lit(), 30, 57));
    }

    #[test]
    fn a_second_image_shows_what_the_first_does_not_in_the_colours_of_the_first() {
        let values = slope();
        let darker: Vec<f32> = values.iter().map(|value| (value + 1.0) * 0.6 - 1.0).collect();
        let shift = 10.0 / ModelSettings::default().camera().focal();
        let moved = Flat::new([0.0, 0.0, 0.0, shift, 0.0, 0.0], |_| 1.0);
        let back = Flat::new([0.0, 0.0, 0.0, -shift, 0.0, 0.0], |_| 1.0);
        let places: Vec<f32> = (0..SIZE).map(|place| place as f32).collect();
        let texture = |second: &[f32]| {
            let images = [(&moved, &values[..]), (&back, second)]
                .map(|(flat, values)| (flat.parts(), FineImage { values, side: 128 }));
            image_texture(&ModelSettings::default(), &images, &places).unwrap().even()
        };
        // Column 60 is shown by the second alone, at its column 50; blue is the same everywhere in both.
        let same = texture(&values);
        let blue = |texture: &[f32], column: usize| texture[3 * (30 * SIZE + column) + 2];
        assert!((blue(&same, 60) - blue(&same, 20)).abs() < 0.02);
        let matched = texture(&darker);
        assert!((blue(&matched, 60) - blue(&matched, 20)).abs() < 0.05, "{}", blue(&matched, 60));
        let steps =
            (2..SIZE - 2).map(|column| (red(&matched, 30, column + 1) - red(&matched, 30, column)).abs());
        assert!(steps.fold(0.0, f32::max) < 0.2, "a seam");
    }

    #[test]
    fn what_is_seen_nowhere_has_the_albedo() {
        let values = slope();
        let flat = Flat::new([0.0, 0.0, 0.0, 0.5, 0.0, 0.0], |_| 1.0);
        let texture = flat.texture(FineImage { values: &values, side: 128 });
        assert!(texture.even().iter().all(|value| (value + 0.5).abs() < 1e-4));
    }
}
