//! exp, ln and their kin without branches or tables, so that loops over them vectorise. Relative errors are a few
//! units in the last place (tested below); range reductions and the tanh polynomial follow Cephes (Moshier).

/// e^x. Underflows to zero below -87.3, is infinite above 88.7 and keeps NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts; the first has few enough bits for its product with n to be exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let inside = x.clamp(-88.0, 89.0);
    let n = (inside * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (inside - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let mantissa = (p * r) * r + r + 1.0;
    // 2^n in two factors, because 2^128 is no f32 though 2^128 * mantissa may be less than the largest.
    let half = (n * 0.5 + ROUND) - ROUND;
    let y = mantissa * power_of_two(half) * power_of_two(n - half);
    if x < -87.336_54 { 0.0 } else { y }
}

/// 2^n for an integer n in -126..=127; anything for NaN.
#[inline(always)]
fn power_of_two(n: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    // The low bits of n + 1.5 * 2^23 are those of the integer n.
    f32::from_bits((n + ROUND).to_bits().wrapping_add(127) << 23)
}

/// Natural logarithm of a positive normal number; NaN below zero, -inf at zero and for subnormal numbers.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    // x = m * 2^e with m in [sqrt(1/2), sqrt(2)).
    let shifted = x.to_bits().wrapping_sub(0x3f35_04f3);
    let e = (shifted as i32 >> 23) as f32;
    let m = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(0x3f35_04f3)) - 1.0;
    let z = m * m;
    let mut p = 7.037_683_6e-2;
    p = p * m - 1.151_461e-1;
    p = p * m + 1.167_699_9e-1;
    p = p * m - 1.242_014_1e-1;
    p = p * m + 1.424_932_3e-1;
    p = p * m - 1.666_805_7e-1;
    p = p * m + 2.000_071_5e-1;
    p = p * m - 2.499_999_4e-1;
    p = p * m + 3.333_333e-1;
    let y = p * m * z + e * -2.121_944_4e-4 - 0.5 * z;
    let y = m + y + e * 0.693_359_4;
    let y = if x < f32::MIN_POSITIVE { f32::NEG_INFINITY } else { y };
    let y = if x < 0.0 { f32::NAN } else { y };
    // Infinity and NaN are their own logarithms.
    if x < f32::INFINITY || x < 0.0 { y } else { x }
}

/// ln(1 + u) for u in [0, 1].
#[inline(always)]
pub fn ln_1p(u: f32) -> f32 {
    // What rounding takes from 1 + u is put back by the quotient (Kahan).
    let w = 1.0 + u;
    let d = w - 1.0;
    if d == 0.0 { u } else { ln(w) * (u / d) }
}

/// 1 - e^-y for y >= 0.
#[inline(always)]
pub fn one_minus_exp(y: f32) -> f32 {
    let mut p = -1.984_127e-4;
    p = p * y + 1.388_888_9e-3;
    p = p * y - 8.333_334e-3;
    p = p * y + 4.166_666_8e-2;
    p = p * y - 1.666_666_7e-1;
    p = p * y + 0.5;
    let small = y - p * y * y;
    if y < 0.35 { small } else { 1.0 - exp(-y) }
}

/// Hyperbolic tangent.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let z = x * x;
    let mut p = -5.704_988_7e-3;
    p = p * z + 2.063_908_8e-2;
    p = p * z - 5.373_971_6e-2;
    p = p * z + 1.333_144_2e-1;
    p = p * z - 3.333_328e-1;
    let small = p * z * x + x;
    let large = (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x);
    if size < 0.625 { small } else { large }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest relative error of `ours` against `exact` over a sweep of `[from, to]`.
    fn worst(from: f64, to: f64, ours: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
        let steps = 200_000;
        (0..=steps)
            .map(|i| (from + (to - from) * f64::from(i) / f64::from(steps)) as f32)
            .filter(|&x| exact(f64::from(x)) != 0.0)
            .map(|x| (f64::from(ours(x)) / exact(f64::from(x)) - 1.0).abs())
            .fold(0.0, f64::max)
    }

    #[test]
    fn errors_are_a_few_units_in_the_last_place() {
        for (name, error, bound) in [
            ("exp", worst(-87.0, 88.7, exp, f64::exp), 1.5e-7),
            ("ln", worst(1e-7, 50.0, ln, f64::ln), 1.5e-7),
            ("ln near 1", worst(0.9, 1.1, ln, f64::ln), 1.5e-7),
            ("ln, large", worst(1e3, 1e30, ln, f64::ln), 1.5e-7),
            ("ln_1p", worst(0.0, 1.0, ln_1p, f64::ln_1p), 3e-7),
            ("ln_1p, small", worst(0.0, 1e-6, ln_1p, f64::ln_1p), 3e-7),
            ("one_minus_exp", worst(0.0, 20.0, one_minus_exp, |y| -(-y).exp_m1()), 2.5e-7),
            ("one_minus_exp, small", worst(0.0, 1e-3, one_minus_exp, |y| -(-y).exp_m1()), 1.5e-7),
            ("tanh", worst(-10.0, 10.0, tanh, f64::tanh), 2.5e-7),
            ("tanh, small", worst(-1e-3, 1e-3, tanh, f64::tanh), 1.5e-7),
        ] {
            println!("{name}: {error:.2e}");
            assert!(error < bound, "{name}: {error:e}");
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(exp(-1e4), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(1e4), f32::INFINITY);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(ln(0.0), f32::NEG_INFINITY);
        assert_eq!(ln(f32::INFINITY), f32::INFINITY);
        assert!(ln(-1.0).is_nan() && ln(f32::NEG_INFINITY).is_nan() && ln(f32::NAN).is_nan());
        assert_eq!((tanh(1e30), tanh(-1e30), tanh(0.0)), (1.0, -1.0, 0.0));
        assert!(tanh(f32::NAN).is_nan());
        assert_eq!(one_minus_exp(1e6), 1.0);
    }
}
