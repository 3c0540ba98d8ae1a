// One thread for each element. `stride` leads from a place on a line of `extent` places to the next.

// The sum of the weights that exist around a place.
__device__ __forceinline__ float weights(int place, int extent, int radius, float deviation) {
    float sum = 0.0f;
    for (int at = max(0, place - radius); at < min(extent, place + radius + 1); at++) sum += window_weight(at - place, deviation);
    return sum;
}

extern "C" __global__ void line_means(float* to, const float* from, int extent, int stride, int radius, float deviation,
                                      int is_adjoint, int count) {
    int i = thread_number();
    if (i >= count) return;
    int place = i / stride % extent;
    float sum = 0.0f;
    for (int at = max(0, place - radius); at < min(extent, place + radius + 1); at++) {
        float x = window_weight(at - place, deviation) * from[i + (at - place) * stride];
        sum += is_adjoint ? x / weights(at, extent, radius, deviation) : x;
    }
    to[i] = is_adjoint ? sum : sum / weights(place, extent, radius, deviation);
}
