// A thread takes a column of a window: four neighbouring channels, or one where four do not divide the channels. Forward
// reads x once and writes y once. Backward looks for the maximum again, so that y need not be kept: it reads x and dy
// once and writes dx once, and its threads count also the incomplete windows at the right and the bottom, whose dx is 0.

// As in cuda.rs.
struct Layout {
    int height, width, channels;
    int size;           // height, width and distance of windows
    int rows, columns;  // windows of an image, with the incomplete ones if there are threads for them
};

// Where a thread's column begins.
struct Place {
    bool four;
    int channel, image, row, column;

    __device__ __forceinline__ Place(const Layout& layout) {
        four = layout.channels % 4 == 0;
        int first = four ? 4 * thread_number() : thread_number();
        channel = first % layout.channels;
        int window = first / layout.channels;
        column = window % layout.columns;
        row = window / layout.columns % layout.rows;
        image = window / layout.columns / layout.rows;
    }

    // In x, of pixel (down, along) of the window.
    __device__ __forceinline__ long long pixel(const Layout& layout, int down, int along) const {
        long long line = (long long)image * layout.height + row * layout.size + down;
        return (line * layout.width + column * layout.size + along) * layout.channels + channel;
    }
};

__device__ __forceinline__ void load_column(const real* p, bool four, float (&x)[4]) {
    if (four) {
        float4 v = load4(p);
        x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
    } else {
        x[0] = x[1] = x[2] = x[3] = load(p);
    }
}

__device__ __forceinline__ void store_column(real* p, const float (&x)[4], bool four) {
    if (four) {
        store4(p, make_float4(x[0], x[1], x[2], x[3]));
    } else {
        store(p, x[0]);
    }
}

// The maxima of a window and which pixel each is, counted in row-major order: the first, and a NaN before all else.
__device__ __forceinline__ void find_largest(const real* x, const Place& at, const Layout& layout, float (&largest)[4],
                                             int (&which)[4]) {
    load_column(x + at.pixel(layout, 0, 0), at.four, largest);
    which[0] = which[1] = which[2] = which[3] = 0;
    for (int i = 1; i < layout.size * layout.size; i++) {
        float v[4];
        load_column(x + at.pixel(layout, i / layout.size, i % layout.size), at.four, v);
        for (int k = 0; k < 4; k++) {
            if (v[k] > largest[k] || (isnan(v[k]) && !isnan(largest[k]))) {
                largest[k] = v[k];
                which[k] = i;
            }
        }
    }
}

// `count` is the number of elements of y.
extern "C" __global__ void forward(real* y, const real* x, Layout layout, int count) {
    Place at(layout);
    int first = at.four ? 4 * thread_number() : thread_number();
    if (first >= count) return;
    float largest[4];
    int which[4];
    find_largest(x, at, layout, largest, which);
    store_column(y + first, largest, at.four);
}

// `count` is the number of elements of all windows, incomplete ones too.
extern "C" __global__ void backward(real* dx, const real* x, const real* dy, Layout layout, int count) {
    Place at(layout);
    int first = at.four ? 4 * thread_number() : thread_number();
    if (first >= count) return;
    int size = layout.size, rows = layout.height / size, columns = layout.width / size;
    float largest[4], gradient[4];
    int which[4] = {-1, -1, -1, -1};
    if (at.row < rows && at.column < columns) {
        find_largest(x, at, layout, largest, which);
        long long window = ((long long)at.image * rows + at.row) * columns + at.column;
        load_column(dy + window * layout.channels + at.channel, at.four, gradient);
    }
    for (int down = 0; down < min(size, layout.height - at.row * size); down++) {
        for (int along = 0; along < min(size, layout.width - at.column * size); along++) {
            float share[4];
            for (int k = 0; k < 4; k++) share[k] = which[k] == down * size + along ? gradient[k] : 0.0f;
            store_column(dx + at.pixel(layout, down, along), share, at.four);
        }
    }
}
