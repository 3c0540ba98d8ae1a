// One thread for each pixel: RGB in [-1,1] to BGR in 0..255 minus the mean, and back.

extern "C" __global__ void forward(real* y, const float* x, float b, float g, float r, int pixels) {
    int i = thread_number();
    if (i >= pixels) return;
    x += 3 * i;
    y += 3 * i;
    store(y, 127.5f * x[2] + b);
    store(y + 1, 127.5f * x[1] + g);
    store(y + 2, 127.5f * x[0] + r);
}

extern "C" __global__ void backward(float* dx, const real* dy, int pixels) {
    int i = thread_number();
    if (i >= pixels) return;
    dx += 3 * i;
    dy += 3 * i;
    for (int channel = 0; channel < 3; channel++) dx[channel] = 127.5f * load(dy + 2 - channel);
}
