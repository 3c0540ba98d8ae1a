// A block for each image, which it reads several times (from the cache).

// What is made of the depths beside themselves: as in mod.rs.
enum Doubling { SINGLE = 0, REPEATED = 1, MIRRORED = 2 };

struct Canonical {
    int rows, columns, batch;
    float middle, half;  // of the range of depths
    float dome;
    float border_depth;
    int border;    // columns that are set on either side
    int doubling;  // a Doubling
};

// -1 to 1 in `count` steps, squared.
__device__ __forceinline__ float squared_place(int index, int count) {
    float place = __fsub_rn(2.0f * (float)index / (float)((count > 2 ? count : 2) - 1), 1.0f);
    return __fmul_rn(place, place);
}

__device__ __forceinline__ bool is_inside(const Canonical& c, int column) {
    return column >= c.border && column < c.columns - c.border;
}

// Where pixel i of an image is found in the second half.
__device__ __forceinline__ int mirrored(const Canonical& c, int i) {
    int column = i % c.columns;
    return c.doubling == MIRRORED ? i + c.columns - 1 - 2 * column : i;
}

// The mean of x over `count` elements, in every thread of the block.
template <typename Element>
__device__ __forceinline__ float block_mean(int count, Element x) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < count; i += blockDim.x) sum += x(i);
    return block_sum(sum) / (float)count;
}

// squashed = tanh(raw + dome - mean), depth = middle + half * squashed, and the canonical depths. `squashed` may be null.
extern "C" __global__ void forward(float* depth, float* canonical, float* squashed, const float* raw, Canonical c) {
    int pixels = c.rows * c.columns;
    long long image = (long long)blockIdx.x * pixels;
    raw += image;
    auto shaped = [&](int i) {
        float bowl = __fadd_rn(squared_place(i % c.columns, c.columns), squared_place(i / c.columns, c.rows));
        return __fadd_rn(raw[i], __fmul_rn(c.dome, bowl));
    };
    float mean = block_mean(pixels, shaped);
    for (int i = threadIdx.x; i < pixels; i += blockDim.x) {
        float t = tanhf(shaped(i) - mean);
        float d = c.middle + c.half * t;
        depth[image + i] = d;
        if (squashed) squashed[image + i] = t;
        float seen = is_inside(c, i % c.columns) ? d : c.border_depth;
        canonical[image + i] = seen;
        if (c.doubling != SINGLE) canonical[image + (long long)c.batch * pixels + mirrored(c, i)] = seen;
    }
}

// With dy the sum of what reaches a pixel: h = dy half (1 - t^2), draw = h - mean. `ddepth` and `dcanonical` may be null.
extern "C" __global__ void backward(float* draw, const float* squashed, const float* ddepth, const float* dcanonical,
                                    Canonical c) {
    int pixels = c.rows * c.columns;
    long long image = (long long)blockIdx.x * pixels;
    auto h = [&](int i) {
        float dy = ddepth ? ddepth[image + i] : 0.0f, t = squashed[image + i];
        if (dcanonical && is_inside(c, i % c.columns)) {
            dy += dcanonical[image + i];
            if (c.doubling != SINGLE) dy += dcanonical[image + (long long)c.batch * pixels + mirrored(c, i)];
        }
        return dy * c.half * (1.0f - t * t);
    };
    float mean = block_mean(pixels, h);
    for (int i = threadIdx.x; i < pixels; i += blockDim.x) draw[image + i] = h(i) - mean;
}
