// A thread takes a column of what is written: four neighbouring channels of a pixel, or one where four do not divide the
// channels. Rows of all pictures are counted together. `spread` writes large once and reads small once from memory (the
// copies of a pixel find it in the cache); `gather` reads large once and writes small once.

__device__ __forceinline__ float4 load_column(const real* p, bool four) {
    return four ? load4(p) : make_float4(load(p), 0.0f, 0.0f, 0.0f);
}

__device__ __forceinline__ void store_column(real* p, float4 x, bool four) {
    if (four) {
        store4(p, x);
    } else {
        store(p, x.x);
    }
}

// large [count] = scale * small, each pixel repeated factor x factor times; `width` is that of the small picture.
extern "C" __global__ void spread(real* large, const real* small, float scale, int factor, int width, int channels,
                                  int count) {
    bool four = channels % 4 == 0;
    int first = four ? 4 * thread_number() : thread_number();
    if (first >= count) return;
    int pixel = first / channels, channel = first % channels;
    int row = pixel / (width * factor), u = pixel % (width * factor);
    float4 v = load_column(small + (row / factor * width + u / factor) * channels + channel, four);
    store_column(large + first, make_float4(scale * v.x, scale * v.y, scale * v.z, scale * v.w), four);
}

// small [count] = scale * the sum of the factor x factor pixels of large; `width` is that of the small picture.
extern "C" __global__ void gather(real* small, const real* large, float scale, int factor, int width, int channels,
                                  int count) {
    bool four = channels % 4 == 0;
    int first = four ? 4 * thread_number() : thread_number();
    if (first >= count) return;
    int pixel = first / channels, channel = first % channels;
    int row = pixel / width, u = pixel % width;
    large += ((long long)row * factor * width + u) * factor * channels + channel;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (int down = 0; down < factor; down++) {
        for (int along = 0; along < factor; along++) {
            float4 v = load_column(large + ((long long)down * width * factor + along) * channels, four);
            sum.x += scale * v.x;
            sum.y += scale * v.y;
            sum.z += scale * v.z;
            sum.w += scale * v.w;
        }
    }
    store_column(small + first, sum, four);
}
