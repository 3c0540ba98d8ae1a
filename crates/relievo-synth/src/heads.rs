//! The source: head number N of seed S.

use relievo_data::{Sample, SampleError, Source};
use relievo_tensor::Random;

use crate::appearance::Appearance;
use crate::asset::HeadModel;
use crate::background::Background;
use crate::identity::Identity;
use crate::light;
use crate::picture::Scene;
use crate::pose::{self, Landmarks, View};
use crate::random::Draws;

/// A run of synthetic heads, numbers `start..start + count` of a seed.
pub struct Heads {
    seed: u64,
    start: u64,
    count: u64,
    landmarks: Landmarks,
}

impl Heads {
    /// Heads `start..start + count` of `seed`: ranges that do not overlap share no head.
    pub fn range(seed: u64, start: u64, count: u64) -> Self {
        Self { seed, start, count, landmarks: Landmarks::find(HeadModel::get()) }
    }

    fn scene(&self, number: u64) -> Scene<'static> {
        let model = HeadModel::get();
        let stream = Random::new(self.seed, number);
        let draws = |part| Draws::new(stream.fork(part));
        let (identity, mut points) = Identity::draw(model, &mut draws(0));
        let appearance = Appearance::draw(&identity, &mut draws(1));
        appearance.hair.grow(model, &mut points);
        pose::place_canonical(&self.landmarks, &mut points, &mut draws(2));
        let view = View::draw(&self.landmarks, &points, &mut draws(3));
        let light = light::draw(&mut draws(4));
        let background = Background::draw(&mut draws(5));
        Scene { model, points, appearance, background, light, view }
    }
}

impl Source for Heads {
    fn describe(&self) -> String {
        let (first, last) = (self.start, (self.start + self.count).saturating_sub(1));
        format!("synthetic heads {first} to {last} of seed {}", self.seed)
    }

    fn len(&self) -> u64 {
        self.count
    }

    fn name(&self, index: u64) -> String {
        (self.start + index).to_string()
    }

    fn sample(&self, index: u64, size: u32) -> Result<Sample, SampleError> {
        let (picture, truth) = self.scene(self.start + index).render(size as usize);
        Ok(Sample { name: self.name(index), picture, truth: Some(truth) })
    }
}
