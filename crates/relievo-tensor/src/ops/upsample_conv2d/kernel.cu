// A thread for each number that is written. There are few, and they stay in the cache.

// folded [in][4][4][out] from w [out][3][3][in]: along each axis w2, w1 + w2, w0 + w1, w0.
extern "C" __global__ void fold(real* folded, const real* w, int outputs, int inputs, int count) {
    int i = thread_number();
    if (i >= count) return;
    int output = i % outputs, column = i / outputs % 4, row = i / outputs / 4 % 4, input = i / outputs / 16;
    float sum = 0.0f;
    for (int r = max(2 - row, 0); r <= min(3 - row, 2); r++) {
        for (int c = max(2 - column, 0); c <= min(3 - column, 2); c++) {
            sum += load(w + ((output * 3 + r) * 3 + c) * inputs + input);
        }
    }
    store(folded + i, sum);
}

// The gradient of w: the sums of the two by two that each weight is in.
extern "C" __global__ void unfold(real* dw, const real* dfolded, int outputs, int inputs, int count) {
    int i = thread_number();
    if (i >= count) return;
    int input = i % inputs, column = i / inputs % 3, row = i / inputs / 3 % 3, output = i / inputs / 9;
    float sum = 0.0f;
    for (int r = 2 - row; r <= 3 - row; r++) {
        for (int c = 2 - column; c <= 3 - column; c++) {
            sum += load(dfolded + ((input * 4 + r) * 4 + c) * outputs + output);
        }
    }
    store(dw + i, sum);
}
