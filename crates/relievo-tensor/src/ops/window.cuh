// Gaussian windows, up to three standard deviations; and images compared with their targets under masks.

struct Extents {
    int images, targets, masks, height, width, channels;
};

__device__ __forceinline__ int elements_of(Extents e) { return e.images * e.height * e.width * e.channels; }

// The element of its target, and the pixel of its mask, of an element of a reconstruction.
__device__ __forceinline__ int target_of(Extents e, int i) { return i % (e.targets * e.height * e.width * e.channels); }
__device__ __forceinline__ int mask_of(Extents e, int i) { return i / e.channels % (e.masks * e.height * e.width); }

__device__ __forceinline__ float window_weight(int distance, float deviation) {
    float x = distance / deviation;
    return expf(-0.5f * x * x);
}
