// A thread takes a column: four neighbouring channels, or one where four do not divide them. Rows are pixels of
// `channels` elements; one of a single pixel is its own mirror image. Forward reads x once and writes y once; backward reads
// dy once and writes dx once.

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

// Where the element `first` of `count` lies in the second half.
__device__ __forceinline__ int second_place(int first, int width, int channels, int shift, int count) {
    int pixel = first / channels, u = pixel % width;
    int place = first + (width - 1 - 2 * u) * channels + shift;
    return place < count ? place : place - count;
}

// y is x [count], then its mirror image, or x with its halves exchanged (shift is half of count).
extern "C" __global__ void forward(real* y, const real* x, int width, int channels, int shift, int count) {
    bool four = channels % 4 == 0;
    int first = four ? 4 * thread_number() : thread_number();
    if (first >= count) return;
    float4 v = load_column(x + first, four);
    store_column(y + first, v, four);
    store_column(y + (long long)count + second_place(first, width, channels, shift, count), v, four);
}

// dx [count] is the first half of dy plus the second, put back.
extern "C" __global__ void backward(real* dx, const real* dy, int width, int channels, int shift, int count) {
    bool four = channels % 4 == 0;
    int first = four ? 4 * thread_number() : thread_number();
    if (first >= count) return;
    float4 a = load_column(dy + first, four);
    float4 b = load_column(dy + (long long)count + second_place(first, width, channels, shift, count), four);
    store_column(dx + first, make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w), four);
}
