// Rows of y are rows of a, `first` elements, followed by rows of b, `second` elements.

extern "C" __global__ void forward(real* y, const real* a, const real* b, int first, int second, int count) {
    int i = thread_number();
    if (i >= count) return;
    int row = i / (first + second), at = i % (first + second);
    y[i] = at < first ? a[(long long)row * first + at] : b[(long long)row * second + at - first];
}

// y are the elements from `start` on, `length` of them, of rows of x, which have `whole` elements.
extern "C" __global__ void columns(real* y, const real* x, int start, int length, int whole, int count) {
    int i = thread_number();
    if (i >= count) return;
    y[i] = x[(long long)(i / length) * whole + start + i % length];
}

// y is zero but for the elements from `start` on, `length` of them, which are x.
extern "C" __global__ void widen(real* y, const real* x, int start, int length, int count) {
    int i = thread_number();
    if (i >= count) return;
    if (i >= start && i < start + length) {
        y[i] = x[i - start];
    } else {
        store(y + i, 0.0f);
    }
}
