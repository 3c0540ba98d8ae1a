// One thread for each element.

// sum = keep * sum + factor * addend; what the sum was is not looked at when keep is 0 (it may be NaN).
extern "C" __global__ void scale_add(real* sum, const real* addend, float keep, float factor, int count) {
    int i = thread_number();
    if (i >= count) return;
    float term = factor * load(addend + i);
    store(sum + i, keep == 0.0f ? term : keep * load(sum + i) + term);
}
