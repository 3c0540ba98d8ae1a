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

// Block (x, half): the sums of mask * loss and of the mask over its pixels, to sums[half][x] and, behind
// those of the halves, to sums[halves][x].
extern "C" __global__ void sums(double* sums, const real* prediction, const real* target, const float* mask,
                                const float* confidence, int laplace, int pixels, int channels, int lanes) {
    int half = blockIdx.y, pixel = thread_number() / lanes;
    bool there = pixel < pixels;
    long long at = there ? (long long)pixel * channels : 0;
    float error = pixel_error(prediction + (long long)half * pixels * channels + at, target + at, laplace, channels,
                              lanes, there);
    double loss = 0.0, weight = 0.0;
    if (there && (lanes == 1 || threadIdx.x % 32 == 0)) {
        weight = mask[pixel];
        loss = error;
        if (confidence) {
            float s = confidence[2 * pixel + half];
            loss = loss * precision_at(laplace, s) + (double)channels * logf(s + EPS);
        }
        loss *= weight;
    }
    loss = block_sum(loss);
    weight = block_sum(weight);
    if (threadIdx.x == 0) {
        sums[half * gridDim.x + blockIdx.x] = loss;
        if (half == 0) sums[gridDim.y * gridDim.x + blockIdx.x] = weight;
    }
}

// One block: losses[halves] = the means, share = 1 / (sum of the mask times channels), 0 for an empty mask.
extern "C" __global__ void means(float* losses, float* share, const double* sums, int halves, int blocks,
                                 int channels) {
    double total[3];
    for (int k = 0; k <= halves; k++) {
        double sum = 0.0;
        for (int i = threadIdx.x; i < blocks; i += 256) sum += sums[k * blocks + i];
        total[k] = block_sum(sum);
    }
    if (threadIdx.x == 0) {
        double weight = total[halves] * channels;
        // Written so that a mask that is no number gives none.
        double part = weight == 0.0 ? 0.0 : 1.0 / weight;
        for (int k = 0; k < halves; k++) losses[k] = (float)(total[k] * part);
        *share = (float)part;
    }
}

__device__ __forceinline__ float error_slope(int laplace, float d) {
    return laplace ? (d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : d) : 2.0f * d;
}

// One thread for each element of all halves, or for four neighbours where the channels of a pixel come by fours.
extern "C" __global__ void prediction_gradient(real* gradient, const real* prediction, const real* target,
                                               const float* mask, const float* confidence, const float* dy,
                                               const float* share, int laplace, int halves, int pixels, int channels) {
    bool fours = channels % 4 == 0;
    int i = (fours ? 4 : 1) * thread_number(), count = pixels * channels;
    if (i >= halves * count) return;
    int half = i / count, at = i % count, pixel = at / channels;
    float scale = dy[half] * *share * mask[pixel];
    if (confidence) scale *= precision_at(laplace, confidence[2 * pixel + half]);
    if (fours) {
        float4 p = load4(prediction + i), t = load4(target + at);
        store4(gradient + i, make_float4(scale * error_slope(laplace, p.x - t.x), scale * error_slope(laplace, p.y - t.y),
                                         scale * error_slope(laplace, p.z - t.z), scale * error_slope(laplace, p.w - t.w)));
    } else {
        store(gradient + i, scale * error_slope(laplace, load(prediction + i) - load(target + at)));
    }
}

// Block (x, half).
extern "C" __global__ void confidence_gradient(float* gradient, const real* prediction, const real* target,
                                               const float* mask, const float* confidence, const float* dy,
                                               const float* share, int laplace, int pixels, int channels, int lanes) {
    int half = blockIdx.y, pixel = thread_number() / lanes;
    bool there = pixel < pixels;
    long long at = there ? (long long)pixel * channels : 0;
    float error = pixel_error(prediction + (long long)half * pixels * channels + at, target + at, laplace, channels,
                              lanes, there);
    if (there && (lanes == 1 || threadIdx.x % 32 == 0)) {
        float s = confidence[2 * pixel + half];
        float slope = error * precision_slope(laplace, s) + (float)channels / (s + EPS);
        gradient[2 * pixel + half] = dy[half] * *share * mask[pixel] * slope;
    }
}
