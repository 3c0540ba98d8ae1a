// The table holds, for each kernel along rows, its first tap and the number of taps; for each product the same of its
// taps down, and its kernel along rows; for each filter its scale; for each scale how many filters have it; for each
// filter a factor for each product; then the taps.

struct Layout {
    int alongs, products, filters, scales;
};

// A bank has no more.
#define MOST_PRODUCTS 64
#define MOST_SCALES 8

__device__ __forceinline__ const float* products_in(const float* table, Layout l) { return table + 2 * l.alongs; }

__device__ __forceinline__ const float* scales_in(const float* table, Layout l) {
    return products_in(table, l) + 3 * l.products;
}

__device__ __forceinline__ const float* factors_in(const float* table, Layout l) {
    return scales_in(table, l) + l.filters + l.scales;
}

// The share of a response in the error of its scale.
__device__ __forceinline__ float share_of(const float* table, Layout l, Extents e, int scale) {
    return 1.0f / (scales_in(table, l)[l.filters + scale] * e.channels);
}

// The value of a product at an element.
__device__ __forceinline__ float product_at(const float* alongs, const float* table, Layout l, Extents e, int product,
                                            int i) {
    const float* entry = products_in(table, l) + 3 * product;
    int first = (int)entry[0], taps = (int)entry[1], stride = e.width * e.channels;
    int row = i / stride % e.height;
    const float* from = alongs + (long long)entry[2] * elements_of(e);
    float sum = 0.0f;
    for (int tap = 0; tap < taps; tap++) {
        int shift = tap - taps / 2;
        if (row + shift >= 0 && row + shift < e.height) sum += table[first + tap] * from[i + shift * stride];
    }
    return sum;
}

// A thread for each element and kernel along rows.
extern "C" __global__ void along(float* alongs, const float* reconstruction, const float* target, const float* mask,
                                 const float* table, Layout l, Extents e, int count) {
    int number = thread_number(), elements = elements_of(e);
    if (number >= count) return;
    int kernel = number / elements, i = number % elements;
    int column = i / e.channels % e.width;
    int first = (int)table[2 * kernel], taps = (int)table[2 * kernel + 1];
    float sum = 0.0f;
    for (int tap = 0; tap < taps; tap++) {
        int shift = tap - taps / 2;
        if (column + shift < 0 || column + shift >= e.width) continue;
        int at = i + shift * e.channels;
        // Once for both images: a convolution is linear.
        float difference = reconstruction[at] - target[target_of(e, at)];
        sum += table[first + tap] * (mask[mask_of(e, at)] * difference);
    }
    alongs[number] = sum;
}

// A thread for each pixel: the errors of all scales.
extern "C" __global__ void errors(float* errors, const float* alongs, const float* table, Layout l, Extents e) {
    int pixel = thread_number(), pixels = e.images * e.height * e.width;
    if (pixel >= pixels) return;
    float products[MOST_PRODUCTS], sums[MOST_SCALES];
    for (int scale = 0; scale < l.scales; scale++) sums[scale] = 0.0f;
    for (int channel = 0; channel < e.channels; channel++) {
        for (int p = 0; p < l.products; p++) {
            products[p] = product_at(alongs, table, l, e, p, pixel * e.channels + channel);
        }
        for (int f = 0; f < l.filters; f++) {
            const float* factors = factors_in(table, l) + f * l.products;
            float response = 0.0f;
            for (int p = 0; p < l.products; p++) response += factors[p] * products[p];
            int scale = (int)scales_in(table, l)[f];
            sums[scale] += share_of(table, l, e, scale) * fabsf(response);
        }
    }
    for (int scale = 0; scale < l.scales; scale++) errors[(long long)scale * pixels + pixel] = sums[scale];
}

// A thread for each element: adds to the gradient of each product what the filters of one scale give it.
extern "C" __global__ void slopes(float* gradients, const float* alongs, const float* slopes, const float* table, Layout l,
                                  Extents e, int scale) {
    int i = thread_number(), elements = elements_of(e);
    if (i >= elements) return;
    float products[MOST_PRODUCTS], sums[MOST_PRODUCTS];
    for (int p = 0; p < l.products; p++) {
        products[p] = product_at(alongs, table, l, e, p, i);
        sums[p] = 0.0f;
    }
    float slope = share_of(table, l, e, scale) * slopes[i / e.channels];
    for (int f = 0; f < l.filters; f++) {
        if ((int)scales_in(table, l)[f] != scale) continue;
        const float* factors = factors_in(table, l) + f * l.products;
        float response = 0.0f;
        for (int p = 0; p < l.products; p++) response += factors[p] * products[p];
        // 0 at 0, and no number for no number.
        float sign = response > 0.0f ? 1.0f : response < 0.0f ? -1.0f : response;
        for (int p = 0; p < l.products; p++) sums[p] += factors[p] * (slope * sign);
    }
    for (int p = 0; p < l.products; p++) gradients[(long long)p * elements + i] += sums[p];
}

// A thread for each element and kernel along rows.
extern "C" __global__ void down_back(float* back, const float* products, const float* table, Layout l, Extents e,
                                     int count) {
    int number = thread_number(), elements = elements_of(e), stride = e.width * e.channels;
    if (number >= count) return;
    int kernel = number / elements, i = number % elements, row = i / stride % e.height;
    float sum = 0.0f;
    for (int p = 0; p < l.products; p++) {
        const float* entry = products_in(table, l) + 3 * p;
        if ((int)entry[2] != kernel) continue;
        int first = (int)entry[0], taps = (int)entry[1];
        for (int tap = 0; tap < taps; tap++) {
            int shift = taps / 2 - tap;
            if (row + shift < 0 || row + shift >= e.height) continue;
            sum += table[first + tap] * products[(long long)p * elements + i + shift * stride];
        }
    }
    back[number] = sum;
}

// A thread for each element.
extern "C" __global__ void along_back(float* gradient, const float* back, const float* mask, const float* table, Layout l,
                                      Extents e) {
    int i = thread_number(), elements = elements_of(e);
    if (i >= elements) return;
    int column = i / e.channels % e.width;
    float sum = 0.0f;
    for (int kernel = 0; kernel < l.alongs; kernel++) {
        int first = (int)table[2 * kernel], taps = (int)table[2 * kernel + 1];
        for (int tap = 0; tap < taps; tap++) {
            int shift = taps / 2 - tap;
            if (column + shift < 0 || column + shift >= e.width) continue;
            sum += table[first + tap] * back[(long long)kernel * elements + i + shift * e.channels];
        }
    }
    gradient[i] = mask[mask_of(e, i)] * sum;
}
