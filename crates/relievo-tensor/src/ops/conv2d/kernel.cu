// The sum of x[row][c] over the rows from `first` and before `end`, in a fixed order: a block has 32 channels c, eight threads
// each, and the first 32 threads get the sums.
template <typename T>
__device__ __forceinline__ float column_sum(const T* x, int first, int end, int channels) {
    __shared__ float partial[8][32];
    int lane = threadIdx.x % 32, row = threadIdx.x / 32;
    int channel = 32 * blockIdx.x + lane;
    float sum = 0.0f;
    if (channel < channels) {
#pragma unroll 4
        for (int i = first + row; i < end; i += 8) sum += load(x + (long long)i * channels + channel);
    }
    partial[row][lane] = sum;
    __syncthreads();
    if (row == 0) {
        for (int r = 1; r < 8; r++) sum += partial[r][lane];
    }
    return sum;
}

// sums[part][c] = the sum of dz[p][c] over a part's pixels p, `span` of them.
extern "C" __global__ void sum_pixels(float* sums, const real* dz, int pixels, int span, int channels) {
    int first = span * blockIdx.y, channel = 32 * blockIdx.x + threadIdx.x;
    float sum = column_sum(dz, first, min(first + span, pixels), channels);
    if (threadIdx.x < 32 && channel < channels) sums[blockIdx.y * channels + channel] = sum;
}

// db[c] = the sum of sums[part][c] over all parts.
extern "C" __global__ void sum_parts(real* db, const float* sums, int parts, int channels) {
    int channel = 32 * blockIdx.x + threadIdx.x;
    float sum = column_sum(sums, 0, parts, channels);
    if (threadIdx.x < 32 && channel < channels) store(db + channel, sum);
}
