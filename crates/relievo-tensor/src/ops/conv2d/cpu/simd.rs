//! Vectors of f32 as the instruction sets have them, behind one trait, and the choice between them at run time.
//!
//! The kernels are generic over [`Simd`] and forced inline into entry points that switch the instruction set on
//! (`#[target_feature]`). `std::arch` directly rather than a wrapper crate: the register tile of each set is part of
//! its definition here, a kernel uses a dozen instructions in all, and the entry points are few.

/// An instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimdLevel {
    /// Plain loops, which the compiler may vectorise.
    Scalar,
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 128-bit vectors of 64-bit ARM.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl SimdLevel {
    /// The levels this machine can run, the best last.
    pub(crate) fn available() -> impl DoubleEndedIterator<Item = SimdLevel> {
        #[cfg(target_arch = "x86_64")]
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        // The kernels of AVX-512 are compiled with all three switched on.
        #[cfg(target_arch = "x86_64")]
        let avx512 = avx2 && is_x86_feature_detected!("avx512f");
        #[cfg(target_arch = "x86_64")]
        let levels = [(SimdLevel::Scalar, true), (SimdLevel::Avx2, avx2), (SimdLevel::Avx512, avx512)];
        #[cfg(target_arch = "aarch64")]
        let levels = [(SimdLevel::Scalar, true), (SimdLevel::Neon, true)];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let levels = [(SimdLevel::Scalar, true)];
        levels.into_iter().filter(|(_, there)| *there).map(|(level, _)| level)
    }

    /// The best level of this machine.
    pub fn best() -> SimdLevel {
        Self::available().next_back().unwrap_or(SimdLevel::Scalar)
    }
}

/// A vector type and the operations of the kernels on it. A function may only be called where its instruction set is
/// available and switched on; pointers must be valid for the lanes they are used for.
pub trait Simd: Copy + 'static {
    /// A vector.
    type V: Copy;
    /// Elements of a vector.
    const LANES: usize;
    /// Rows of the register tile: with two vectors to a row, the accumulators, one row of the other operand and a
    /// broadcast element fill the registers.
    const ROWS: usize;
    /// Rows of either operand in the tile of dot products: `DOT * DOT` accumulators and `DOT + 1` operands.
    const DOT: usize;

    /// The same element in all lanes.
    unsafe fn splat(x: f32) -> Self::V;
    /// All lanes from memory.
    unsafe fn load(p: *const f32) -> Self::V;
    /// The first `lanes` lanes from memory, zero in the others.
    unsafe fn load_part(p: *const f32, lanes: usize) -> Self::V;
    /// All lanes to memory.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `lanes` lanes to memory.
    unsafe fn store_part(p: *mut f32, v: Self::V, lanes: usize);
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `v` above zero, `slope * v` elsewhere, so that NaN stays NaN.
    unsafe fn activate(v: Self::V, slope: Self::V) -> Self::V;
    /// The greater of `v` and zero; NaN stays NaN.
    unsafe fn relu(v: Self::V) -> Self::V;
    /// The sum of all lanes.
    unsafe fn sum(v: Self::V) -> f32;
}

/// Implements [`Simd`] by one expression for each function.
macro_rules! simd_impl {
    ($set:ident: $vector:ty, lanes $lanes:literal, rows $rows:literal, dot $dot:literal;
     $(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? => $body:expr;)+) => {
        impl Simd for $set {
            type V = $vector;
            const LANES: usize = $lanes;
            const ROWS: usize = $rows;
            const DOT: usize = $dot;

            $(
                #[inline(always)]
                #[allow(unused_unsafe, reason = "without vector intrinsics only pointers are unsafe")]
                unsafe fn $name($($argument: $type),*) $(-> $result)? {
                    // SAFETY: the caller's, by the contract of `Simd`: the instruction set is there and switched on,
                    // and pointers are good for the lanes.
                    unsafe { $body }
                }
            )+
        }
    };
}

/// Plain arrays.
#[derive(Clone, Copy)]
pub struct Scalar;

simd_impl! {
    Scalar: [f32; 4], lanes 4, rows 4, dot 3;
    fn splat(x: f32) -> [f32; 4] => [x; 4];
    fn load(p: *const f32) -> [f32; 4] => p.cast::<[f32; 4]>().read_unaligned();
    fn load_part(p: *const f32, lanes: usize) -> [f32; 4] =>
        std::array::from_fn(|i| if i < lanes { *p.add(i) } else { 0.0 });
    fn store(p: *mut f32, v: [f32; 4]) => p.cast::<[f32; 4]>().write_unaligned(v);
    fn store_part(p: *mut f32, v: [f32; 4], lanes: usize) =>
        v.iter().enumerate().take(lanes).for_each(|(i, v)| *p.add(i) = *v);
    fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] => std::array::from_fn(|i| a[i] + b[i]);
    fn sub(a: [f32; 4], b: [f32; 4]) -> [f32; 4] => std::array::from_fn(|i| a[i] - b[i]);
    // Not `mul_add`: without the instruction that is a call into the C library.
    fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] => std::array::from_fn(|i| a[i] * b[i] + c[i]);
    fn activate(v: [f32; 4], slope: [f32; 4]) -> [f32; 4] =>
        std::array::from_fn(|i| if v[i] > 0.0 { v[i] } else { slope[i] * v[i] });
    fn relu(v: [f32; 4]) -> [f32; 4] => v.map(|v| if v < 0.0 { 0.0 } else { v });
    fn sum(v: [f32; 4]) -> f32 => (v[0] + v[2]) + (v[1] + v[3]);
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Simd;

    /// AVX2 and FMA: 16 registers of 8.
    #[derive(Clone, Copy)]
    pub struct Avx2;

    /// Eight lanes on, eight off: a mask of `n` lanes starts `8 - n` in.
    static LANE_MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

    impl Avx2 {
        #[inline(always)]
        unsafe fn mask(lanes: usize) -> __m256i {
            debug_assert!(lanes <= 8);
            // SAFETY: `lanes` is at most 8, so the read stays in the table.
            unsafe { _mm256_loadu_si256(LANE_MASKS.as_ptr().add(8 - lanes).cast()) }
        }
    }

    simd_impl! {
        Avx2: __m256, lanes 8, rows 6, dot 3;
        fn splat(x: f32) -> __m256 => _mm256_set1_ps(x);
        fn load(p: *const f32) -> __m256 => _mm256_loadu_ps(p);
        // Lanes that are masked out are not touched.
        fn load_part(p: *const f32, lanes: usize) -> __m256 => _mm256_maskload_ps(p, Self::mask(lanes));
        fn store(p: *mut f32, v: __m256) => _mm256_storeu_ps(p, v);
        fn store_part(p: *mut f32, v: __m256, lanes: usize) => _mm256_maskstore_ps(p, Self::mask(lanes), v);
        fn add(a: __m256, b: __m256) -> __m256 => _mm256_add_ps(a, b);
        fn sub(a: __m256, b: __m256) -> __m256 => _mm256_sub_ps(a, b);
        fn fma(a: __m256, b: __m256, c: __m256) -> __m256 => _mm256_fmadd_ps(a, b, c);
        fn activate(v: __m256, slope: __m256) -> __m256 => {
            let above = _mm256_cmp_ps::<_CMP_GT_OQ>(v, _mm256_setzero_ps());
            _mm256_blendv_ps(_mm256_mul_ps(v, slope), v, above)
        };
        // Of a NaN and a number these instructions return the second operand.
        fn relu(v: __m256) -> __m256 => _mm256_max_ps(_mm256_setzero_ps(), v);
        fn sum(v: __m256) -> f32 => {
            let half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)))
        };
    }

    /// AVX-512F: 32 registers of 16.
    #[derive(Clone, Copy)]
    pub struct Avx512;

    impl Avx512 {
        #[inline(always)]
        fn mask(lanes: usize) -> __mmask16 {
            debug_assert!(lanes <= 16);
            ((1u32 << lanes) - 1) as __mmask16
        }
    }

    simd_impl! {
        Avx512: __m512, lanes 16, rows 12, dot 5;
        fn splat(x: f32) -> __m512 => _mm512_set1_ps(x);
        fn load(p: *const f32) -> __m512 => _mm512_loadu_ps(p);
        // Lanes that are masked out are not touched.
        fn load_part(p: *const f32, lanes: usize) -> __m512 => _mm512_maskz_loadu_ps(Self::mask(lanes), p);
        fn store(p: *mut f32, v: __m512) => _mm512_storeu_ps(p, v);
        fn store_part(p: *mut f32, v: __m512, lanes: usize) => _mm512_mask_storeu_ps(p, Self::mask(lanes), v);
        fn add(a: __m512, b: __m512) -> __m512 => _mm512_add_ps(a, b);
        fn sub(a: __m512, b: __m512) -> __m512 => _mm512_sub_ps(a, b);
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 => _mm512_fmadd_ps(a, b, c);
        fn activate(v: __m512, slope: __m512) -> __m512 => {
            let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(v, _mm512_setzero_ps());
            _mm512_mask_mov_ps(_mm512_mul_ps(v, slope), above, v)
        };
        fn relu(v: __m512) -> __m512 => _mm512_max_ps(_mm512_setzero_ps(), v);
        // Not `_mm512_reduce_add_ps`, whose order of additions is the compiler's choice.
        fn sum(v: __m512) -> f32 => {
            let low = _mm512_castps512_ps256(v);
            let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(v)));
            Avx2::sum(_mm256_add_ps(low, high))
        };
    }
}

#[cfg(target_arch = "aarch64")]
pub use arm::Neon;

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::Simd;

    /// NEON: 32 registers of 4.
    #[derive(Clone, Copy)]
    pub struct Neon;

    simd_impl! {
        Neon: float32x4_t, lanes 4, rows 12, dot 5;
        fn splat(x: f32) -> float32x4_t => vdupq_n_f32(x);
        fn load(p: *const f32) -> float32x4_t => vld1q_f32(p);
        fn load_part(p: *const f32, lanes: usize) -> float32x4_t => {
            let mut all = [0.0; 4];
            std::ptr::copy_nonoverlapping(p, all.as_mut_ptr(), lanes.min(4));
            vld1q_f32(all.as_ptr())
        };
        fn store(p: *mut f32, v: float32x4_t) => vst1q_f32(p, v);
        fn store_part(p: *mut f32, v: float32x4_t, lanes: usize) => {
            let mut all = [0.0; 4];
            vst1q_f32(all.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(all.as_ptr(), p, lanes.min(4));
        };
        fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t => vaddq_f32(a, b);
        fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t => vsubq_f32(a, b);
        fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t => vfmaq_f32(c, a, b);
        fn activate(v: float32x4_t, slope: float32x4_t) -> float32x4_t =>
            vbslq_f32(vcgtq_f32(v, vdupq_n_f32(0.0)), v, vmulq_f32(v, slope));
        fn relu(v: float32x4_t) -> float32x4_t => vmaxq_f32(v, vdupq_n_f32(0.0));
        fn sum(v: float32x4_t) -> f32 => vaddvq_f32(v);
    }
}
