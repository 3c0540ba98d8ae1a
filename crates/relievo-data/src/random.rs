//! Randomness as a function of numbers: nothing is carried from one draw to the next, so any place in the
//! training order can be computed on its own.

/// Mixes numbers into 64 bits that look random. One round of SplitMix64 per number
/// (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
pub(crate) fn mix(numbers: &[u64]) -> u64 {
    let mut state = 0_u64;
    for &number in numbers {
        state = finalise((state ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15));
    }
    state
}

/// Mixes a name into 64 bits that look random: FNV-1a over its bytes, then a round of SplitMix64, because FNV
/// alone leaves the upper bits of short names alike.
pub(crate) fn mix_name(name: &str) -> u64 {
    let fnv = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(&[fnv])
}

/// A permutation of `0..len`, the same for the same seed and epoch (Fisher-Yates).
pub(crate) fn shuffled(len: u64, seed: u64, epoch: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..len).collect();
    for last in (1..order.len()).rev() {
        let draw = mix(&[seed, SHUFFLE, epoch, last as u64]);
        // The upper half of the product maps the draw to 0..=last with a bias below len / 2^64.
        let other = (u128::from(draw) * (last as u128 + 1)) >> 64;
        order.swap(last, other as usize);
    }
    order
}

/// Whether the picture at a position of an epoch is mirrored: one in two.
pub(crate) fn is_mirrored(seed: u64, epoch: u64, position: u64) -> bool {
    mix(&[seed, MIRROR, epoch, position]) & 1 == 1
}

/// Keeps the draws for the order and for the mirroring apart.
const SHUFFLE: u64 = 1;
const MIRROR: u64 = 2;

fn finalise(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffling_keeps_every_number_and_depends_on_seed_and_epoch() {
        let order = shuffled(1000, 7, 3);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1000));
        assert_eq!(order, shuffled(1000, 7, 3));
        assert_ne!(order, shuffled(1000, 7, 4));
        assert_ne!(order, shuffled(1000, 8, 3));
        assert!(shuffled(0, 7, 3).is_empty());
    }

    #[test]
    fn every_place_is_reached_about_equally_often() {
        let mut seen = [[0_u32; 5]; 5];
        for epoch in 0..5000 {
            for (place, number) in shuffled(5, 1, epoch).into_iter().enumerate() {
                seen[place][number as usize] += 1;
            }
        }
        for count in seen.as_flattened() {
            assert!((850..1150).contains(count), "{seen:?}");
        }
    }

    #[test]
    fn names_that_differ_in_one_digit_fall_far_apart() {
        let below_half = (0..2000).filter(|n| mix_name(&format!("faces/{n:06}.jpg")) < u64::MAX / 2).count();
        assert!((900..1100).contains(&below_half), "{below_half}");
    }
}
