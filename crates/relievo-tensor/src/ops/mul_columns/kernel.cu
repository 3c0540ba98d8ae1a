// One thread for each element of the columns `first` to `first + width` out of `columns`.

struct Factors {
    float of[256];
};

extern "C" __global__ void mul_columns(real* y, const real* x, Factors factors, int first, int width, int columns,
                                         int count) {
    int i = thread_number();
    if (i >= count) return;
    int at = i / width * columns + first + i % width;
    store(y + at, load(x + at) * factors.of[i % width]);
}
