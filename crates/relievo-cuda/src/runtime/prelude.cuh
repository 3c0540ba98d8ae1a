// What every kernel file begins with. `real` is what activations are stored as: float, or bf16 when the file is
// compiled with REAL_IS_BF16. Arithmetic is in float throughout.

typedef unsigned short bf16;
#ifdef REAL_IS_BF16
typedef bf16 real;
#else
typedef float real;
#endif

__device__ __forceinline__ float load(const float* p) { return *p; }
__device__ __forceinline__ float load(const bf16* p) { return __uint_as_float((unsigned)*p << 16); }

// To the nearest bf16, ties to even; a NaN stays one.
__device__ __forceinline__ bf16 to_bf16(float x) {
    unsigned bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (bf16)((bits >> 16) | 0x40u);
    return (bf16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
__device__ __forceinline__ void store(float* p, float x) { *p = x; }
__device__ __forceinline__ void store(bf16* p, float x) { *p = to_bf16(x); }

// Four neighbours at once; p must be aligned to four elements.
__device__ __forceinline__ float4 load4(const float* p) { return *(const float4*)p; }
__device__ __forceinline__ float4 load4(const bf16* p) {
    uint2 bits = *(const uint2*)p;
    return make_float4(__uint_as_float(bits.x << 16), __uint_as_float(bits.x & 0xffff0000u),
                       __uint_as_float(bits.y << 16), __uint_as_float(bits.y & 0xffff0000u));
}
__device__ __forceinline__ void store4(float* p, float4 x) { *(float4*)p = x; }
__device__ __forceinline__ void store4(bf16* p, float4 x) {
    uint2 bits;
#ifdef CUDA_EMULATOR
    bits.x = (unsigned)to_bf16(x.x) | (unsigned)to_bf16(x.y) << 16;
    bits.y = (unsigned)to_bf16(x.z) | (unsigned)to_bf16(x.w) << 16;
#else
    // One instruction for two numbers, in place of eight for each. The first operand becomes the upper half.
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits.x) : "f"(x.y), "f"(x.x));
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits.y) : "f"(x.w), "f"(x.z));
#endif
    *(uint2*)p = bits;
}

// The number of this thread among all of the launch.
__device__ __forceinline__ int thread_number() { return blockIdx.x * blockDim.x + threadIdx.x; }

// The sum of x over the 32 lanes of a warp, in a fixed order, in every lane. All lanes must call.
template <typename T>
__device__ __forceinline__ T warp_sum(T x) {
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

// The sum of x over the block (a multiple of 32 threads, at most 1024), in a fixed order, in every thread. All threads
// must call, as often as each other.
template <typename T>
__device__ __forceinline__ T block_sum(T x) {
    __shared__ T of_warps[32];
    x = warp_sum(x);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    __syncthreads();
    if (lane == 0) of_warps[warp] = x;
    __syncthreads();
    return warp_sum(lane < warps ? of_warps[lane] : T(0));
}
