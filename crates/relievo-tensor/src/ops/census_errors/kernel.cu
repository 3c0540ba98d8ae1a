// A thread for each pixel. The neighbours of a pixel are those of the 7x7 around it under the mask.

#define RADIUS 3
#define LEVELS 127.5f
#define SOFT 0.81f
#define FAR 0.1f

// Grey levels [images + targets] of the reconstructions, then of the targets.
extern "C" __global__ void grey(float* grey, const float* found, const float* target, Extents e) {
    int pixel = thread_number(), pixels = e.images * e.height * e.width;
    if (pixel >= pixels + e.targets * e.height * e.width) return;
    const float* from = pixel < pixels ? found + (long long)pixel * e.channels
                                       : target + (long long)(pixel - pixels) * e.channels;
    float sum = 0.0f;
    for (int channel = 0; channel < e.channels; channel++) sum += from[channel];
    grey[pixel] = LEVELS / e.channels * sum;
}

// The distance that a neighbour gives to a pixel, both numbered among all images, and its slope by the difference of
// their grey levels.
__device__ __forceinline__ float pair_of(const float* grey, Extents e, int pixel, int other, float* slope) {
    const float* target = grey + e.images * e.height * e.width;
    int of_target = e.targets * e.height * e.width;
    float d = grey[other] - grey[pixel], r = target[other % of_target] - target[pixel % of_target];
    float square = SOFT + d * d, root = sqrtf(square);
    float difference = d / root - r / sqrtf(SOFT + r * r), below = FAR + difference * difference;
    *slope = 2.0f * FAR * difference / (below * below) * (SOFT / (square * root));
    return difference * difference / below;
}

__device__ __forceinline__ bool is_covered(const float* mask, Extents e, int pixel) {
    return mask[mask_of(e, pixel * e.channels)] > 0.0f;
}

// Runs the body for each neighbour `other` of `pixel`.
#define FOR_NEIGHBOURS(...)                                                                               \
    {                                                                                                     \
        int row = pixel / e.width % e.height, column = pixel % e.width;                                   \
        for (int r = max(0, row - RADIUS); r < min(e.height, row + RADIUS + 1); r++) {                    \
            for (int c = max(0, column - RADIUS); c < min(e.width, column + RADIUS + 1); c++) {           \
                int other = pixel + (r - row) * e.width + c - column;                                     \
                if (other != pixel && is_covered(mask, e, other)) __VA_ARGS__                              \
            }                                                                                             \
        }                                                                                                 \
    }

// One over the number of neighbours, 0 beyond the mask and where there are none.
extern "C" __global__ void shares(float* shares, const float* mask, Extents e) {
    int pixel = thread_number();
    if (pixel >= e.images * e.height * e.width) return;
    int count = 0;
    FOR_NEIGHBOURS({ count++; })
    shares[pixel] = is_covered(mask, e, pixel) && count > 0 ? 1.0f / count : 0.0f;
}

extern "C" __global__ void errors(float* errors, const float* grey, const float* shares, const float* mask, Extents e) {
    int pixel = thread_number();
    if (pixel >= e.images * e.height * e.width) return;
    float sum = 0.0f, slope;
    FOR_NEIGHBOURS({ sum += pair_of(grey, e, pixel, other, &slope); })
    errors[pixel] = shares[pixel] > 0.0f ? shares[pixel] * sum : 0.0f;
}

extern "C" __global__ void gradient(float* gradient, const float* grey, const float* shares, const float* mask,
                                    const float* dy, Extents e) {
    int pixel = thread_number();
    if (pixel >= e.images * e.height * e.width) return;
    float sum = 0.0f;
    // A pixel beyond the mask is nobody's neighbour and has no distance.
    if (is_covered(mask, e, pixel)) {
        FOR_NEIGHBOURS({
            float given, own;
            pair_of(grey, e, other, pixel, &given);
            pair_of(grey, e, pixel, other, &own);
            sum += dy[other] * shares[other] * given - dy[pixel] * shares[pixel] * own;
        })
    }
    for (int channel = 0; channel < e.channels; channel++) {
        gradient[(long long)pixel * e.channels + channel] = LEVELS / e.channels * sum;
    }
}
