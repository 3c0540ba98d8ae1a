// Sums under a window are taken along the rows by one kernel, a thread for each element and moment, and down the columns
// by the kernel that needs them, a thread for each element. The moments are those of: 1, x, y, xx, yy, xy, each times
// the mask.

#define MOMENTS 6
#define BRIGHTNESS 1e-4f
#define CONTRAST 9e-4f

__device__ __forceinline__ float moment_of(int moment, float x, float y) {
    switch (moment) {
        case 0: return 1.0f;
        case 1: return x;
        case 2: return y;
        case 3: return x * x;
        case 4: return y * y;
        default: return x * y;
    }
}

extern "C" __global__ void moments_along(float* sums, const float* found, const float* target, const float* mask,
                                         Extents e, float deviation, int radius, int count) {
    int number = thread_number(), elements = elements_of(e);
    if (number >= count) return;
    int moment = number / elements, i = number % elements, column = i / e.channels % e.width;
    float sum = 0.0f;
    for (int at = max(0, column - radius); at < min(e.width, column + radius + 1); at++) {
        int j = i + (at - column) * e.channels;
        float x = 0.5f * found[j] + 0.5f, y = 0.5f * target[target_of(e, j)] + 0.5f;
        sum += window_weight(at - column, deviation) * (mask[mask_of(e, j)] * moment_of(moment, x, y));
    }
    sums[number] = sum;
}

// The sum down a column of what was summed along the rows.
__device__ __forceinline__ float sum_down(const float* sums, Extents e, float deviation, int radius, int i) {
    int stride = e.width * e.channels, row = i / stride % e.height;
    float sum = 0.0f;
    for (int at = max(0, row - radius); at < min(e.height, row + radius + 1); at++) {
        sum += window_weight(at - row, deviation) * sums[i + (at - row) * stride];
    }
    return sum;
}

// The means under the window; returns one over the sum of the mask, 0 where the mask is 0.
__device__ __forceinline__ float means_at(float* means, const float* sums, const float* mask, Extents e, float deviation,
                                          int radius, int i) {
    int elements = elements_of(e);
    float share = mask[mask_of(e, i)] > 0.0f ? 1.0f / sum_down(sums, e, deviation, radius, i) : 0.0f;
    for (int moment = 1; moment < MOMENTS; moment++) {
        means[moment] = share * sum_down(sums + (long long)moment * elements, e, deviation, radius, i);
    }
    return share;
}

// Contrast and structure, and the slopes by the means of x, xx and xy.
__device__ __forceinline__ float contrast_of(const float* means, float* slopes) {
    float x = means[1], y = means[2];
    float below = (means[3] - x * x) + (means[4] - y * y) + CONTRAST;
    float value = (2.0f * (means[5] - x * y) + CONTRAST) / below;
    slopes[0] = (2.0f * x * value - 2.0f * y) / below;
    slopes[1] = -value / below;
    slopes[2] = 2.0f / below;
    return value;
}

__device__ __forceinline__ float brightness_of(const float* means, float* slope) {
    float x = means[1], y = means[2], below = x * x + y * y + BRIGHTNESS;
    float value = (2.0f * x * y + BRIGHTNESS) / below;
    *slope = 2.0f * (y - x * value) / below;
    return value;
}

// The factors [windows + 1][elements] of one window: contrast and structure, and of the last window brightness too.
extern "C" __global__ void factors(float* factors, const float* sums, const float* mask, Extents e, float deviation,
                                   int radius, int window, int windows) {
    int i = thread_number(), elements = elements_of(e);
    if (i >= elements) return;
    float means[MOMENTS], slopes[3];
    means_at(means, sums, mask, e, deviation, radius, i);
    factors[(long long)window * elements + i] = contrast_of(means, slopes);
    if (window + 1 == windows) factors[(long long)windows * elements + i] = brightness_of(means, slopes);
}

// The product of all factors but one.
__device__ __forceinline__ float others(const float* factors, int elements, int windows, int without, int i) {
    float product = 1.0f;
    for (int factor = 0; factor <= windows; factor++) {
        if (factor != without) product *= factors[(long long)factor * elements + i];
    }
    return product;
}

// A thread for each pixel.
extern "C" __global__ void errors(float* errors, const float* factors, const float* mask, Extents e, int windows) {
    int pixel = thread_number(), elements = elements_of(e);
    if (pixel >= elements / e.channels) return;
    float sum = 0.0f;
    for (int channel = 0; channel < e.channels; channel++) {
        sum += (1.0f - others(factors, elements, windows, -1, pixel * e.channels + channel)) / e.channels;
    }
    errors[pixel] = mask[mask_of(e, pixel * e.channels)] > 0.0f ? sum : 0.0f;
}

// The gradients [3][elements] of the sums of x, xx and xy under one window.
extern "C" __global__ void fields(float* fields, const float* sums, const float* mask, const float* factors,
                                  const float* dy, Extents e, float deviation, int radius, int window, int windows) {
    int i = thread_number(), elements = elements_of(e);
    if (i >= elements) return;
    float means[MOMENTS], slopes[3], slope;
    float share = means_at(means, sums, mask, e, deviation, radius, i);
    contrast_of(means, slopes);
    brightness_of(means, &slope);
    float scale = -dy[i / e.channels] * share, rest = others(factors, elements, windows, window, i);
    float of_brightness = window + 1 == windows ? others(factors, elements, windows, windows, i) * slope : 0.0f;
    for (int moment = 0; moment < 3; moment++) {
        float of_moment = rest * slopes[moment] + (moment == 0 ? of_brightness : 0.0f);
        fields[(long long)moment * elements + i] = scale * of_moment;
    }
}

// A thread for each element of each field.
extern "C" __global__ void fields_along(float* sums, const float* fields, Extents e, float deviation, int radius,
                                        int count) {
    int i = thread_number();
    if (i >= count) return;
    int column = i / e.channels % e.width;
    float sum = 0.0f;
    for (int at = max(0, column - radius); at < min(e.width, column + radius + 1); at++) {
        sum += window_weight(at - column, deviation) * fields[i + (at - column) * e.channels];
    }
    sums[i] = sum;
}

// Adds to the gradient what one window gives it.
extern "C" __global__ void gradient(float* gradient, const float* sums, const float* found, const float* target,
                                    const float* mask, Extents e, float deviation, int radius) {
    int i = thread_number(), elements = elements_of(e);
    if (i >= elements) return;
    float x = 0.5f * found[i] + 0.5f, y = 0.5f * target[target_of(e, i)] + 0.5f;
    float slope = sum_down(sums, e, deviation, radius, i) +
                  2.0f * x * sum_down(sums + elements, e, deviation, radius, i) +
                  y * sum_down(sums + 2LL * elements, e, deviation, radius, i);
    gradient[i] += 0.5f / e.channels * mask[mask_of(e, i)] * slope;
}
