// Pixels from samples and back, for images that are not hard-edged: a thread for each number that is written. y of the grid
// counts images. Row 0 is the bottom of samples and the top of images.

// The mean over per_pixel^2 samples of each pixel.
extern "C" __global__ void average(float* pixels, const float* samples, int width, int height, int channels, int per_pixel) {
    int i = thread_number(), row = width * per_pixel * channels;
    if (i >= width * height * channels) return;
    int x = i / channels % width, y = height - 1 - i / channels / width;
    const float* from = samples + (blockIdx.y * (long long)height + y) * per_pixel * row + x * per_pixel * channels + i % channels;
    float sum = 0.0f;
    for (int down = 0; down < per_pixel; down++) {
        float of_row = 0.0f;
        for (int across = 0; across < per_pixel; across++) of_row = plus(of_row, from[down * row + across * channels]);
        sum = plus(sum, of_row);
    }
    pixels[(long long)blockIdx.y * width * height * channels + i] = times(sum, 1.0f / (per_pixel * per_pixel));
}

// The gradient of the samples.
extern "C" __global__ void spread_back(float* samples, const float* pixels, int width, int height, int channels,
                                       int per_pixel) {
    int i = thread_number(), columns = width * per_pixel, rows = height * per_pixel;
    if (i >= columns * rows * channels) return;
    int column = i / channels % columns, row = i / channels / columns;
    long long pixel = (blockIdx.y * (long long)height + height - 1 - row / per_pixel) * width + column / per_pixel;
    samples[(long long)blockIdx.y * columns * rows * channels + i] =
        times(pixels[pixel * channels + i % channels], 1.0f / (per_pixel * per_pixel));
}
