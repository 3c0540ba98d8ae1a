// A thread for each viewpoint: rotations about x, y, z, translations.

// What is uncovered of an axis beyond what is free, and its derivatives in the rotation and the translation.
__device__ __forceinline__ double axis(float rotation, float translation, float half_width, double2& gradient) {
    double half = cos((double)rotation), centre = (double)translation / half_width;
    double last = centre + half, first = centre - half;
    double excess = 1.0 - (fmin(last, 1.0) - fmax(first, -1.0)) / 2.0 - 0.5;
    gradient.x = gradient.y = 0.0;
    if (excess <= 0.0) return 0.0;
    double ends = last < 1.0 ? 1.0 : 0.0, begins = first > -1.0 ? 1.0 : 0.0;
    gradient.x = sin((double)rotation) * (ends + begins) / 2.0;
    gradient.y = -(ends - begins) / 2.0 / half_width;
    return excess;
}

extern "C" __global__ void forward(float* y, const float* view, float half_width, int count) {
    int i = thread_number();
    if (i >= count) return;
    view += 6 * i;
    double2 unused;
    y[i] = (float)(axis(view[1], view[3], half_width, unused) + axis(view[0], view[4], half_width, unused));
}

extern "C" __global__ void backward(float* dview, const float* view, const float* dy, float half_width, int count) {
    int i = thread_number();
    if (i >= count) return;
    dview += 6 * i;
    view += 6 * i;
    double2 columns, rows;
    axis(view[1], view[3], half_width, columns);
    axis(view[0], view[4], half_width, rows);
    dview[0] = (float)(dy[i] * rows.x);
    dview[1] = (float)(dy[i] * columns.x);
    dview[2] = 0.0f;
    dview[3] = (float)(dy[i] * columns.y);
    dview[4] = (float)(dy[i] * rows.y);
    dview[5] = 0.0f;
}
