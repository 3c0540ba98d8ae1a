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

// Rows of `channels` numbers become rows of four times `quads` numbers, with zeros at the end; so are rows beyond the last one
// there is. A thread writes four neighbours; there are `count` fours.
extern "C" __global__ void pad_channels(real* padded, const real* x, int rows, int channels, int quads, int count) {
    int i = thread_number();
    if (i >= count) return;
    int row = i / quads, first = i % quads * 4;
    float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (row < rows) {
        const real* from = x + (long long)row * channels + first;
        if (first < channels) four.x = load(from);
        if (first + 1 < channels) four.y = load(from + 1);
        if (first + 2 < channels) four.z = load(from + 2);
        if (first + 3 < channels) four.w = load(from + 3);
    }
    store4(padded + 4LL * i, four);
}

// The first `channels` numbers of every row of `padded` ones. A thread writes one of `count`.
extern "C" __global__ void cut_channels(real* y, const real* from, int padded, int channels, int count) {
    int i = thread_number();
    if (i < count) y[i] = from[(long long)(i / channels) * padded + i % channels];
}
