//! Draws from a stream in order, and noise over space. Both are integer arithmetic and sums of its results, so a head
//! is the same on every machine; nothing calls the platform's `ln` or `cos` to decide a parameter.

use relievo_tensor::Random;

/// Draws one number after another from a stream.
pub(crate) struct Draws {
    stream: Random,
    next: u64,
}

impl Draws {
    pub fn new(stream: Random) -> Self {
        Self { stream, next: 0 }
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f32 {
        self.next += 1;
        self.stream.uniform(self.next - 1)
    }

    /// Uniform between two numbers.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// Mean 0, standard deviation 1, within +-3.47: four uniform numbers' sum, which has the bell shape without a tail.
    pub fn bell(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| self.uniform()).sum();
        (sum - 2.0) * 1.732_050_8
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.uniform() < probability
    }

    /// An index, drawn in proportion to the weights.
    pub fn pick(&mut self, weights: &[f32]) -> usize {
        let mut rest = self.uniform() * weights.iter().sum::<f32>();
        for (k, weight) in weights.iter().enumerate() {
            rest -= weight;
            if rest < 0.0 {
                return k;
            }
        }
        weights.len() - 1
    }

    /// Somewhere in a noise field that no other draw shares.
    pub fn noise(&mut self) -> Noise {
        self.next += 1;
        Noise { key: self.stream.bits(self.next - 1) as u32 }
    }
}

/// A field of smooth noise over space, one knot per unit of length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise {
    key: u32,
}

impl Noise {
    /// Value in [-1, 1] at a place, about 0.3 in the root mean square.
    pub fn at(&self, place: [f32; 3]) -> f32 {
        let cell = place.map(f32::floor);
        let [tx, ty, tz]: [f32; 3] = std::array::from_fn(|axis| {
            let t = place[axis] - cell[axis];
            t * t * (3.0 - 2.0 * t)
        });
        let [x, y, z] = cell.map(|c| c as i32 as u32);
        let xs = [x, x.wrapping_add(1)].map(|x| x.wrapping_mul(0x8da6_b343) ^ self.key);
        let ys = [y, y.wrapping_add(1)].map(|y| y.wrapping_mul(0xd816_3841));
        let zs = [z, z.wrapping_add(1)].map(|z| z.wrapping_mul(0xcb1a_b31f));
        let along_x = |y: u32, z: u32| {
            let [a, b] = xs.map(|x| knot(x ^ y ^ z));
            a + (b - a) * tx
        };
        let along_y = |z: u32| {
            let [a, b] = ys.map(|y| along_x(y, z));
            a + (b - a) * ty
        };
        let [a, b] = zs.map(along_y);
        a + (b - a) * tz
    }

    /// Value in [0, 1) that belongs to a cell of the integer lattice, with no relation to its neighbours'.
    pub fn cell(&self, cell: [i32; 3]) -> f32 {
        let [x, y, z] = cell.map(|c| c as u32);
        let hash = x.wrapping_mul(0x8da6_b343)
            ^ self.key
            ^ y.wrapping_mul(0xd816_3841)
            ^ z.wrapping_mul(0xcb1a_b31f);
        knot(hash) * 0.5 + 0.5
    }
}

/// A value in [-1, 1) from a hash (the finaliser of lowbias32, Wellons 2018).
fn knot(mut hash: u32) -> f32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x7feb_352d);
    hash ^= hash >> 15;
    hash = hash.wrapping_mul(0x846c_a68b);
    hash ^= hash >> 16;
    (hash >> 8) as f32 * (2.0 / (1u32 << 24) as f32) - 1.0
}

/// 0 below `low`, 1 above `high`, smooth between; `low > high` falls instead.
pub(crate) fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bell_has_mean_0_and_deviation_1() {
        let mut draws = Draws::new(Random::new(3, 0));
        let values: Vec<f32> = (0..20_000).map(|_| draws.bell()).collect();
        let mean = values.iter().sum::<f32>() / 20_000.0;
        let variance = values.iter().map(|v| v * v).sum::<f32>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
    }

    #[test]
    fn picks_follow_the_weights() {
        let mut draws = Draws::new(Random::new(4, 0));
        let mut counts = [0; 3];
        for _ in 0..8000 {
            counts[draws.pick(&[1.0, 0.0, 3.0])] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((1800..2200).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn noise_is_continuous_bounded_and_not_the_same_everywhere() {
        let noise = Draws::new(Random::new(5, 0)).noise();
        let mut last = noise.at([-3.0, 0.4, 0.7]);
        let (mut least, mut greatest) = (last, last);
        for step in 1..6000 {
            let value = noise.at([-3.0 + step as f32 * 1e-3, 0.4, 0.7]);
            assert!((value - last).abs() < 4e-3 && value.abs() <= 1.0);
            (least, greatest, last) = (least.min(value), greatest.max(value), value);
        }
        assert!(greatest - least > 0.3);
    }
}
