// Four elements a thread: a pass over memory that reads and writes each once.

// y = activation(x + bias); bias is null or has `channels` elements, and channels are last.
// x and y may be the same.
extern "C" __global__ void forward(real* y, const real* x, const real* bias, int kind, int channels, int count) {
    int first = 4 * thread_number();
    if (first + 4 <= count) {
        float4 v = load4(x + first);
        if (bias && channels % 4 == 0) {
            float4 b = load4(bias + first % channels);
            v.x += b.x, v.y += b.y, v.z += b.z, v.w += b.w;
        } else if (bias) {
            v.x += load(bias + first % channels);
            v.y += load(bias + (first + 1) % channels);
            v.z += load(bias + (first + 2) % channels);
            v.w += load(bias + (first + 3) % channels);
        }
        store4(y + first, make_float4(activation(kind, v.x), activation(kind, v.y), activation(kind, v.z),
                                      activation(kind, v.w)));
    } else {
        for (int i = first; i < count; i++) {
            store(y + i, activation(kind, load(x + i) + (bias ? load(bias + i % channels) : 0.0f)));
        }
    }
}

// dx = dy * slope, found from the output y.
extern "C" __global__ void backward(real* dx, const real* y, const real* dy, int kind, int count) {
    int first = 4 * thread_number();
    if (first + 4 <= count) {
        float4 v = load4(y + first), g = load4(dy + first);
        store4(dx + first,
               make_float4(g.x * activation_slope(kind, v.x), g.y * activation_slope(kind, v.y),
                           g.z * activation_slope(kind, v.z), g.w * activation_slope(kind, v.w)));
    } else {
        for (int i = first; i < count; i++) {
            store(dx + i, load(dy + i) * activation_slope(kind, load(y + i)));
        }
    }
}
