// Masks [batch, height, width], one after the other. A thread for each pixel.

extern "C" __global__ void overlap(float* both, const float* a, const float* b, int height, int width, int count) {
    int i = thread_number();
    if (i >= count) return;
    int row = i / width % height, column = i % width;
    bool holds = row > 0 && row + 1 < height && column > 0 && column + 1 < width;
    for (int down = -1; holds && down <= 1; down++) {
        for (int along = -1; along <= 1; along++) {
            int near = i + down * width + along;
            holds = holds && a[near] > 0.5f && b[near] > 0.5f;
        }
    }
    both[i] = holds ? 1.0f : 0.0f;
}
