// Maps [batch, height, width], one after the other: pixel i is in row i / width of all rows.

struct Weights {
    double down, along;
};

// Block b: the weighted absolute differences to the neighbours below and to the right, of pixels b * part to
// (b + 1) * part.
extern "C" __global__ void parts(double* sums, const real* depth, Weights weights, int height, int width, int part,
                                 int count) {
    double down = 0.0, along = 0.0;
    int first = blockIdx.x * part;
    for (int i = first + threadIdx.x; i < count && i < first + part; i += blockDim.x) {
        float here = load(depth + i);
        if (i / width % height + 1 < height) down += fabsf(load(depth + i + width) - here);
        if (i % width + 1 < width) along += fabsf(load(depth + i + 1) - here);
    }
    double sum = block_sum(weights.down * down + weights.along * along);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

extern "C" __global__ void total(float* y, const double* sums, int parts) {
    double sum = 0.0;
    for (int i = threadIdx.x; i < parts; i += blockDim.x) sum += sums[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *y = (float)sum;
}

// The slope of |x|: 0 at 0, NaN for NaN.
__device__ __forceinline__ float sign(float x) { return x == 0.0f || x != x ? x : copysignf(1.0f, x); }

// One thread for each pixel; the terms of its up to four differences in the CPU's order.
extern "C" __global__ void backward(real* gradient, const real* depth, const float* dy, Weights weights, int height,
                                    int width, int count) {
    int i = thread_number();
    if (i >= count) return;
    float down = (float)(*dy * weights.down), along = (float)(*dy * weights.along);
    int v = i / width % height, u = i % width;
    float here = load(depth + i), sum = 0.0f;
    if (v > 0) sum += down * sign(here - load(depth + i - width));
    if (v + 1 < height) sum += down * sign(here - load(depth + i + width));
    if (u > 0) sum += along * sign(here - load(depth + i - 1));
    if (u + 1 < width) sum -= along * sign(load(depth + i + 1) - here);
    store(gradient + i, sum);
}
