//! Eight numbers at a time.
//!
//! Inner loops are written once, generic over [`Lanes`], and compiled for AVX2 and for plain arrays; [`run`] chooses. There
//! are always eight lanes and no fused multiply-adds, so every version gives the same bits. Explicit vectors, because the
//! compiler leaves loops over arrays of eight with a division and a selection in scalar form: ten times slower. Closures are
//! as slow: they are compiled without the instructions, so loops here call functions that are inlined instead.

/// Lanes of a vector.
pub(crate) const LANES: usize = 8;

/// A set of instructions. A value of it is the proof that the machine has them.
pub(crate) trait Lanes: Copy {
    /// Eight numbers.
    type V: Copy;
    /// Eight truth values.
    type M: Copy;

    /// The same number in all lanes.
    fn splat(self, x: f32) -> Self::V;
    /// The numbers of a list from `index` on.
    fn load(self, list: &[f32], index: usize) -> Self::V;
    /// Writes to a list from `index` on.
    fn store(self, list: &mut [f32], index: usize, v: Self::V);
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a > b`; false for NaN.
    fn gt(self, a: Self::V, b: Self::V) -> Self::M;
    /// `a >= b`; false for NaN.
    fn ge(self, a: Self::V, b: Self::V) -> Self::M;
    /// `a == b`; false for NaN.
    fn eq(self, a: Self::V, b: Self::V) -> Self::M;
    /// Both.
    fn and(self, a: Self::M, b: Self::M) -> Self::M;
    /// `a` where `mask`, else `b`.
    fn select(self, mask: Self::M, a: Self::V, b: Self::V) -> Self::V;
    /// Whether any is true.
    fn any(self, mask: Self::M) -> bool;
    /// The sum of all lanes, in an order that is the same everywhere.
    fn sum(self, v: Self::V) -> f32;

    /// `first`, `first + 1` and so on.
    #[inline(always)]
    fn from(self, first: f32) -> Self::V {
        const STEPS: [f32; LANES] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        self.add(self.splat(first), self.load(&STEPS, 0))
    }
}

/// A loop to be compiled for each set of instructions. `run` must be `#[inline(always)]`, and so must what it calls.
pub(crate) trait Work {
    /// Its result.
    type Out;
    /// The loop.
    fn run<L: Lanes>(self, lanes: L) -> Self::Out;
}

/// Runs with the best instructions of the machine.
pub(crate) fn run<W: Work>(work: W) -> W::Out {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn with_avx2<W: Work>(work: W, lanes: x86::Avx2) -> W::Out {
            work.run(lanes)
        }
        // SAFETY: the machine has AVX2.
        return unsafe { with_avx2(work, x86::Avx2::new()) };
    }
    work.run(Plain)
}

/// Plain arrays.
#[derive(Clone, Copy)]
struct Plain;

#[inline(always)]
fn each<T>(of_lane: impl FnMut(usize) -> T) -> [T; LANES] {
    std::array::from_fn(of_lane)
}

impl Lanes for Plain {
    type V = [f32; LANES];
    type M = [bool; LANES];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, list: &[f32], index: usize) -> Self::V {
        let list = &list[index..index + LANES];
        each(|i| list[i])
    }
    #[inline(always)]
    fn store(self, list: &mut [f32], index: usize, v: Self::V) {
        list[index..index + LANES].copy_from_slice(&v);
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn gt(self, a: Self::V, b: Self::V) -> Self::M {
        each(|i| a[i] > b[i])
    }
    #[inline(always)]
    fn ge(self, a: Self::V, b: Self::V) -> Self::M {
        each(|i| a[i] >= b[i])
    }
    #[inline(always)]
    fn eq(self, a: Self::V, b: Self::V) -> Self::M {
        each(|i| a[i] == b[i])
    }
    #[inline(always)]
    fn and(self, a: Self::M, b: Self::M) -> Self::M {
        each(|i| a[i] & b[i])
    }
    #[inline(always)]
    fn select(self, mask: Self::M, a: Self::V, b: Self::V) -> Self::V {
        each(|i| if mask[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn any(self, mask: Self::M) -> bool {
        mask != [false; LANES]
    }
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        let half = [v[0] + v[4], v[1] + v[5], v[2] + v[6], v[3] + v[7]];
        (half[0] + half[2]) + (half[1] + half[3])
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{LANES, Lanes};

    /// AVX2.
    #[derive(Clone, Copy)]
    pub struct Avx2(());

    impl Avx2 {
        /// The proof.
        ///
        /// # Safety
        /// The machine must have AVX2.
        pub unsafe fn new() -> Self {
            Self(())
        }
    }

    /// Implements functions of [`Lanes`] by one expression each.
    macro_rules! by_instructions {
        ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty => $body:expr;)+) => { $(
            #[inline(always)]
            fn $name(self, $($argument: $type),*) -> $result {
                // SAFETY: there is a value of `Avx2`, so the machine has the instructions.
                unsafe { $body }
            }
        )+ };
    }

    impl Lanes for Avx2 {
        type V = __m256;
        type M = __m256;

        #[inline(always)]
        fn load(self, list: &[f32], index: usize) -> __m256 {
            let list = &list[index..index + LANES];
            // SAFETY: as below, and the slice has as many numbers.
            unsafe { _mm256_loadu_ps(list.as_ptr()) }
        }
        #[inline(always)]
        fn store(self, list: &mut [f32], index: usize, v: __m256) {
            let list = &mut list[index..index + LANES];
            // SAFETY: as in `load`.
            unsafe { _mm256_storeu_ps(list.as_mut_ptr(), v) }
        }
        by_instructions! {
            fn splat(x: f32) -> __m256 => _mm256_set1_ps(x);
            fn add(a: __m256, b: __m256) -> __m256 => _mm256_add_ps(a, b);
            fn sub(a: __m256, b: __m256) -> __m256 => _mm256_sub_ps(a, b);
            fn mul(a: __m256, b: __m256) -> __m256 => _mm256_mul_ps(a, b);
            fn div(a: __m256, b: __m256) -> __m256 => _mm256_div_ps(a, b);
            fn gt(a: __m256, b: __m256) -> __m256 => _mm256_cmp_ps::<_CMP_GT_OQ>(a, b);
            fn ge(a: __m256, b: __m256) -> __m256 => _mm256_cmp_ps::<_CMP_GE_OQ>(a, b);
            fn eq(a: __m256, b: __m256) -> __m256 => _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b);
            fn and(a: __m256, b: __m256) -> __m256 => _mm256_and_ps(a, b);
            fn select(mask: __m256, a: __m256, b: __m256) -> __m256 => _mm256_blendv_ps(b, a, mask);
            fn any(mask: __m256) -> bool => _mm256_movemask_ps(mask) != 0;
            fn sum(v: __m256) -> f32 => {
                let half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
                _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)))
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation on some numbers.
    struct All<'a>([&'a [f32]; 2]);

    impl Work for All<'_> {
        type Out = Vec<f32>;
        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Vec<f32> {
            let [a, b] = self.0.map(|list| l.load(list, 1));
            let (zero, one) = (l.splat(0.0), l.splat(1.0));
            let mut all = Vec::new();
            let masks = [l.gt(a, b), l.ge(a, b), l.eq(a, b), l.and(l.gt(a, zero), l.gt(b, zero))];
            let flags = masks.map(|mask| l.select(mask, one, zero));
            for v in
                [l.add(a, b), l.sub(a, b), l.mul(a, b), l.div(a, b), l.from(3.0)].into_iter().chain(flags)
            {
                let mut out = [0.0; LANES + 2];
                l.store(&mut out, 1, v);
                all.extend(out);
                all.push(l.sum(v));
            }
            all.extend(masks.map(|mask| f32::from(l.any(mask))));
            all
        }
    }

    #[test]
    fn the_instructions_of_the_machine_give_what_plain_arrays_give() {
        let a = [9.0, 1.5, -2.0, 0.25, f32::NAN, 1e30, 7.0, -0.0, 3.5];
        let b = [9.0, 1.5, 3.0, -0.5, 1.0, 1e-30, f32::INFINITY, 0.0, -3.5];
        let bits = |list: Vec<f32>| {
            list.into_iter().map(|x| (x.is_nan(), x.to_bits() * u32::from(!x.is_nan()))).collect::<Vec<_>>()
        };
        assert_eq!(bits(run(All([&a, &b]))), bits(All([&a, &b]).run(Plain)));
        let sums = All([&a, &b]).run(Plain);
        assert_eq!(sums[1..=LANES][0], 3.0);
    }
}
