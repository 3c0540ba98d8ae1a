//! Random numbers by counter: number `index` of stream `stream` of a seed is a pure function of the three, in
//! integer arithmetic, so that it is the same on every machine, in any order and on any number of threads.

/// A stream of random numbers addressed by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Random {
    key: u64,
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every input bit flips every output bit with
/// probability close to one half.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// Stream `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self { key: mix(mix(seed.wrapping_add(GOLDEN)) ^ stream.wrapping_mul(GOLDEN)) }
    }

    /// The stream of `seed` that belongs to a name.
    pub fn named(seed: u64, name: &str) -> Self {
        // FNV-1a: names that differ give streams that differ, whatever other names there are.
        let stream = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self::new(seed, stream)
    }

    /// The independent stream number `stream` derived from this one.
    pub fn fork(&self, stream: u64) -> Self {
        Self::new(self.key, stream)
    }

    /// 64 random bits.
    pub fn bits(&self, index: u64) -> u64 {
        mix(self.key.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN)))
    }

    /// Uniform in [0, 1).
    pub fn uniform(&self, index: u64) -> f32 {
        // 24 bits: each is a multiple of 2^-24, exact in f32, and 1 is never reached by rounding.
        (self.bits(index) >> 40) as f32 * (1.0 / (1u64 << 24) as f32)
    }

    /// Uniform in {0, ..., n-1}.
    ///
    /// # Panics
    /// If `n` is zero.
    pub(crate) fn below(&self, index: u64, n: u64) -> u64 {
        assert!(n > 0, "there is no number below zero");
        // The high half of a 128-bit product (Lemire 2019); its bias, n / 2^64, cannot be measured.
        ((u128::from(self.bits(index)) * u128::from(n)) >> 64) as u64
    }

    /// A random order of 0..n (Fisher and Yates).
    pub fn permutation(&self, n: u64) -> Vec<u64> {
        let mut order: Vec<u64> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last as usize, self.below(last, last + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_fixed_for_ever() {
        // A run must be repeatable with a later version: these values may not change.
        let random = Random::new(1, 2);
        assert_eq!([random.bits(0), random.bits(1)], [0x8c647d4bc9d6b599, 0xfe65f7266b2d228b]);
        assert_ne!(random.bits(0), Random::new(2, 1).bits(0));
        assert_ne!(random.bits(0), random.fork(0).bits(0));
    }

    #[test]
    fn uniform_numbers_fill_the_interval_evenly() {
        let random = Random::new(7, 0);
        let mut counts = [0; 16];
        for i in 0..16_000 {
            let x = random.uniform(i);
            assert!((0.0..1.0).contains(&x));
            counts[(x * 16.0) as usize] += 1;
        }
        // 1,000 expected in each, standard deviation 31.
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn names_that_differ_in_one_digit_fall_far_apart() {
        let first = |n: u64| Random::named(0, &format!("faces/{n:06}.jpg")).uniform(0);
        let below_half = (0..2000).filter(|&n| first(n) < 0.5).count();
        assert!((900..1100).contains(&below_half), "{below_half}");
    }

    #[test]
    fn a_permutation_reaches_every_place_about_equally_often() {
        let mut seen = [[0_u32; 5]; 5];
        for epoch in 0..5000 {
            for (place, number) in Random::new(1, epoch).permutation(5).into_iter().enumerate() {
                seen[place][number as usize] += 1;
            }
        }
        assert!(seen.as_flattened().iter().all(|count| (850..1150).contains(count)), "{seen:?}");
    }

    #[test]
    fn a_permutation_holds_every_number_once() {
        let mut order = Random::new(3, 0).permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
}
