// What CUDA C gives a kernel, for the C++ compiler of the machine.
//
// nvrtc.cpp puts this before the source of a kernel. No standard header is included, as NVRTC has none: a kernel that
// needs one must fail here too. What is missing here fails to compile; add it when a kernel needs it.
//
// Known differences: a float that does not fit becomes 0x80000000 when cast to int (CUDA clamps; the __float2int
// intrinsics clamp here too); shifts by 32 or more trap; the fast intrinsics (__expf, __fdividef) are exact to
// the last bits, not to a few; products and sums contract to fma where this compiler sees fit, not where NVRTC does.
#pragma once
#include "abi.h"

using size_t = decltype(sizeof 0);
using ptrdiff_t = decltype(static_cast<char*>(nullptr) - static_cast<char*>(nullptr));
using clock_t = long;

// ---- Where the kernel is ----

#define threadIdx (emulator_current->thread)
#define blockIdx (emulator_current->block)
#define blockDim (emulator_current->block_size)
#define gridDim (emulator_current->grid_size)
static constexpr int warpSize = 32;

// ---- Vectors ----

#define EMULATOR_VECTOR(type, name, bytes)                                                                        \
    struct name##1 { type x; };                                                                                   \
    struct alignas(2 * bytes) name##2 { type x, y; };                                                             \
    struct name##3 { type x, y, z; };                                                                             \
    struct alignas(4 * bytes > 16 ? 16 : 4 * bytes) name##4 { type x, y, z, w; };                                 \
    static inline name##1 make_##name##1(type x) { return {x}; }                                                  \
    static inline name##2 make_##name##2(type x, type y) { return {x, y}; }                                       \
    static inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }                            \
    static inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
// uint3 is in abi.h.
#define uint3 emulator_unused_uint3
#define make_uint3 emulator_unused_make_uint3
EMULATOR_VECTOR(unsigned, uint, 4)
#undef uint3
#undef make_uint3
static inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
EMULATOR_VECTOR(signed char, char, 1)
EMULATOR_VECTOR(unsigned char, uchar, 1)
EMULATOR_VECTOR(short, short, 2)
EMULATOR_VECTOR(unsigned short, ushort, 2)
EMULATOR_VECTOR(int, int, 4)
EMULATOR_VECTOR(float, float, 4)
EMULATOR_VECTOR(long long, longlong, 8)
EMULATOR_VECTOR(unsigned long long, ulonglong, 8)
EMULATOR_VECTOR(double, double, 8)

// ---- Mathematics: the C library by its own names, with CUDA's overloads for float ----

extern "C" {
#define EMULATOR_MATH1(name)             \
    double name(double) noexcept(true);  \
    float name##f(float) noexcept(true);
EMULATOR_MATH1(acos) EMULATOR_MATH1(acosh) EMULATOR_MATH1(asin) EMULATOR_MATH1(asinh) EMULATOR_MATH1(atan)
EMULATOR_MATH1(atanh) EMULATOR_MATH1(cbrt) EMULATOR_MATH1(ceil) EMULATOR_MATH1(cos) EMULATOR_MATH1(cosh)
EMULATOR_MATH1(erf) EMULATOR_MATH1(erfc) EMULATOR_MATH1(exp) EMULATOR_MATH1(exp2) EMULATOR_MATH1(expm1)
EMULATOR_MATH1(fabs) EMULATOR_MATH1(floor) EMULATOR_MATH1(lgamma) EMULATOR_MATH1(log) EMULATOR_MATH1(log10)
EMULATOR_MATH1(log1p) EMULATOR_MATH1(log2) EMULATOR_MATH1(logb) EMULATOR_MATH1(nearbyint) EMULATOR_MATH1(rint)
EMULATOR_MATH1(round) EMULATOR_MATH1(sin) EMULATOR_MATH1(sinh) EMULATOR_MATH1(sqrt) EMULATOR_MATH1(tan)
EMULATOR_MATH1(tanh) EMULATOR_MATH1(tgamma) EMULATOR_MATH1(trunc)
#define EMULATOR_MATH2(name)                     \
    double name(double, double) noexcept(true);  \
    float name##f(float, float) noexcept(true);
EMULATOR_MATH2(atan2) EMULATOR_MATH2(copysign) EMULATOR_MATH2(fdim)
EMULATOR_MATH2(fmod) EMULATOR_MATH2(hypot) EMULATOR_MATH2(nextafter) EMULATOR_MATH2(pow) EMULATOR_MATH2(remainder)
double fma(double, double, double) noexcept(true);
float fmaf(float, float, float) noexcept(true);
double ldexp(double, int) noexcept(true);
float ldexpf(float, int) noexcept(true);
double frexp(double, int*) noexcept(true);
float frexpf(float, int*) noexcept(true);
double modf(double, double*) noexcept(true);
float modff(float, float*) noexcept(true);
double scalbn(double, int) noexcept(true);
float scalbnf(float, int) noexcept(true);
int ilogbf(float) noexcept(true);
void sincos(double, double*, double*) noexcept(true);
void sincosf(float, float*, float*) noexcept(true);
long lrintf(float) noexcept(true);
long lroundf(float) noexcept(true);
long long llrint(double) noexcept(true);
long long llrintf(float) noexcept(true);
int abs(int) noexcept(true);
int printf(const char*, ...);
void* memcpy(void*, const void*, size_t) noexcept(true);
void* memset(void*, int, size_t) noexcept(true);
}

#define EMULATOR_FLOAT1(name) \
    static inline float name(float x) { return name##f(x); }
EMULATOR_FLOAT1(acos) EMULATOR_FLOAT1(acosh) EMULATOR_FLOAT1(asin) EMULATOR_FLOAT1(asinh) EMULATOR_FLOAT1(atan)
EMULATOR_FLOAT1(atanh) EMULATOR_FLOAT1(cbrt) EMULATOR_FLOAT1(ceil) EMULATOR_FLOAT1(cos) EMULATOR_FLOAT1(cosh)
EMULATOR_FLOAT1(erf) EMULATOR_FLOAT1(erfc) EMULATOR_FLOAT1(exp) EMULATOR_FLOAT1(exp2) EMULATOR_FLOAT1(expm1)
EMULATOR_FLOAT1(fabs) EMULATOR_FLOAT1(floor) EMULATOR_FLOAT1(log) EMULATOR_FLOAT1(log10) EMULATOR_FLOAT1(log1p)
EMULATOR_FLOAT1(log2) EMULATOR_FLOAT1(rint) EMULATOR_FLOAT1(round) EMULATOR_FLOAT1(sin) EMULATOR_FLOAT1(sinh)
EMULATOR_FLOAT1(sqrt) EMULATOR_FLOAT1(tan) EMULATOR_FLOAT1(tanh) EMULATOR_FLOAT1(trunc)
#define EMULATOR_FLOAT2(name) \
    static inline float name(float x, float y) { return name##f(x, y); }
EMULATOR_FLOAT2(atan2) EMULATOR_FLOAT2(copysign) EMULATOR_FLOAT2(fmod)
EMULATOR_FLOAT2(hypot) EMULATOR_FLOAT2(pow)
// A NaN counts as missing; inline, because the library's are calls.
static inline float fminf(float x, float y) { return x != x ? y : y < x ? y : x; }
static inline float fmaxf(float x, float y) { return x != x ? y : x < y ? y : x; }
static inline double fmin(double x, double y) { return x != x ? y : y < x ? y : x; }
static inline double fmax(double x, double y) { return x != x ? y : x < y ? y : x; }
static inline float fmin(float x, float y) { return fminf(x, y); }
static inline float fmax(float x, float y) { return fmaxf(x, y); }
static inline float fma(float x, float y, float z) { return fmaf(x, y, z); }
static inline float abs(float x) { return fabsf(x); }
static inline double abs(double x) { return fabs(x); }
static inline long long abs(long long x) { return x < 0 ? -x : x; }
static inline long abs(long x) { return x < 0 ? -x : x; }
static inline long long llabs(long long x) { return x < 0 ? -x : x; }

static inline bool isnan(float x) { return __builtin_isnan(x); }
static inline bool isnan(double x) { return __builtin_isnan(x); }
static inline bool isinf(float x) { return __builtin_isinf(x); }
static inline bool isinf(double x) { return __builtin_isinf(x); }
static inline bool isfinite(float x) { return __builtin_isfinite(x); }
static inline bool isfinite(double x) { return __builtin_isfinite(x); }
static inline bool signbit(float x) { return __builtin_signbit(x); }
static inline bool signbit(double x) { return __builtin_signbit(x); }

static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float rsqrt(float x) { return rsqrtf(x); }
static inline float rcbrtf(float x) { return 1.0f / cbrtf(x); }
static inline float exp10f(float x) { return static_cast<float>(__builtin_pow(10.0, x)); }
static inline double exp10(double x) { return __builtin_pow(10.0, x); }
static inline float norm3df(float x, float y, float z) { return sqrtf(x * x + y * y + z * z); }
static inline float rnorm3df(float x, float y, float z) { return rsqrtf(x * x + y * y + z * z); }
static inline float fdividef(float x, float y) { return x / y; }
static inline float sinpif(float x) { return static_cast<float>(__builtin_sin(3.14159265358979323846 * x)); }
static inline float cospif(float x) { return static_cast<float>(__builtin_cos(3.14159265358979323846 * x)); }
static inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }  // a NaN becomes 0

#define EMULATOR_MIN_MAX(type)                                              \
    static inline type min(type a, type b) { return b < a ? b : a; }        \
    static inline type max(type a, type b) { return a < b ? b : a; }
EMULATOR_MIN_MAX(int) EMULATOR_MIN_MAX(unsigned) EMULATOR_MIN_MAX(long) EMULATOR_MIN_MAX(unsigned long)
EMULATOR_MIN_MAX(long long) EMULATOR_MIN_MAX(unsigned long long)
static inline unsigned min(int a, unsigned b) { return min(static_cast<unsigned>(a), b); }
static inline unsigned min(unsigned a, int b) { return min(a, static_cast<unsigned>(b)); }
static inline unsigned max(int a, unsigned b) { return max(static_cast<unsigned>(a), b); }
static inline unsigned max(unsigned a, int b) { return max(a, static_cast<unsigned>(b)); }
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
static inline double min(float a, double b) { return fmin(static_cast<double>(a), b); }
static inline double min(double a, float b) { return fmin(a, static_cast<double>(b)); }
static inline double max(float a, double b) { return fmax(static_cast<double>(a), b); }
static inline double max(double a, float b) { return fmax(a, static_cast<double>(b)); }

// ---- Arithmetic that must be rounded where it stands: the compiler may not fuse it with what follows ----

#if defined(__x86_64__)
#define EMULATOR_KEEP(value) __asm__("" : "+x"(value))
#elif defined(__aarch64__)
#define EMULATOR_KEEP(value) __asm__("" : "+w"(value))
#else
#define EMULATOR_KEEP(value) __asm__("" : "+m"(value))
#endif
static inline float __fmul_rn(float a, float b) { float r = a * b; EMULATOR_KEEP(r); return r; }
static inline float __fadd_rn(float a, float b) { EMULATOR_KEEP(a); EMULATOR_KEEP(b); float r = a + b; EMULATOR_KEEP(r); return r; }
static inline float __fsub_rn(float a, float b) { EMULATOR_KEEP(a); EMULATOR_KEEP(b); float r = a - b; EMULATOR_KEEP(r); return r; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __frsqrt_rn(float a) { return static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(a))); }
static inline double __dmul_rn(double a, double b) { double r = a * b; EMULATOR_KEEP(r); return r; }
static inline double __dadd_rn(double a, double b) { EMULATOR_KEEP(a); EMULATOR_KEEP(b); double r = a + b; EMULATOR_KEEP(r); return r; }
static inline double __dsub_rn(double a, double b) { EMULATOR_KEEP(a); EMULATOR_KEEP(b); double r = a - b; EMULATOR_KEEP(r); return r; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

static inline float __expf(float x) { return expf(x); }
static inline float __exp10f(float x) { return exp10f(x); }
static inline float __logf(float x) { return logf(x); }
static inline float __log2f(float x) { return log2f(x); }
static inline float __log10f(float x) { return log10f(x); }
static inline float __powf(float x, float y) { return powf(x, y); }
static inline float __sinf(float x) { return sinf(x); }
static inline float __cosf(float x) { return cosf(x); }
static inline float __tanf(float x) { return tanf(x); }
static inline void __sincosf(float x, float* s, float* c) { sincosf(x, s, c); }
static inline float __fdividef(float x, float y) { return x / y; }

// ---- Conversions ----

template <class To, class From>
static inline To emulator_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}
static inline unsigned __float_as_uint(float x) { return emulator_bits<unsigned>(x); }
static inline int __float_as_int(float x) { return emulator_bits<int>(x); }
static inline float __uint_as_float(unsigned x) { return emulator_bits<float>(x); }
static inline float __int_as_float(int x) { return emulator_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return emulator_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return emulator_bits<double>(x); }
static inline int __double2hiint(double x) { return static_cast<int>(emulator_bits<long long>(x) >> 32); }
static inline int __double2loint(double x) { return static_cast<int>(emulator_bits<long long>(x)); }

// To an integer as the hardware does it: clamped, a NaN becomes 0 (0x8000... for the 64-bit ones).
template <class To>
static inline To emulator_clamp(double x, double low, double high, To least, To most, To nan) {
    if (x != x) return nan;
    if (x <= low) return least;
    if (x >= high) return most;
    return static_cast<To>(x);
}
#define EMULATOR_TO_INTEGER(from, prefix)                                                                              \
    static inline int emulator_##prefix##_int(double x) {                                                              \
        return emulator_clamp<int>(x, -2147483648.0, 2147483647.0, -2147483647 - 1, 2147483647, 0);                    \
    }                                                                                                                  \
    static inline unsigned emulator_##prefix##_uint(double x) {                                                        \
        return emulator_clamp<unsigned>(x, 0.0, 4294967295.0, 0u, 4294967295u, 0u);                                    \
    }                                                                                                                  \
    static inline long long emulator_##prefix##_ll(double x) {                                                         \
        const long long least = -9223372036854775807ll - 1;                                                            \
        return emulator_clamp<long long>(x, -9223372036854775808.0, 9223372036854775808.0, least,                      \
                                         9223372036854775807ll, least);                                                \
    }                                                                                                                  \
    static inline unsigned long long emulator_##prefix##_ull(double x) {                                               \
        return emulator_clamp<unsigned long long>(x, 0.0, 18446744073709551616.0, 0ull, ~0ull, 1ull << 63);            \
    }                                                                                                                  \
    EMULATOR_ROUNDINGS(from, prefix, int, int)                                                                         \
    EMULATOR_ROUNDINGS(from, prefix, uint, unsigned)                                                                   \
    EMULATOR_ROUNDINGS(from, prefix, ll, long long)                                                                    \
    EMULATOR_ROUNDINGS(from, prefix, ull, unsigned long long)
#define EMULATOR_ROUNDINGS(from, prefix, name, to)                                                               \
    static inline to __##prefix##2##name##_rn(from x) { return emulator_##prefix##_##name(__builtin_rint(x)); }  \
    static inline to __##prefix##2##name##_rz(from x) { return emulator_##prefix##_##name(__builtin_trunc(x)); } \
    static inline to __##prefix##2##name##_rd(from x) { return emulator_##prefix##_##name(__builtin_floor(x)); } \
    static inline to __##prefix##2##name##_ru(from x) { return emulator_##prefix##_##name(__builtin_ceil(x)); }
EMULATOR_TO_INTEGER(float, float)
EMULATOR_TO_INTEGER(double, double)
static inline float __int2float_rn(int x) { return static_cast<float>(x); }
static inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
static inline float __ll2float_rn(long long x) { return static_cast<float>(x); }
static inline float __ull2float_rn(unsigned long long x) { return static_cast<float>(x); }
static inline double __int2double_rn(int x) { return x; }
static inline double __uint2double_rn(unsigned x) { return x; }
static inline double __ll2double_rn(long long x) { return static_cast<double>(x); }
static inline double __ull2double_rn(unsigned long long x) { return static_cast<double>(x); }
static inline float __double2float_rn(double x) { return static_cast<float>(x); }

// ---- Bits ----

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline unsigned __brev(unsigned x) {
    unsigned r = 0;
    for (int i = 0; i < 32; i++) r |= (x >> i & 1u) << (31 - i);
    return r;
}
static inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
    return static_cast<unsigned>(((static_cast<unsigned long long>(high) << 32 | low) << (shift & 31)) >> 32);
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) >> (shift & 31));
}
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    unsigned long long bytes = static_cast<unsigned long long>(y) << 32 | x;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) {
        unsigned s = selector >> (4 * i) & 15, byte = static_cast<unsigned>(bytes >> (8 * (s & 7)) & 255);
        if (s & 8) byte = byte & 128 ? 255 : 0;
        r |= byte << (8 * i);
    }
    return r;
}

// ---- Memory ----

template <class T> static inline T __ldg(const T* p) { return *p; }
template <class T> static inline T __ldca(const T* p) { return *p; }
template <class T> static inline T __ldcg(const T* p) { return *p; }
template <class T> static inline T __ldcs(const T* p) { return *p; }
template <class T> static inline T __ldcv(const T* p) { return *static_cast<const volatile T*>(p); }
template <class T> static inline void __stwb(T* p, T v) { *p = v; }
template <class T> static inline void __stcg(T* p, T v) { *p = v; }
template <class T> static inline void __stcs(T* p, T v) { *p = v; }
template <class T> static inline void __stwt(T* p, T v) { *p = v; }
static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

// Atomic operations between the cores that run different blocks.
#define EMULATOR_ATOMIC_BY_SWAP(type, bits, name, result)                                                          \
    static inline type name(type* address, type operand) {                                                         \
        bits* place = reinterpret_cast<bits*>(address);                                                            \
        bits seen = __atomic_load_n(place, __ATOMIC_RELAXED);                                                      \
        for (;;) {                                                                                                 \
            type old = emulator_bits<type>(seen);                                                                  \
            type fresh = (result);                                                                                 \
            if (__atomic_compare_exchange_n(place, &seen, emulator_bits<bits>(fresh), true, __ATOMIC_SEQ_CST,      \
                                            __ATOMIC_RELAXED))                                                     \
                return old;                                                                                        \
        }                                                                                                          \
    }
EMULATOR_ATOMIC_BY_SWAP(float, unsigned, atomicAdd, old + operand)
EMULATOR_ATOMIC_BY_SWAP(double, unsigned long long, atomicAdd, old + operand)
EMULATOR_ATOMIC_BY_SWAP(int, unsigned, atomicMin, operand < old ? operand : old)
EMULATOR_ATOMIC_BY_SWAP(int, unsigned, atomicMax, old < operand ? operand : old)
EMULATOR_ATOMIC_BY_SWAP(unsigned, unsigned, atomicMin, operand < old ? operand : old)
EMULATOR_ATOMIC_BY_SWAP(unsigned, unsigned, atomicMax, old < operand ? operand : old)
EMULATOR_ATOMIC_BY_SWAP(unsigned, unsigned, atomicInc, old >= operand ? 0u : old + 1)
EMULATOR_ATOMIC_BY_SWAP(unsigned, unsigned, atomicDec, old == 0 || old > operand ? operand : old - 1)
EMULATOR_ATOMIC_BY_SWAP(long long, unsigned long long, atomicMin, operand < old ? operand : old)
EMULATOR_ATOMIC_BY_SWAP(long long, unsigned long long, atomicMax, old < operand ? operand : old)
EMULATOR_ATOMIC_BY_SWAP(unsigned long long, unsigned long long, atomicMin, operand < old ? operand : old)
EMULATOR_ATOMIC_BY_SWAP(unsigned long long, unsigned long long, atomicMax, old < operand ? operand : old)
EMULATOR_ATOMIC_BY_SWAP(float, unsigned, atomicExch, operand)
#define EMULATOR_ATOMIC(type, name, builtin) \
    static inline type name(type* address, type operand) { return builtin(address, operand, __ATOMIC_SEQ_CST); }
EMULATOR_ATOMIC(int, atomicAdd, __atomic_fetch_add)
EMULATOR_ATOMIC(unsigned, atomicAdd, __atomic_fetch_add)
EMULATOR_ATOMIC(unsigned long long, atomicAdd, __atomic_fetch_add)
EMULATOR_ATOMIC(int, atomicSub, __atomic_fetch_sub)
EMULATOR_ATOMIC(unsigned, atomicSub, __atomic_fetch_sub)
EMULATOR_ATOMIC(int, atomicExch, __atomic_exchange_n)
EMULATOR_ATOMIC(unsigned, atomicExch, __atomic_exchange_n)
EMULATOR_ATOMIC(unsigned long long, atomicExch, __atomic_exchange_n)
#define EMULATOR_ATOMIC_BITS(type)                       \
    EMULATOR_ATOMIC(type, atomicAnd, __atomic_fetch_and) \
    EMULATOR_ATOMIC(type, atomicOr, __atomic_fetch_or)   \
    EMULATOR_ATOMIC(type, atomicXor, __atomic_fetch_xor)
EMULATOR_ATOMIC_BITS(int) EMULATOR_ATOMIC_BITS(unsigned) EMULATOR_ATOMIC_BITS(unsigned long long)
#define EMULATOR_ATOMIC_CAS(type)                                                                                   \
    static inline type atomicCAS(type* address, type compare, type value) {                                         \
        __atomic_compare_exchange_n(address, &compare, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);           \
        return compare;                                                                                             \
    }
EMULATOR_ATOMIC_CAS(int) EMULATOR_ATOMIC_CAS(unsigned) EMULATOR_ATOMIC_CAS(unsigned long long)
EMULATOR_ATOMIC_CAS(unsigned short)

// ---- Blocks and warps ----

static inline void __syncthreads() { emulator_block_barrier(0); }
static inline int __syncthreads_count(int p) { return emulator_block_barrier(p).count; }
static inline int __syncthreads_and(int p) { return emulator_block_barrier(p).all; }
static inline int __syncthreads_or(int p) { return emulator_block_barrier(p).any; }
static inline void __syncwarp(unsigned mask = 0xffffffffu) { emulator_warp(EMULATOR_SYNC, mask, 0, 0, 32); }
static inline unsigned __ballot_sync(unsigned mask, int p) {
    return static_cast<unsigned>(emulator_warp(EMULATOR_BALLOT, mask, p != 0, 0, 32));
}
static inline int __any_sync(unsigned mask, int p) { return static_cast<int>(emulator_warp(EMULATOR_ANY, mask, p != 0, 0, 32)); }
static inline int __all_sync(unsigned mask, int p) { return static_cast<int>(emulator_warp(EMULATOR_ALL, mask, p != 0, 0, 32)); }
static inline unsigned __activemask() { return emulator_active_lanes(); }

#define EMULATOR_SHUFFLES(type, bits)                                                                                  \
    EMULATOR_SHUFFLE_OF(type, bits, __shfl_sync, int, EMULATOR_SHUFFLE)                                                \
    EMULATOR_SHUFFLE_OF(type, bits, __shfl_up_sync, unsigned, EMULATOR_SHUFFLE_UP)                                     \
    EMULATOR_SHUFFLE_OF(type, bits, __shfl_down_sync, unsigned, EMULATOR_SHUFFLE_DOWN)                                 \
    EMULATOR_SHUFFLE_OF(type, bits, __shfl_xor_sync, int, EMULATOR_SHUFFLE_XOR)
#define EMULATOR_SHUFFLE_OF(type, bits, name, parameter_type, operation)                                               \
    static inline type name(unsigned mask, type value, parameter_type parameter, int width = 32) {                     \
        return emulator_bits<type>(static_cast<bits>(                                                                  \
            emulator_warp(operation, mask, emulator_bits<bits>(value), static_cast<int>(parameter), width)));          \
    }
EMULATOR_SHUFFLES(int, unsigned) EMULATOR_SHUFFLES(unsigned, unsigned) EMULATOR_SHUFFLES(float, unsigned)
EMULATOR_SHUFFLES(long, unsigned long) EMULATOR_SHUFFLES(unsigned long, unsigned long)
EMULATOR_SHUFFLES(long long, unsigned long long) EMULATOR_SHUFFLES(unsigned long long, unsigned long long)
EMULATOR_SHUFFLES(double, unsigned long long)

#define EMULATOR_MATCH(type, bits)                                                                                     \
    static inline unsigned __match_any_sync(unsigned mask, type value) {                                               \
        return static_cast<unsigned>(emulator_warp(EMULATOR_MATCH_ANY, mask, emulator_bits<bits>(value), 0, 32));      \
    }
EMULATOR_MATCH(int, unsigned) EMULATOR_MATCH(unsigned, unsigned) EMULATOR_MATCH(float, unsigned)
EMULATOR_MATCH(unsigned long long, unsigned long long)

#define EMULATOR_REDUCE(type, name, operation)                                                                         \
    static inline type name(unsigned mask, type value) {                                                               \
        return static_cast<type>(emulator_warp(operation, mask, static_cast<unsigned>(value), 0, 32));                 \
    }
EMULATOR_REDUCE(unsigned, __reduce_add_sync, EMULATOR_REDUCE_ADD)
EMULATOR_REDUCE(int, __reduce_add_sync, EMULATOR_REDUCE_ADD)
EMULATOR_REDUCE(unsigned, __reduce_min_sync, EMULATOR_REDUCE_MIN_UNSIGNED)
EMULATOR_REDUCE(int, __reduce_min_sync, EMULATOR_REDUCE_MIN_SIGNED)
EMULATOR_REDUCE(unsigned, __reduce_max_sync, EMULATOR_REDUCE_MAX_UNSIGNED)
EMULATOR_REDUCE(int, __reduce_max_sync, EMULATOR_REDUCE_MAX_SIGNED)
EMULATOR_REDUCE(unsigned, __reduce_and_sync, EMULATOR_REDUCE_AND)
EMULATOR_REDUCE(unsigned, __reduce_or_sync, EMULATOR_REDUCE_OR)
EMULATOR_REDUCE(unsigned, __reduce_xor_sync, EMULATOR_REDUCE_XOR)

static inline float2 atomicAdd(float2* a, float2 v) { return {atomicAdd(&a->x, v.x), atomicAdd(&a->y, v.y)}; }
static inline float4 atomicAdd(float4* a, float4 v) {
    return {atomicAdd(&a->x, v.x), atomicAdd(&a->y, v.y), atomicAdd(&a->z, v.z), atomicAdd(&a->w, v.w)};
}

static inline void __trap() { emulator_trap("__trap", nullptr, 0); }
static inline void __nanosleep(unsigned) {}
static inline void __builtin_assume(bool) {}
static inline long long clock64() { static long long ticks; return __atomic_add_fetch(&ticks, 1000, __ATOMIC_RELAXED); }
static inline clock_t clock() { return static_cast<clock_t>(clock64()); }

// ---- The table of a module's kernels ----

template <class F> struct EmulatorCall;
template <class... A>
struct EmulatorCall<void (*)(A...)> {
    static constexpr unsigned count = sizeof...(A);
    static constexpr unsigned sizes[count + 1] = {sizeof(A)..., 0};
    template <unsigned... I> struct Indices {};
    template <unsigned N, unsigned... I> struct Make : Make<N - 1, N - 1, I...> {};
    template <unsigned... I> struct Make<0, I...> { using Type = Indices<I...>; };
    template <void (*kernel)(A...), unsigned... I>
    static void loop(void** arguments, Indices<I...>) {
        do kernel(*static_cast<A*>(arguments[I])...);
        while (emulator_next_thread());
    }
    template <void (*kernel)(A...)>
    static void run(void** arguments) { loop<kernel>(arguments, typename Make<count>::Type()); }
};
#define EMULATOR_EXPORT __attribute__((visibility("default")))
#define EMULATOR_KERNEL(name, bound)                                                                                    \
    {#name, &EmulatorCall<decltype(&name)>::run<&name>, EmulatorCall<decltype(&name)>::sizes,                           \
     EmulatorCall<decltype(&name)>::count, bound}
static thread_local char emulator_shared_anchor;  // so that every module has thread storage to find its __shared__ by
extern "C" EMULATOR_EXPORT void* emulator_touch_shared() { return &emulator_shared_anchor; }
extern "C" EMULATOR_EXPORT const unsigned emulator_abi = EMULATOR_ABI;
static inline void* emulator_dynamic_shared() { return emulator_current->dynamic_shared; }

#define NULL nullptr

// ---- Words of CUDA C; last, because system words use some of them ----

#define assert(condition) \
    ((condition) ? static_cast<void>(0) : emulator_trap("assertion `" #condition "` failed", __FILE__, __LINE__))
#define __global__ EMULATOR_EXPORT
#define __device__
#define __host__
#define __constant__ EMULATOR_EXPORT
#define __shared__ static thread_local
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __inline__ inline
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
#define __grid_constant__
