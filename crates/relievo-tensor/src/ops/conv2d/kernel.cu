// db[c] = the sum of dz[p][c] over all pixels p. A block sums 32 channels, eight threads each, in a fixed order.
extern "C" __global__ void bias_gradient(float* db, const real* dz, int pixels, int channels) {
    __shared__ float partial[8][32];
    int lane = threadIdx.x % 32, row = threadIdx.x / 32;
    int channel = 32 * blockIdx.x + lane;
    float sum = 0.0f;
    if (channel < channels) {
        for (int p = row; p < pixels; p += 8) sum += load(dz + (long long)p * channels + channel);
    }
    partial[row][lane] = sum;
    __syncthreads();
    if (row == 0 && channel < channels) {
        for (int r = 1; r < 8; r++) sum += partial[r][lane];
        db[channel] = sum;
    }
}
