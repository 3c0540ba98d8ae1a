// A thread for each mean; rows of all maps are counted together. `width` is that of the means.
extern "C" __global__ void average_pool(float* means, const float* maps, int factor, int width, int count) {
    int i = thread_number();
    if (i >= count) return;
    const float* square = maps + ((long long)(i / width) * factor * width + i % width) * factor;
    float sum = 0.0f;
    for (int down = 0; down < factor; down++) {
        for (int along = 0; along < factor; along++) sum += square[(long long)down * factor * width + along];
    }
    means[i] = sum / (float)(factor * factor);
}
