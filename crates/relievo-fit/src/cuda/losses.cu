// How far silhouettes are from each other. Sums of blocks of pixels have places of their own and are added in order, so every
// run gives the same bits. All sums are in double precision, as on the CPU.

// Blocks that share an image.
#define BLOCKS 32

// Of each block: the sums of (a - b)^2, a b, and a + b - a b. y of the grid counts images.
extern "C" __global__ void sum_pixels(double* parts, const float* a, const float* b, int pixels) {
    double squared = 0.0, both = 0.0, either = 0.0;
    long long first = (long long)blockIdx.y * pixels;
    for (int i = thread_number(); i < pixels; i += BLOCKS * blockDim.x) {
        float difference = a[first + i] - b[first + i];
        double x = a[first + i], y = b[first + i];
        squared += (double)difference * difference;
        both += x * y;
        either += x + y - x * y;
    }
    squared = block_sum(squared);
    both = block_sum(both);
    either = block_sum(either);
    if (threadIdx.x != 0) return;
    double* own = parts + 3ll * (blockIdx.y * BLOCKS + blockIdx.x);
    own[0] = squared;
    own[1] = both;
    own[2] = either;
}

// The sums of an image.
__device__ __forceinline__ void sums_of(double (&sums)[3], const double* parts, int image) {
    for (int k = 0; k < 3; k++) sums[k] = 0.0;
    for (int block = 0; block < BLOCKS; block++) {
        for (int k = 0; k < 3; k++) sums[k] += parts[3ll * (image * BLOCKS + block) + k];
    }
}

// The loss: the sum of squared differences, or the mean over images of one less intersection over union. One block of a warp.
extern "C" __global__ void finish(float* loss, float* of_images, const double* parts, int overlaps, int images) {
    double sum = 0.0;
    for (int image = threadIdx.x; image < images; image += 32) {
        double sums[3];
        sums_of(sums, parts, image);
        double own = !overlaps ? sums[0] : sums[2] > 0.0 ? 1.0 - sums[1] / sums[2] : 0.0;
        of_images[image] = (float)own;
        sum += own;
    }
    sum = warp_sum(sum);
    if (threadIdx.x == 0) *loss = (float)(overlaps ? sum / max(images, 1) : sum);
}

// The gradient of a.
extern "C" __global__ void slopes(float* gradient, const float* a, const float* b, const double* parts, const float* dloss,
                                  int overlaps, int images, int pixels) {
    int i = thread_number();
    if (i >= pixels) return;
    long long at = (long long)blockIdx.y * pixels + i;
    if (!overlaps) {
        gradient[at] = 2.0f * *dloss * (a[at] - b[at]);
        return;
    }
    double sums[3], y = b[at];
    sums_of(sums, parts, blockIdx.y);
    double slope = sums[2] > 0.0 ? (sums[1] * (1.0 - y) - y * sums[2]) / (sums[2] * sums[2]) : 0.0;
    gradient[at] = (float)((double)*dloss / images * slope);
}

// Where an image counts: pixels that are covered whole, times the mask, which may be null.
extern "C" __global__ void counted(float* to, const float* alpha, const float* mask, int count) {
    int i = thread_number();
    if (i < count) to[i] = alpha[i] == 1.0f ? (mask ? mask[i] : 1.0f) : 0.0f;
}

// Keeps numbers between two others.
extern "C" __global__ void clamp(float* numbers, float low, float high, int count) {
    int i = thread_number();
    if (i < count) numbers[i] = fminf(fmaxf(numbers[i], low), high);
}
