//! Vectors of f32 as the instruction sets have them, behind one trait, and the choice between them at run time.
//!
//! The kernels are generic over [`Simd`] and forced inline into entry points that switch the instruction set on
//! (`#[target_feature]`). `std::arch` directly rather than a wrapper crate: the register tile of each set is part of
//! its definition here, a kernel uses a dozen instructions in all, and the entry points are few.

/// An instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// No vector intrinsics: what the compiler makes of plain loops.
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

impl Level {
    /// The levels this machine can run, the best last.
    pub fn available() -> impl DoubleEndedIterator<Item = Level> {
        #[cfg(target_arch = "x86_64")]
        let levels = [
            (Level::Scalar, true),
            (Level::Avx2, is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")),
            (Level::Avx512, is_x86_feature_detected!("avx512f")),
        ];
        #[cfg(target_arch = "aarch64")]
        let levels = [(Level::Scalar, true), (Level::Neon, true)];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let levels = [(Level::Scalar, true)];
        levels.into_iter().filter(|(_, there)| *there).map(|(level, _)| level)
    }

    /// The best level of this machine.
    pub fn best() -> Level {
        Self::available().next_back().unwrap_or(Level::Scalar)
    }
}

/// A vector type and what the kernels do with it. Every function may be called only where its instruction set is
/// there and switched on; pointers must be good for the lanes they are used for.
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
    /// `v` above zero, `slope * v` elsewhere (so that what is not a number stays so).
    unsafe fn activate(v: Self::V, slope: Self::V) -> Self::V;
    /// The sum of all lanes.
    unsafe fn sum(v: Self::V) -> f32;
}

/// Plain arrays.
#[derive(Clone, Copy)]
pub struct Scalar;

impl Simd for Scalar {
    type V = [f32; 4];
    const LANES: usize = 4;
    const ROWS: usize = 4;
    const DOT: usize = 3;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        // SAFETY: the caller's pointer is good for all lanes.
        unsafe { p.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, lanes: usize) -> Self::V {
        // SAFETY: the caller's pointer is good for `lanes` lanes.
        std::array::from_fn(|i| if i < lanes { unsafe { *p.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        // SAFETY: as in `load`.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn store_part(p: *mut f32, v: Self::V, lanes: usize) {
        for (i, v) in v.iter().enumerate().take(lanes) {
            // SAFETY: as in `load_part`.
            unsafe { *p.add(i) = *v };
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Not `mul_add`: without the instruction that is a call into the C library.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn activate(v: Self::V, slope: Self::V) -> Self::V {
        std::array::from_fn(|i| if v[i] > 0.0 { v[i] } else { slope[i] * v[i] })
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        (v[0] + v[2]) + (v[1] + v[3])
    }
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

    impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;
        const ROWS: usize = 6;
        const DOT: usize = 3;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            // SAFETY: the caller runs with AVX2 on; so in all functions below.
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            // SAFETY: the caller's pointer is good for all lanes.
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn load_part(p: *const f32, lanes: usize) -> __m256 {
            // SAFETY: lanes that are masked out are not touched.
            unsafe { _mm256_maskload_ps(p, Self::mask(lanes)) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256) {
            // SAFETY: the caller's pointer is good for all lanes.
            unsafe { _mm256_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn store_part(p: *mut f32, v: __m256, lanes: usize) {
            // SAFETY: lanes that are masked out are not touched.
            unsafe { _mm256_maskstore_ps(p, Self::mask(lanes), v) }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            // SAFETY: see `splat`.
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            // SAFETY: see `splat`.
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: see `splat`.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn activate(v: __m256, slope: __m256) -> __m256 {
            // SAFETY: see `splat`.
            unsafe {
                let above = _mm256_cmp_ps::<_CMP_GT_OQ>(v, _mm256_setzero_ps());
                _mm256_blendv_ps(_mm256_mul_ps(v, slope), v, above)
            }
        }
        #[inline(always)]
        unsafe fn sum(v: __m256) -> f32 {
            // SAFETY: see `splat`.
            unsafe {
                let half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
                _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)))
            }
        }
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

    impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;
        const ROWS: usize = 12;
        const DOT: usize = 5;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            // SAFETY: the caller runs with AVX-512F on; so in all functions below.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            // SAFETY: the caller's pointer is good for all lanes.
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn load_part(p: *const f32, lanes: usize) -> __m512 {
            // SAFETY: lanes that are masked out are not touched.
            unsafe { _mm512_maskz_loadu_ps(Self::mask(lanes), p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            // SAFETY: the caller's pointer is good for all lanes.
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn store_part(p: *mut f32, v: __m512, lanes: usize) {
            // SAFETY: lanes that are masked out are not touched.
            unsafe { _mm512_mask_storeu_ps(p, Self::mask(lanes), v) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            // SAFETY: see `splat`.
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            // SAFETY: see `splat`.
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: see `splat`.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn activate(v: __m512, slope: __m512) -> __m512 {
            // SAFETY: see `splat`.
            unsafe {
                let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(v, _mm512_setzero_ps());
                _mm512_mask_mov_ps(_mm512_mul_ps(v, slope), above, v)
            }
        }
        #[inline(always)]
        unsafe fn sum(v: __m512) -> f32 {
            // Not `_mm512_reduce_add_ps`, whose order of additions is the compiler's choice.
            // SAFETY: see `splat`; AVX-512F includes AVX2.
            unsafe {
                let low = _mm512_castps512_ps256(v);
                let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(v)));
                Avx2::sum(_mm256_add_ps(low, high))
            }
        }
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

    impl Simd for Neon {
        type V = float32x4_t;
        const LANES: usize = 4;
        const ROWS: usize = 12;
        const DOT: usize = 5;

        #[inline(always)]
        unsafe fn splat(x: f32) -> float32x4_t {
            // SAFETY: every 64-bit ARM has NEON; so in all functions below.
            unsafe { vdupq_n_f32(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> float32x4_t {
            // SAFETY: the caller's pointer is good for all lanes.
            unsafe { vld1q_f32(p) }
        }
        #[inline(always)]
        unsafe fn load_part(p: *const f32, lanes: usize) -> float32x4_t {
            let mut all = [0.0; 4];
            // SAFETY: the caller's pointer is good for `lanes` lanes.
            unsafe {
                for (i, to) in all.iter_mut().enumerate().take(lanes) {
                    *to = *p.add(i);
                }
                vld1q_f32(all.as_ptr())
            }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: float32x4_t) {
            // SAFETY: the caller's pointer is good for all lanes.
            unsafe { vst1q_f32(p, v) }
        }
        #[inline(always)]
        unsafe fn store_part(p: *mut f32, v: float32x4_t, lanes: usize) {
            let mut all = [0.0; 4];
            // SAFETY: the caller's pointer is good for `lanes` lanes.
            unsafe {
                vst1q_f32(all.as_mut_ptr(), v);
                for (i, from) in all.iter().enumerate().take(lanes) {
                    *p.add(i) = *from;
                }
            }
        }
        #[inline(always)]
        unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            // SAFETY: see `splat`.
            unsafe { vaddq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            // SAFETY: see `splat`.
            unsafe { vsubq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
            // SAFETY: see `splat`.
            unsafe { vfmaq_f32(c, a, b) }
        }
        #[inline(always)]
        unsafe fn activate(v: float32x4_t, slope: float32x4_t) -> float32x4_t {
            // SAFETY: see `splat`.
            unsafe { vbslq_f32(vcgtq_f32(v, vdupq_n_f32(0.0)), v, vmulq_f32(v, slope)) }
        }
        #[inline(always)]
        unsafe fn sum(v: float32x4_t) -> f32 {
            // SAFETY: see `splat`.
            unsafe { vaddvq_f32(v) }
        }
    }
}
