// depth_from_raw: a block for each picture, which it reads three times (from the cache). The others: a thread for each
// element.

// The mean of x over `count` elements, in every thread of the block.
template <typename Element>
__device__ __forceinline__ float block_mean(int count, Element x) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < count; i += blockDim.x) sum += x(i);
    return block_sum(sum) / (float)count;
}

// squashed = tanh(raw - mean), depth = middle + half * squashed. `squashed` may be null.
extern "C" __global__ void from_raw(float* depth, float* squashed, const float* raw, float middle, float half,
                                    int pixels) {
    long long picture = (long long)blockIdx.x * pixels;
    raw += picture;
    float mean = block_mean(pixels, [&](int i) { return raw[i]; });
    for (int i = threadIdx.x; i < pixels; i += blockDim.x) {
        float t = tanhf(raw[i] - mean);
        depth[picture + i] = middle + half * t;
        if (squashed) squashed[picture + i] = t;
    }
}

// h = dy half (1 - t^2), draw = h - mean.
extern "C" __global__ void from_raw_backward(float* draw, const float* squashed, const float* dy, float half, int pixels) {
    long long picture = (long long)blockIdx.x * pixels;
    squashed += picture;
    dy += picture;
    auto h = [&](int i) { return dy[i] * half * (1.0f - squashed[i] * squashed[i]); };
    float mean = block_mean(pixels, h);
    for (int i = threadIdx.x; i < pixels; i += blockDim.x) draw[picture + i] = h(i) - mean;
}

// y = x, but `value` in the first and the last `border` columns.
extern "C" __global__ void with_border(float* y, const float* x, float value, int border, int columns, int count) {
    int i = thread_number();
    if (i >= count) return;
    int column = i % columns;
    y[i] = column < border || column >= columns - border ? value : x[i];
}

// y = x between low and high.
extern "C" __global__ void clamp(float* y, const float* x, float low, float high, int count) {
    int i = thread_number();
    if (i < count) y[i] = fminf(fmaxf(x[i], low), high);
}

// dx = dy where x was not clamped.
extern "C" __global__ void clamp_backward(float* dx, const float* x, const float* dy, float low, float high, int count) {
    int i = thread_number();
    if (i < count) dx[i] = low <= x[i] && x[i] <= high ? dy[i] : 0.0f;
}
