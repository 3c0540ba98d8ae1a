// Operands of a convolution with more channels than they have, and back.

// Rows of `channels` numbers become rows of four times `quads` numbers, with zeros at the end; so are rows beyond the last one
// there is. A thread writes four neighbours; there are `count` fours.
extern "C" __global__ void pad_channels(real* padded, const real* x, int rows, int channels, int quads, int count) {
    int i = thread_number();
    if (i >= count) return;
    int row = i / quads, first = i % quads * 4;
    float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (row < rows) {
        const real* from = x + (long long)row * channels + first;
        if (first < channels) four.x = load(from);
        if (first + 1 < channels) four.y = load(from + 1);
        if (first + 2 < channels) four.z = load(from + 2);
        if (first + 3 < channels) four.w = load(from + 3);
    }
    store4(padded + 4LL * i, four);
}

// The first `channels` numbers of every row of `padded` ones. A thread writes one of `count`.
extern "C" __global__ void cut_channels(real* y, const real* from, int padded, int channels, int count) {
    int i = thread_number();
    if (i < count) y[i] = from[(long long)(i / channels) * padded + i % channels];
}
