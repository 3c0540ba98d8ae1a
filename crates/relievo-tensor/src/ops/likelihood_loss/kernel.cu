// A pixel with many channels is shared by the 32 lanes of a warp, one with few belongs to one thread; `lanes` says which.
// Sums are in double from the second stage on: pixels of a block, then blocks, both in a fixed order.

#define EPS 1e-7f

__device__ __forceinline__ float precision_at(int laplace, float s) {
    return laplace ? 1.41421356f / (s + EPS) : 1.0f / (2.0f * s * s + EPS);
}

__device__ __forceinline__ float precision_slope(int laplace, float s) {
    float precision = precision_at(laplace, s);
    return laplace ? -precision / (s + EPS) : -4.0f * s * precision * precision;
}

// The error of a pixel over all its channels, in every lane that has a part in it. All lanes must call.
__device__ __forceinline__ float pixel_error(const real* prediction, const real* target, int laplace, int channels,
                                             int lanes, bool there) {
    float error = 0.0f;
    if (there) {
        for (int c = lanes == 1 ? 0 : threadIdx.x % 32; c < channels; c += lanes) {
            float d = load(prediction + c) - load(target + c);
            error += laplace ? fabsf(d) : d * d;
        }
    }
    return lanes == 1 ? error : warp_sum(error);
}

// A part is a group of one half of the prediction: part half * groups + group. `pixels` are those of all groups of a half.
// With `own_masks` each half has masks, else both have the same.
__device__ __forceinline__ float mask_at(const float* mask, int own_masks, int half, int pixels, int pixel) {
    return mask[(own_masks ? (long long)half * pixels : 0) + pixel];
}

// Block (x, part): the sums of mask * loss and of the mask over its pixels, to sums[part][x] and sums[parts + part][x].
extern "C" __global__ void sums(double* sums, const real* prediction, const real* target, const float* mask,
                                const float* confidence, int laplace, int pixels, int channels, int lanes, int halves,
                                int groups, int own_masks) {
    int half = blockIdx.y / groups, group = blockIdx.y % groups, in_group = pixels / groups;
    int pixel = thread_number() / lanes;
    bool there = pixel < in_group;
    pixel += group * in_group;
    long long at = there ? (long long)pixel * channels : 0;
    float error = pixel_error(prediction + (long long)half * pixels * channels + at, target + at, laplace, channels,
                              lanes, there);
    double loss = 0.0, weight = 0.0;
    if (there && (lanes == 1 || threadIdx.x % 32 == 0)) {
        weight = mask_at(mask, own_masks, half, pixels, pixel);
        loss = error;
        if (confidence) {
            float s = confidence[halves * pixel + half];
            loss = loss * precision_at(laplace, s) + (double)channels * logf(s + EPS);
        }
        loss *= weight;
    }
    loss = block_sum(loss);
    weight = block_sum(weight);
    if (threadIdx.x == 0) {
        sums[blockIdx.y * gridDim.x + blockIdx.x] = loss;
        sums[(gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] = weight;
    }
}

// A block for each part: its mean, and its share: 1 / (sum of the mask times channels), 0 for an empty mask.
extern "C" __global__ void means(float* losses, float* shares, const double* sums, int blocks, int channels) {
    double total[2];
    for (int k = 0; k < 2; k++) {
        const double* of_part = sums + (k * gridDim.x + blockIdx.x) * blocks;
        double sum = 0.0;
        for (int i = threadIdx.x; i < blocks; i += 256) sum += of_part[i];
        total[k] = block_sum(sum);
    }
    if (threadIdx.x == 0) {
        double weight = total[1] * channels;
        // Written so that a mask that is no number gives none.
        double share = weight == 0.0 ? 0.0 : 1.0 / weight;
        losses[blockIdx.x] = (float)(total[0] * share);
        shares[blockIdx.x] = (float)share;
    }
}

__device__ __forceinline__ float error_slope(int laplace, float d) {
    return laplace ? (d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : d) : 2.0f * d;
}

// One thread for each element of both halves, or for four neighbours where the channels of a pixel come by fours.
extern "C" __global__ void prediction_gradient(real* gradient, const real* prediction, const real* target,
                                               const float* mask, const float* confidence, const float* dy,
                                               const float* shares, int laplace, int pixels, int channels, int halves,
                                               int groups, int own_masks) {
    bool fours = channels % 4 == 0;
    int i = (fours ? 4 : 1) * thread_number(), count = pixels * channels;
    if (i >= halves * count) return;
    int half = i / count, at = i % count, pixel = at / channels;
    int part = half * groups + pixel / (pixels / groups);
    float scale = dy[part] * shares[part] * mask_at(mask, own_masks, half, pixels, pixel);
    if (confidence) scale *= precision_at(laplace, confidence[halves * pixel + half]);
    if (fours) {
        float4 p = load4(prediction + i), t = load4(target + at);
        store4(gradient + i, make_float4(scale * error_slope(laplace, p.x - t.x), scale * error_slope(laplace, p.y - t.y),
                                         scale * error_slope(laplace, p.z - t.z), scale * error_slope(laplace, p.w - t.w)));
    } else {
        store(gradient + i, scale * error_slope(laplace, load(prediction + i) - load(target + at)));
    }
}

// Block (x, part).
extern "C" __global__ void confidence_gradient(float* gradient, const real* prediction, const real* target,
                                               const float* mask, const float* confidence, const float* dy,
                                               const float* shares, int laplace, int pixels, int channels, int lanes,
                                               int halves, int groups, int own_masks) {
    int part = blockIdx.y, half = part / groups, in_group = pixels / groups;
    int pixel = thread_number() / lanes;
    bool there = pixel < in_group;
    pixel += part % groups * in_group;
    long long at = there ? (long long)pixel * channels : 0;
    float error = pixel_error(prediction + (long long)half * pixels * channels + at, target + at, laplace, channels,
                              lanes, there);
    if (there && (lanes == 1 || threadIdx.x % 32 == 0)) {
        float s = confidence[halves * pixel + half];
        float slope = error * precision_slope(laplace, s) + (float)channels / (s + EPS);
        float weight = mask_at(mask, own_masks, half, pixels, pixel);
        gradient[halves * pixel + half] = dy[part] * shares[part] * weight * slope;
    }
}
