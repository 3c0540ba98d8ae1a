// places [faces,5,2], depths [faces,5], known [faces]: one block; a thread has every 256th face. Sums are in double, in a
// fixed order.

// One over the number of faces that are known, in every thread. All threads must call.
__device__ __forceinline__ double share_of(const float* known, int faces) {
    double count = 0.0;
    for (int face = threadIdx.x; face < faces; face += blockDim.x) count += known[face];
    count = block_sum(count);
    return count > 0.0 ? 1.0 / count : 0.0;
}

extern "C" __global__ void error(float* y, const float* places, const float* depths, const float* known, float range,
                                 int faces) {
    double sum = 0.0, share = share_of(known, faces);
    for (int face = threadIdx.x; face < faces; face += blockDim.x) {
        const float *p = places + 10 * face, *d = depths + 5 * face;
        double of_face = 0.0;
        for (int a = 0; a < 5; a++) {
            // Eyes, corners of the mouth.
            if (a == 0 || a == 3) {
                of_face += 0.5f * (fabsf(p[2 * a] + p[2 * a + 2]) + fabsf(p[2 * a + 1] - p[2 * a + 3])) +
                           fabsf(d[a] / range - d[a + 1] / range);
            }
            if (a != 2) of_face += 0.25f * fmaxf(d[2] / range - d[a] / range, 0.0f);
        }
        sum += known[face] * of_face;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) *y = (float)(share * sum);
}

// The slope of |x|: 0 at 0, NaN for NaN.
__device__ __forceinline__ float sign(float x) { return x == 0.0f || x != x ? x : copysignf(1.0f, x); }

// The gradients are 0 before.
extern "C" __global__ void gradients(float* dplaces, float* ddepths, const float* places, const float* depths,
                                     const float* known, const float* dy, float range, int faces) {
    float share = (float)(*dy * share_of(known, faces));
    for (int face = threadIdx.x; face < faces; face += blockDim.x) {
        const float *p = places + 10 * face, *d = depths + 5 * face;
        float *dp = dplaces + 10 * face, *dd = ddepths + 5 * face, scale = share * known[face];
        for (int a = 0; a < 4; a += 3) {
            float across = 0.5f * scale * sign(p[2 * a] + p[2 * a + 2]);
            float down = 0.5f * scale * sign(p[2 * a + 1] - p[2 * a + 3]);
            dp[2 * a] += across;
            dp[2 * a + 2] += across;
            dp[2 * a + 1] += down;
            dp[2 * a + 3] -= down;
            float apart = scale / range * sign(d[a] - d[a + 1]);
            dd[a] += apart;
            dd[a + 1] -= apart;
        }
        for (int a = 0; a < 5; a++) {
            if (a == 2 || !(d[2] > d[a])) continue;
            dd[2] += 0.25f * scale / range;
            dd[a] -= 0.25f * scale / range;
        }
    }
}
