// x [image][pixel][channel]; modulation [image][2 * channels]: scales, then shifts.

// One thread for each element.
extern "C" __global__ void forward(real* y, const real* x, const float* modulation, int kind, int pixels, int channels,
                                   int count) {
    int i = thread_number();
    if (i >= count) return;
    const float* of_channel = modulation + (long long)(i / channels / pixels) * 2 * channels + i % channels;
    store(y + i, activation(kind, load(x + i) * (1.0f + of_channel[0]) + of_channel[channels]));
}

// One thread for each element.
extern "C" __global__ void input_gradient(real* dx, const float* modulation, const real* y, const real* dy, int kind,
                                          int pixels, int channels, int count) {
    int i = thread_number();
    if (i >= count) return;
    float scale = modulation[(long long)(i / channels / pixels) * 2 * channels + i % channels];
    store(dx + i, load(dy + i) * activation_slope(kind, load(y + i)) * (1.0f + scale));
}

// Block (b, image): channels 32 b to 32 b + 31, a lane for each; its eight warps take every eighth pixel, and their sums
// are added in order.
extern "C" __global__ void modulation_gradient(float* dmodulation, const real* x, const real* y, const real* dy, int kind,
                                               int pixels, int channels) {
    __shared__ double sums[2][8][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, channel = blockIdx.x * 32 + lane;
    double product = 0.0, plain = 0.0;
    if (channel < channels) {
        for (int pixel = warp; pixel < pixels; pixel += 8) {
            long long i = ((long long)blockIdx.y * pixels + pixel) * channels + channel;
            float g = load(dy + i) * activation_slope(kind, load(y + i));
            product += (double)g * (double)load(x + i);
            plain += g;
        }
    }
    sums[0][warp][lane] = product;
    sums[1][warp][lane] = plain;
    __syncthreads();
    if (warp > 1 || channel >= channels) return;
    double sum = 0.0;
    for (int i = 0; i < 8; i++) sum += sums[warp][i][lane];
    dmodulation[((long long)blockIdx.y * 2 + warp) * channels + channel] = (float)sum;
}
