// Forward and input gradient: a thread makes one element, neighbours of a warp are neighbouring channels, so every load is
// coalesced; a pixel of the input is read once from memory and kernel-size times from the cache. Weight gradient: a block
// sums one tap of 32 channels, eight threads to a channel, in a fixed order.

// As in cuda.rs.
struct Geometry {
    int batch, in_h, in_w, out_h, out_w, channels, kernel_h, kernel_w, stride, padding;
};

// `count` is the number of elements of y; `bias` may be null.
extern "C" __global__ void forward(real* y, const real* x, const real* w, const real* bias, Geometry g, int kind,
                                   int count) {
    int at = thread_number();
    if (at >= count) return;
    int channel = at % g.channels, pixel = at / g.channels;
    int column = pixel % g.out_w, line = pixel / g.out_w;
    int row = line % g.out_h, picture = line / g.out_h;
    float sum = bias ? load(bias + channel) : 0.0f;
    for (int r = 0; r < g.kernel_h; r++) {
        int v = row * g.stride + r - g.padding;
        if (v < 0 || v >= g.in_h) continue;
        for (int s = 0; s < g.kernel_w; s++) {
            int u = column * g.stride + s - g.padding;
            if (u < 0 || u >= g.in_w) continue;
            long long from = ((long long)(picture * g.in_h + v) * g.in_w + u) * g.channels + channel;
            sum += load(x + from) * load(w + (r * g.kernel_w + s) * g.channels + channel);
        }
    }
    store(y + at, activation(kind, sum));
}

// `count` is the number of elements of dx.
extern "C" __global__ void input_gradient(real* dx, const real* dz, const real* w, Geometry g, int count) {
    int at = thread_number();
    if (at >= count) return;
    int channel = at % g.channels, pixel = at / g.channels;
    int u = pixel % g.in_w, line = pixel / g.in_w;
    int v = line % g.in_h, picture = line / g.in_h;
    float sum = 0.0f;
    for (int r = 0; r < g.kernel_h; r++) {
        int row = v + g.padding - r;
        if (row < 0 || row % g.stride != 0 || row / g.stride >= g.out_h) continue;
        for (int s = 0; s < g.kernel_w; s++) {
            int column = u + g.padding - s;
            if (column < 0 || column % g.stride != 0 || column / g.stride >= g.out_w) continue;
            long long from = (long long)(picture * g.out_h + row / g.stride) * g.out_w + column / g.stride;
            sum += load(dz + from * g.channels + channel) * load(w + (r * g.kernel_w + s) * g.channels + channel);
        }
    }
    store(dx + at, sum);
}

// Block (i, tap) makes channels 32 i to 32 i + 31 of dw[tap].
extern "C" __global__ void weight_gradient(real* dw, const real* x, const real* dz, Geometry g) {
    __shared__ float partial[8][32];
    int lane = threadIdx.x % 32, thread = threadIdx.x / 32;
    int channel = 32 * blockIdx.x + lane, tap = blockIdx.y;
    int r = tap / g.kernel_w, s = tap % g.kernel_w;
    float sum = 0.0f;
    if (channel < g.channels) {
        for (int pixel = thread; pixel < g.batch * g.out_h * g.out_w; pixel += 8) {
            int line = pixel / g.out_w;
            int v = line % g.out_h * g.stride + r - g.padding, u = pixel % g.out_w * g.stride + s - g.padding;
            if (v < 0 || v >= g.in_h || u < 0 || u >= g.in_w) continue;
            long long from = (long long)(line / g.out_h * g.in_h + v) * g.in_w + u;
            sum += load(x + from * g.channels + channel) * load(dz + (long long)pixel * g.channels + channel);
        }
    }
    partial[thread][lane] = sum;
    __syncthreads();
    if (thread == 0 && channel < g.channels) {
        for (int i = 1; i < 8; i++) sum += partial[i][lane];
        store(dw + tap * g.channels + channel, sum);
    }
}
