// The activations, numbered as in cuda.rs.
enum { IDENTITY = 0, RELU = 1, LEAKY_RELU = 2, TANH = 3, SOFTPLUS = 4 };

// The slope of the leaky ReLU below zero, as in cpu.rs.
#define LEAKY_SLOPE 0.2f

__device__ __forceinline__ float activation(int kind, float x) {
    switch (kind) {
        case RELU: return x > 0.0f || x != x ? x : 0.0f;
        case LEAKY_RELU: return x > 0.0f ? x : LEAKY_SLOPE * x;
        case TANH: return tanhf(x);
        case SOFTPLUS: return x > 20.0f ? x : log1pf(expf(x));
        default: return x;
    }
}

// dy/dx where the output is y. Comparisons are written as on the CPU, so that NaN has slope 1 (or stays NaN).
__device__ __forceinline__ float activation_slope(int kind, float y) {
    switch (kind) {
        case RELU: return y <= 0.0f ? 0.0f : 1.0f;
        case LEAKY_RELU: return y <= 0.0f ? LEAKY_SLOPE : 1.0f;
        case TANH: return 1.0f - y * y;
        case SOFTPLUS: return y > 20.0f ? 1.0f : -expm1f(-y);
        default: return 1.0f;
    }
}
