//! Draws from a stream in order, and noise over space. Both are integer arithmetic and sums of its results, so a head
//! is the same on every machine; nothing calls the platform's `ln` or `cos` to decide a parameter.

use std::sync::OnceLock;

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
        let bits = self.stream.bits(self.next - 1);
        Noise { knots: knots(), shift: [bits as u32, (bits >> 32) as u32] }
    }
}

/// A field of smooth noise over a plane, one knot per unit of length; it repeats after [`PERIOD`] units.
#[derive(Clone, Copy)]
pub(crate) struct Noise {
    knots: &'static Knots,
    /// Where in the table this field begins.
    shift: [u32; 2],
}

const PERIOD_BITS: u32 = 8;
const PERIOD: u32 = 1 << PERIOD_BITS;
/// The noise's values at its lattice points, one table for all fields: small enough to stay in a core's cache, where
/// a hash for each of a cell's corners would take several times as long.
type Knots = [i8; 1 << (2 * PERIOD_BITS)];

fn knots() -> &'static Knots {
    static KNOTS: OnceLock<Box<Knots>> = OnceLock::new();
    KNOTS.get_or_init(|| {
        let stream = Random::new(0x6e6f_6973_6521, 0);
        let mut knots = Box::new([0; 1 << (2 * PERIOD_BITS)]);
        for (index, knot) in knots.iter_mut().enumerate() {
            *knot = ((stream.bits(index as u64) % 255) as i32 - 127) as i8;
        }
        knots
    })
}

impl Noise {
    /// Value in [-1, 1] at a place, about 0.4 in the root mean square.
    pub fn at(&self, [x, y]: [f32; 2]) -> f32 {
        const LAST: u32 = PERIOD - 1;
        let (x, tx) = split(x);
        let (y, ty) = split(y);
        let x0 = x.wrapping_add(self.shift[0]) & LAST;
        let x1 = (x0 + 1) & LAST;
        let y0 = y.wrapping_add(self.shift[1]) & LAST;
        let (y0, y1) = (y0 << PERIOD_BITS, ((y0 + 1) & LAST) << PERIOD_BITS);
        let knot = |index: u32| f32::from(self.knots[index as usize]);
        let between = |a: f32, b: f32, t: f32| a + (b - a) * t;
        let above = between(knot(x0 | y0), knot(x1 | y0), tx);
        let below = between(knot(x0 | y1), knot(x1 | y1), tx);
        between(above, below, ty) * (1.0 / 127.0)
    }
}

/// The lattice cell below a coordinate, and the smoothed way through it. Rounded down by hand: without SSE 4.1 the
/// standard way is a call of a function.
fn split(x: f32) -> (u32, f32) {
    let truncated = x as i32;
    let cell = truncated - i32::from(truncated as f32 > x);
    let t = x - cell as f32;
    (cell as u32, t * t * (3.0 - 2.0 * t))
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
        let mut last = noise.at([-3.0, 0.4]);
        let (mut least, mut greatest) = (last, last);
        for step in 1..6000 {
            let value = noise.at([-3.0 + step as f32 * 1e-3, 0.4]);
            assert!((value - last).abs() < 4e-3 && value.abs() <= 1.0);
            (least, greatest, last) = (least.min(value), greatest.max(value), value);
        }
        assert!(greatest - least > 0.3);
    }
}
