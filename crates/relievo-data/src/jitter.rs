//! Moving the crops of images at random, so that few images are as good as more.

use relievo_tensor::Random;

use crate::crop::Crop;

/// How far crops are moved at random in training. By default not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Jitter {
    /// A crop is moved each way by up to this share of its side, and its side is longer or shorter by up to this share.
    /// In \[0,1).
    pub crop: f32,
    /// A crop is turned about its middle by up to this, in radians, either way.
    pub roll: f32,
}

impl Jitter {
    /// Whether crops are moved.
    pub fn is_on(&self) -> bool {
        self.crop > 0.0 || self.roll > 0.0
    }

    /// The crop that `random` has at place `at` of an epoch.
    pub(crate) fn draw(&self, random: &Random, at: u64) -> Crop {
        let share = |number: u64| 2.0 * random.uniform(4 * at + number) - 1.0;
        Crop {
            shift: [self.crop * share(0), self.crop * share(1)],
            scale: 1.0 + self.crop * share(2),
            angle: self.roll * share(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_are_moved_as_far_as_they_may() {
        let jitter = Jitter { crop: 0.1, roll: 0.3 };
        assert!(jitter.is_on() && !Jitter::default().is_on());
        let random = Random::new(1, 2);
        let crops: Vec<Crop> = (0..400).map(|at| jitter.draw(&random, at)).collect();
        let of = |number: usize| {
            crops.iter().map(move |crop| [crop.shift[0], crop.shift[1], crop.scale - 1.0, crop.angle][number])
        };
        for (number, most) in [0.1, 0.1, 0.1, 0.3].into_iter().enumerate() {
            let (least, largest) = of(number).fold((0.0f32, 0.0f32), |(a, b), x| (a.min(x), b.max(x)));
            assert!(least >= -most && least < -0.95 * most && largest <= most && largest > 0.95 * most);
            assert!((of(number).sum::<f32>() / 400.0).abs() < 0.1 * most, "{number}");
        }
    }
}
