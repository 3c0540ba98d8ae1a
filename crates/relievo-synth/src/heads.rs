//! The source: head number N of seed S, and image K of it.

use std::fmt::Write as _;

use relievo_data::{Image, Sample, SampleError, Source};
use relievo_tensor::Random;

use crate::appearance::Appearance;
use crate::background::Background;
use crate::head::head_model;
use crate::identity::Identity;
use crate::light;
use crate::patch::Patch;
use crate::pose::{Landmarks, Placement, View};
use crate::random::Draws;
use crate::rendering::{CutOut, Scene};
use crate::variation::Variation;

/// Smallest side in pixels: one pixel has no focal length.
const MINIMAL_SIZE: u32 = 2;

/// The part of a head's stream that the streams of its images beyond the first come from.
const IMAGES: u64 = 7;

/// A run of synthetic heads, numbers `start..start + count` of a seed.
pub struct Heads {
    seed: u64,
    start: u64,
    count: u64,
    images_of_each: u64,
    landmarks: Landmarks,
    variation: Variation,
    perturbed: bool,
    frontal: bool,
}

impl Heads {
    /// Heads `start..start + count` of `seed`. Ranges that do not overlap share no head: that is how a set is split for
    /// training, validation and test.
    pub fn range(seed: u64, start: u64, count: u64) -> Self {
        Self {
            seed,
            start,
            count,
            images_of_each: 1,
            landmarks: Landmarks::find(head_model()),
            variation: Variation::default(),
            perturbed: false,
            frontal: false,
        }
    }

    /// Several images of each head: the same shape, skin, hair and place in the canonical frame with another expression,
    /// viewpoint, light and background. Image 0 of a head is its only one otherwise. Images of a head follow one another:
    /// with `images` of each, index `i` is image `i % images` of head `start + i / images`.
    ///
    /// # Panics
    /// If `images` is 0.
    pub fn images_of_each(self, images: u64) -> Self {
        assert!(images > 0, "a head has at least one image");
        Self { images_of_each: images, ..self }
    }

    /// The same people with other distributions of viewpoint and light. With [`Variation::default`] they are the same
    /// images, to the bit.
    ///
    /// # Panics
    /// If a number is below 0, above its greatest value ([`Variation::LARGEST_PITCH_SPREAD`],
    /// [`Variation::LARGEST_ELEVATION_SPREAD`], [`Variation::LARGEST_ASYMMETRY`]) or NaN.
    pub fn varied(self, variation: Variation) -> Self {
        let Variation { pitch_spread, elevation_spread, asymmetry } = variation;
        assert!((0.0..=Variation::LARGEST_ASYMMETRY).contains(&asymmetry), "{variation:?}");
        assert!((0.0..=Variation::LARGEST_PITCH_SPREAD).contains(&pitch_spread), "{variation:?}");
        assert!((0.0..=Variation::LARGEST_ELEVATION_SPREAD).contains(&elevation_spread), "{variation:?}");
        Self { variation, ..self }
    }

    /// The same heads, with a coloured patch over one side of each image, which no symmetric object can explain (Wu et
    /// al. 2020, section 4.2): a rectangle of 20 to 50 % of the image's height and width in its left or right half,
    /// with an opacity of 0.5 to 1. The truth is that of the head without it.
    pub fn perturbed(self) -> Self {
        Self { perturbed: true, ..self }
    }

    /// The same heads seen from the front: depth and albedo of the truth are the canonical ones. The light is the same; the
    /// viewpoint is none.
    pub fn frontal(self) -> Self {
        Self { frontal: true, ..self }
    }

    /// The head of image `index` without its background, to be composed into other images: its frame at `size` pixels,
    /// with `margin` more pixels on each side for the rest of the head, down to the neck, where the model ends.
    ///
    /// # Errors
    /// As for a sample.
    pub fn cut_out(&self, index: u64, size: u32, margin: u32) -> Result<CutOut, SampleError> {
        self.check(index, size)?;
        Ok(self.scene(self.place(index)).cut_out(size as usize, margin as usize, f32::INFINITY))
    }

    /// The background of image `index` at any size: the frame in the middle, as high as the image, continued to its
    /// sides.
    ///
    /// # Errors
    /// As for a sample.
    pub fn background(&self, index: u64, width: u32, height: u32) -> Result<Image, SampleError> {
        self.check(index, height)?;
        let background = self.scene(self.place(index)).background;
        let across = (height - 1) as f32;
        let place = |at: u32, extent: u32| (at as f32 - (extent as f32 - 1.0) / 2.0) / across;
        let pixels = (0..height).flat_map(|row| (0..width).map(move |column| (row, column)));
        let colours = pixels.flat_map(|(row, column)| {
            background
                .at([place(column, width), place(row, height)])
                .map(|value| (value * 255.0).round() as u8)
        });
        Ok(Image { width, height, pixels: colours.collect() })
    }

    fn check(&self, index: u64, size: u32) -> Result<(), SampleError> {
        if index < self.len() && size >= MINIMAL_SIZE {
            return Ok(());
        }
        let reason = format!(
            "there are {} images here, of at least {MINIMAL_SIZE} pixels: asked for number {index} of {size} pixels",
            self.len()
        );
        Err(SampleError { name: self.name(index), reason })
    }

    /// The number of the head on an image, and that of the image among those of the head.
    fn place(&self, index: u64) -> [u64; 2] {
        [self.start + index / self.images_of_each, index % self.images_of_each]
    }

    /// The streams of a head, and of one of its images: parts 3 to 6, and 0 for another expression.
    fn streams(&self, [number, image]: [u64; 2]) -> [Random; 2] {
        let head = Random::new(self.seed, number);
        [head, if image == 0 { head } else { head.fork(IMAGES).fork(image) }]
    }

    /// The scene of an image of a head.
    pub(crate) fn scene(&self, place: [u64; 2]) -> Scene<'static> {
        let model = head_model();
        let [of_head, of_image] = self.streams(place).map(|stream| move |part| Draws::new(stream.fork(part)));
        let asymmetry = self.variation.asymmetry;
        let (identity, mut points) = Identity::draw(model, asymmetry, &mut of_head(0), None);
        let appearance = Appearance::draw(&identity, &mut of_head(1));
        appearance.hair.grow(model, &mut points);
        // Of the first image's expression: where a head is does not depend on how far its mouth is open.
        let placement = Placement::draw(&self.landmarks, &points, &mut of_head(2));
        if place[1] > 0 {
            (_, points) = Identity::draw(model, asymmetry, &mut of_head(0), Some(&mut of_image(0)));
            appearance.hair.grow(model, &mut points);
        }
        points.iter_mut().for_each(|point| *point = placement.of(*point));
        let view = if self.frontal {
            View::new([0.0; 6])
        } else {
            View::draw(&self.landmarks, &points, &self.variation, &mut of_image(3))
        };
        let light = light::draw(appearance.skin_brightness(), &self.variation, &mut of_image(4));
        let background = Background::draw(&mut of_image(5));
        Scene { model, points, appearance, background, light, view }
    }
}

impl Source for Heads {
    fn describe(&self) -> String {
        let (first, last) = (self.start, (self.start + self.count).saturating_sub(1));
        let mut text = format!("synthetic heads {first} to {last} of seed {}", self.seed);
        if self.images_of_each > 1 {
            let _ = write!(text, ", {} images of each", self.images_of_each);
        }
        let (variation, usual) = (self.variation, Variation::default());
        if [variation.pitch_spread, variation.elevation_spread]
            != [usual.pitch_spread, usual.elevation_spread]
        {
            let Variation { pitch_spread, elevation_spread, .. } = variation;
            let _ =
                write!(text, ", pitch spread {pitch_spread} degrees, elevation spread {elevation_spread}");
        }
        if variation.asymmetry != usual.asymmetry {
            let _ = write!(text, ", asymmetry {}", variation.asymmetry);
        }
        if self.perturbed {
            text.push_str(", perturbed");
        }
        if self.frontal {
            text.push_str(", from the front");
        }
        text
    }

    fn len(&self) -> u64 {
        self.count.saturating_mul(self.images_of_each)
    }

    fn name(&self, index: u64) -> String {
        let [number, image] = self.place(index);
        if self.images_of_each > 1 { format!("{number}/{image}") } else { number.to_string() }
    }

    fn object(&self, index: u64) -> Option<String> {
        (self.images_of_each > 1).then(|| self.place(index)[0].to_string())
    }

    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        self.check(index, size)?;
        let place = self.place(index);
        let (mut image, truth) = self.scene(place).render(size as usize);
        if self.perturbed {
            // Part 6, after those of the scene: the head does not depend on it.
            let [_, of_image] = self.streams(place);
            Patch::draw(&mut Draws::new(of_image.fork(6))).blend(&mut image);
        }
        Ok(Sample { name: self.name(index), image, truth: Some(truth), points: None })
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;
    use relievo_data::Truth;

    use super::*;
    use crate::rendering::FAR;

    fn truth(sample: Sample) -> Truth {
        sample.truth.unwrap()
    }

    #[test]
    fn a_number_is_a_head_whatever_the_range_and_the_threads() {
        let whole = Heads::range(9, 0, 40);
        let tail = Heads::range(9, 30, 10);
        let alone: Vec<Sample> = (30..40).map(|n| whole.sample(n, 32).unwrap()).collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        let together: Vec<Sample> =
            pool.install(|| (0..10).into_par_iter().map(|n| tail.sample(n, 32).unwrap()).collect());
        assert_eq!(alone, together);
        assert_eq!(alone[0].name, "30");
        assert_eq!(tail.len(), 10);
    }

    #[test]
    fn numbers_and_seeds_make_different_heads() {
        let heads = Heads::range(9, 0, 60);
        let images: Vec<_> = (0..60).map(|n| heads.sample(n, 32).unwrap().image).collect();
        for (n, image) in images.iter().enumerate() {
            assert!(images[..n].iter().all(|other| other != image), "head {n}");
        }
        assert_ne!(Heads::range(10, 0, 1).sample(0, 32).unwrap().image, images[0]);
    }

    #[test]
    fn frontal_heads_are_the_same_heads_unturned() {
        let [turned, frontal] = [Heads::range(9, 0, 12), Heads::range(9, 0, 12).frontal()];
        assert_eq!(frontal.describe(), "synthetic heads 0 to 11 of seed 9, from the front");
        let mut asymmetry = [0.0, 0.0];
        for number in 0..12 {
            let truths = [&turned, &frontal].map(|heads| truth(heads.sample(number, 32).unwrap()));
            assert_eq!((truths[1].view, truths[1].light), ([0.0; 6], truths[0].light));
            for (sum, truth) in asymmetry.iter_mut().zip(&truths) {
                for row in truth.depth.chunks(32) {
                    *sum += (0..16).map(|at| (row[at] - row[31 - at]).abs()).sum::<f32>();
                }
            }
        }
        assert!(asymmetry[1] < 0.5 * asymmetry[0], "{asymmetry:?}");
    }

    #[test]
    fn a_patch_lies_before_one_side_of_the_image_and_changes_nothing_else() {
        const SIZE: u32 = 64;
        let (plain, perturbed) = (Heads::range(9, 0, 200), Heads::range(9, 0, 200).perturbed());
        let alone = Heads::range(9, 7, 1).perturbed();
        assert_eq!(perturbed.sample(7, SIZE).unwrap(), alone.sample(0, SIZE).unwrap());
        let (mut sides, mut areas) = ([0, 0], Vec::new());
        for number in 0..200 {
            let [before, after] = [&plain, &perturbed].map(|heads| heads.sample(number, SIZE).unwrap());
            assert_eq!(before.truth, after.truth);
            let changed: Vec<(u32, u32)> = (0..SIZE * SIZE)
                .filter(|pixel| {
                    let at = 3 * *pixel as usize;
                    before.image.pixels[at..at + 3] != after.image.pixels[at..at + 3]
                })
                .map(|pixel| (pixel % SIZE, pixel / SIZE))
                .collect();
            let range = |values: &dyn Fn(&(u32, u32)) -> u32| {
                (changed.iter().map(values).min().unwrap(), changed.iter().map(values).max().unwrap())
            };
            let (columns, rows) = (range(&|at| at.0), range(&|at| at.1));
            assert!(columns.1 < SIZE / 2 || columns.0 >= SIZE / 2, "head {number}: columns {columns:?}");
            sides[usize::from(columns.0 >= SIZE / 2)] += 1;
            let [width, height] = [columns, rows].map(|(first, last)| last - first + 1);
            // 20 to 50 % of 64 pixels; where patch and image happen to be alike, it seems smaller.
            assert!(width <= 32 && height <= 32, "head {number}: {width} x {height}");
            areas.push(width * height);
        }
        assert!(sides.iter().all(|side| *side > 70), "{sides:?}");
        areas.sort_unstable();
        assert!(
            (13 * 13..20 * 20).contains(&areas[20]) && (25 * 25..=32 * 32).contains(&areas[180]),
            "{areas:?}"
        );
    }

    #[test]
    fn images_of_a_head_show_the_same_head_otherwise() {
        let (single, several) = (Heads::range(9, 3, 4), Heads::range(9, 3, 4).images_of_each(3));
        assert_eq!((several.len(), several.name(4), several.object(4)), (12, "4/1".into(), Some("4".into())));
        assert_eq!((single.object(1), single.len()), (None, 4));
        let distance = |a: &[[f32; 3]], b: &[[f32; 3]]| {
            let of = |(a, b): (&[f32; 3], &[f32; 3])| (0..3).map(|k| (a[k] - b[k]).powi(2)).sum::<f32>();
            (a.iter().zip(b).map(of).sum::<f32>() / a.len() as f32).sqrt()
        };
        let scene = |number: u64, image: u64| several.scene([number, image]);
        for number in 3..7 {
            let [first, second, third] = [0, 1, 2].map(|image| scene(number, image));
            let index = (number - 3) * 3;
            let image = |sample: Sample| (sample.image, sample.truth);
            assert_eq!(
                image(several.sample(index, 32).unwrap()),
                image(single.sample(number - 3, 32).unwrap())
            );
            for other in [&second, &third] {
                assert!(first.view.parameters != other.view.parameters && first.light != other.light);
                // Another expression moves it less than another head differs.
                let stranger = scene(number + 10, 0);
                let [same, different] = [other, &stranger].map(|o| distance(&first.points, &o.points));
                assert!(same > 0.0 && 3.0 * same < different, "{same} {different}");
            }
            assert_ne!(second.view.parameters, third.view.parameters);
        }
    }

    #[test]
    fn asymmetry_moves_the_sides_apart_and_leaves_the_rest() {
        let heads = |asymmetry: f32| {
            Heads::range(9, 0, 1).varied(Variation { asymmetry, ..Variation::default() }).scene([0, 0])
        };
        let [none, usual, much] = [0.0, 1.0, 4.0].map(heads);
        let most = |a: &Scene, b: &Scene| {
            let all = a.points.as_flattened().iter().zip(b.points.as_flattened());
            all.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        let [little, more] = [&usual, &much].map(|scene| most(scene, &none));
        assert!(little > 0.0 && (3.0..5.0).contains(&(more / little)), "{little} {more}");
        assert_eq!(usual.light, much.light);
    }

    #[test]
    fn a_head_cut_out_and_its_background_make_its_image() {
        const SIZE: usize = 48;
        const MARGIN: usize = 40;
        let heads = Heads::range(9, 3, 20);
        for index in 0..20 {
            let image = heads.sample(index, SIZE as u32).unwrap().image;
            // What lies further away than an image shows is cut off here, too; shoulders and hair, mostly.
            let near = heads.scene([3 + index, 0]).cut_out(SIZE, MARGIN, FAR);
            let behind = heads.background(index, 2 * SIZE as u32, SIZE as u32).unwrap();
            assert_eq!((behind.width, near.side), (2 * SIZE as u32, SIZE + 2 * MARGIN));
            let mut alike = 0;
            for pixel in 0..SIZE * SIZE {
                let (row, column) = (pixel / SIZE, pixel % SIZE);
                let at = (row + MARGIN) * near.side + column + MARGIN;
                let (above, cover) = (near.colours[at], near.cover[at]);
                alike += usize::from((0..3).all(|channel| {
                    let below = f32::from(behind.pixels[(row * 2 * SIZE + column + SIZE / 2) * 3 + channel]);
                    let expected = 255.0 * cover * above[channel] + (1.0 - cover) * below;
                    (expected - f32::from(image.pixels[pixel * 3 + channel])).abs() < 2.0
                }));
            }
            // Light beyond white is cut off before the mixing or after it.
            assert!(alike + 3 > SIZE * SIZE, "head {index}: {alike} of {}", SIZE * SIZE);
            // With all depths nothing of it is lost.
            let head = heads.cut_out(index, SIZE as u32, MARGIN as u32).unwrap();
            assert!(head.cover.iter().zip(&near.cover).all(|(all, near)| all >= near), "head {index}");
            // All of the skull is there, and nothing above it.
            let row =
                |at: usize| head.cover[at * head.side..][..head.side].iter().copied().fold(0.0, f32::max);
            assert_eq!((row(0), row(MARGIN + SIZE / 2)), (0.0, 1.0), "head {index}");
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let heads = Heads::range(1, 0, 3);
        assert!(heads.cut_out(3, 64, 0).is_err() && heads.cut_out(0, 1, 9).is_err());
        assert!(heads.background(3, 64, 64).is_err() && heads.background(0, 64, 1).is_err());
        assert!(heads.sample(3, 64).is_err());
        assert!(heads.sample(0, 1).is_err());
        assert!(heads.sample(0, 0).is_err());
    }

    #[test]
    fn a_thousand_heads_keep_within_bounds() {
        let heads = Heads::range(2, 0, 1000);
        (0..1000u64).into_par_iter().for_each(|n| {
            let truth = truth(heads.sample(n, 48).unwrap());
            let all = [&truth.depth, &truth.normals, &truth.albedo];
            assert!(all.iter().all(|map| map.iter().all(|v| v.is_finite())), "head {n}");
            let seen = truth.mask.iter().filter(|m| **m == 1).count() as f32 / (48.0 * 48.0);
            assert!((0.35..=1.0).contains(&seen), "head {n} covers {seen}");
            for (depth, mask) in truth.depth.iter().zip(&truth.mask) {
                assert!((0.9..=1.1).contains(depth), "head {n}: depth {depth}");
                assert!(*mask == 1 || *depth == 1.1, "head {n}");
            }
            assert!(truth.albedo.iter().all(|a| (0.0..=1.0).contains(a)), "head {n}");
            let [rx, ry, rz, tx, ty, tz] = truth.view;
            assert!(rx.abs() < 0.27 && ry.abs() < 0.88 && rz.abs() < 0.18, "head {n}: {:?}", truth.view);
            assert!(tx.abs() < 0.1 && ty.abs() < 0.1 && tz == 0.0, "head {n}: {:?}", truth.view);
            let light = truth.light;
            assert!((0.0..=1.0).contains(&light.ambient) && (0.0..=1.0).contains(&light.diffuse), "head {n}");
            // As the model can say it: (x, y, 1) / norm with |x|, |y| at most 1.
            let [x, y, z] = light.direction;
            assert!(
                (x * x + y * y + z * z - 1.0).abs() < 1e-5 && x.abs().max(y.abs()) <= z + 1e-6,
                "head {n}"
            );
        });
    }

    #[test]
    fn a_wider_variation_turns_heads_further_and_moves_the_light_and_changes_nothing_else() {
        let spread = |numbers: &[f32]| {
            let mean = numbers.iter().sum::<f32>() / numbers.len() as f32;
            (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / numbers.len() as f32).sqrt()
        };
        let scenes = |variation: Variation| {
            let heads = Heads::range(4, 0, 400).varied(variation);
            (0..400).map(|number| heads.scene([number, 0])).collect::<Vec<_>>()
        };
        let wide = Variation { pitch_spread: 12.0, elevation_spread: 0.6, ..Variation::default() };
        let (usual, wide) = (scenes(Variation::default()), scenes(wide));
        let pitches =
            |scenes: &[Scene]| scenes.iter().map(|s| s.view.parameters[0].to_degrees()).collect::<Vec<f32>>();
        let heights = |scenes: &[Scene]| {
            scenes.iter().map(|s| s.light.direction[1] / s.light.direction[2]).collect::<Vec<f32>>()
        };
        let [narrow_pitch, wide_pitch] = [&usual, &wide].map(|scenes| spread(&pitches(scenes)));
        assert!((5.0..6.0).contains(&narrow_pitch) && (11.0..13.0).contains(&wide_pitch));
        let [narrow_height, wide_height] = [&usual, &wide].map(|scenes| spread(&heights(scenes)));
        // Some of the wide ones are clamped.
        assert!((0.31..0.39).contains(&narrow_height) && (0.45..0.6).contains(&wide_height));
        assert!(pitches(&wide).iter().all(|pitch| pitch.abs() < 12.0 * 30.0 / 11.0 + 1e-3));
        for (a, b) in usual.iter().zip(&wide) {
            assert_eq!(a.points, b.points);
            assert_eq!(a.view.parameters[1..3], b.view.parameters[1..3]);
            assert_eq!((a.light.ambient, a.light.diffuse), (b.light.ambient, b.light.diffuse));
        }
        // A head that looks up or down is still framed by its eyes and mouth.
        let heads = Heads::range(4, 0, 400).varied(Variation {
            pitch_spread: 12.0,
            elevation_spread: 0.6,
            ..Variation::default()
        });
        assert_eq!(
            heads.describe(),
            "synthetic heads 0 to 399 of seed 4, pitch spread 12 degrees, elevation spread 0.6"
        );
        for number in 0..40 {
            let truth = truth(heads.sample(number, 32).unwrap());
            assert!(truth.mask[16 * 32 + 16] == 1 && truth.view[3].abs().max(truth.view[4].abs()) < 0.1);
        }
    }

    #[test]
    fn the_middle_of_the_face_is_near_and_its_sides_far() {
        // Over many heads, the image's middle (nose) is nearer than its left and right.
        let heads = Heads::range(2, 0, 60);
        let mut nearer = 0;
        for n in 0..60 {
            let truth = truth(heads.sample(n, 32).unwrap());
            let at = |row: usize, column: usize| truth.depth[row * 32 + column];
            nearer += usize::from(at(18, 16) < at(18, 5).min(at(18, 26)));
        }
        assert!(nearer > 54, "{nearer}");
    }
}
