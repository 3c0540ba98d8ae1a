//! What the tests of the convolution share.

/// Numbers in (-1, 1) that depend on the seed and the place only.
pub fn numbers(seed: u64, len: usize) -> Vec<f32> {
    (0..len as u64)
        .map(|i| {
            let mut x = (seed << 40 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((x >> 40) as f32 + 0.5) / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

/// The 2-norm of the difference, relative to that of `is`.
pub fn distance(got: &[f32], is: &[f32]) -> f64 {
    assert_eq!(got.len(), is.len());
    let square = |x: f64| x * x;
    let off: f64 = got.iter().zip(is).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let all: f64 = is.iter().map(|b| square(f64::from(*b))).sum();
    (off / all.max(f64::MIN_POSITIVE)).sqrt()
}
