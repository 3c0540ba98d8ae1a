// `count` elements from number `first` on, with their weights.

struct Weights {
    float of[256];
};

// y += the weighted sum. One thread: a handful of numbers, added in the CPU's order and rounded as there.
extern "C" __global__ void forward(float* y, const real* x, Weights weights, int first, int count) {
    float sum = *y;
    for (int i = 0; i < count; i++) sum = __fadd_rn(sum, __fmul_rn(load(x + first + i), weights.of[i]));
    *y = sum;
}

extern "C" __global__ void backward(real* dx, const float* dy, Weights weights, int first, int count) {
    int i = thread_number();
    if (i < count) store(dx + first + i, weights.of[i] * *dy);
}
