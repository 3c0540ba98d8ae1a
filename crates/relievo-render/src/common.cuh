// What the kernels of several operations share. Comes before their own text, after the engine's.
//
// __fmul_rn and its like are never fused with what follows: where they stand, a number has to be the CPU's to the bit,
// because something is decided by it later (which triangle covers a sample), or because what follows cancels.

// The camera; corners and pixels along each axis.
struct Camera {
    int size;
    float focal, centre;
    float normal_epsilon;  // Added to the length of a normal before it is divided by that.
};

// x (of a column) or y (of a row) of a pixel's ray at depth 1.
__device__ __forceinline__ float slope(const Camera& camera, int i) {
    return ((float)i - camera.centre) / camera.focal;
}

// The point of pixel p at a depth.
__device__ __forceinline__ float3 lift(const Camera& camera, int p, float depth) {
    return make_float3(__fmul_rn(depth, slope(camera, p % camera.size)), __fmul_rn(depth, slope(camera, p / camera.size)),
                       depth);
}

__device__ __forceinline__ float3 load3(const float* p, int i) {
    return make_float3(p[3 * i], p[3 * i + 1], p[3 * i + 2]);
}
__device__ __forceinline__ void store3(float* p, int i, float3 v) {
    p[3 * i] = v.x;
    p[3 * i + 1] = v.y;
    p[3 * i + 2] = v.z;
}

__device__ __forceinline__ float3 subtract(float3 a, float3 b) {
    return make_float3(__fsub_rn(a.x, b.x), __fsub_rn(a.y, b.y), __fsub_rn(a.z, b.z));
}
__device__ __forceinline__ float dot(float3 a, float3 b) {
    return __fadd_rn(__fadd_rn(__fmul_rn(a.x, b.x), __fmul_rn(a.y, b.y)), __fmul_rn(a.z, b.z));
}
__device__ __forceinline__ float3 cross(float3 a, float3 b) {
    return make_float3(__fsub_rn(__fmul_rn(a.y, b.z), __fmul_rn(a.z, b.y)),
                       __fsub_rn(__fmul_rn(a.z, b.x), __fmul_rn(a.x, b.z)),
                       __fsub_rn(__fmul_rn(a.x, b.y), __fmul_rn(a.y, b.x)));
}
__device__ __forceinline__ float3 scaled(float3 v, float factor) {
    return make_float3(__fmul_rn(v.x, factor), __fmul_rn(v.y, factor), __fmul_rn(v.z, factor));
}

// Sums over the pixels of images that share a light or a viewpoint take two launches: blocks sum parts of an image
// (block_parts), then one warp for each light or viewpoint the parts of all its images (group_sum). Both in a fixed
// order.

// parts[k] = the sum of x[k] over the block (a multiple of 32 threads). All threads must call, once.
template <int N>
__device__ __forceinline__ void block_parts(float* parts, const float (&x)[N]) {
    __shared__ float of_warps[N][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int k = 0; k < N; k++) {
        float sum = warp_sum(x[k]);
        if (lane == 0) of_warps[k][warp] = sum;
    }
    __syncthreads();
    if (threadIdx.x < N) {
        float sum = 0.0f;
        for (int w = 0; w < warps; w++) sum += of_warps[threadIdx.x][w];
        parts[threadIdx.x] = sum;
    }
}

// The sum of element k of parts [images][count][elements] over the images group, group + groups and so on, in
// every lane. The block is one warp.
__device__ __forceinline__ double group_sum(const float* parts, int elements, int k, int count, int images, int groups,
                                            int group) {
    double sum = 0.0;
    int entries = images / groups * count;
    for (int entry = threadIdx.x; entry < entries; entry += 32) {
        int image = group + groups * (entry / count);
        sum += parts[((long long)image * count + entry % count) * elements + k];
    }
    return warp_sum(sum);
}
