// A thread for each element.

// mask = 1 where each of the parts is nearer than the limit; `count` elements of the mask.
extern "C" __global__ void visible(float* mask, const float* depth, float limit, int parts, int count) {
    int i = thread_number();
    if (i >= count) return;
    bool seen = true;
    for (int part = 0; part < parts; part++) seen = seen && depth[(long long)part * count + i] < limit;
    mask[i] = seen ? 1.0f : 0.0f;
}

// product = pictures * mask, which has `mask_pixels` of the pictures' pixels, again and again.
extern "C" __global__ void apply(float* product, const float* pictures, const float* mask, int channels, int mask_pixels,
                                 int count) {
    int i = thread_number();
    if (i < count) product[i] = pictures[i] * mask[i / channels % mask_pixels];
}
