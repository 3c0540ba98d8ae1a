// Four elements a thread. Blocks of memory are longer than their tensors by a multiple of 512 bytes, but only whole
// groups of four are moved as such: what lies behind may be another's.

template <typename To, typename From>
__device__ __forceinline__ void convert(To* y, const From* x, int count) {
    int first = 4 * thread_number();
    if (first + 4 <= count) {
        store4(y + first, load4(x + first));
    } else {
        for (int i = first; i < count; i++) store(y + i, load(x + i));
    }
}

extern "C" __global__ void float_to_bf16(bf16* y, const float* x, int count) { convert(y, x, count); }

extern "C" __global__ void bf16_to_float(float* y, const bf16* x, int count) { convert(y, x, count); }
