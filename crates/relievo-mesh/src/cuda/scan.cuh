// Sums of the counts before each of a list, in two launches of blocks of 256 threads, four counts a thread. Sums are of 64
// bits where the sum of all may be more than an int.

#define SCANNED 1024

extern "C" __global__ void scan_sums(unsigned long long* sums, const int* counts, int count) {
    unsigned long long sum = 0;
    for (int k = 0; k < 4; k++) {
        int i = blockIdx.x * SCANNED + 4 * threadIdx.x + k;
        if (i < count) sum += counts[i];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// starts[i] is the sum of counts[0..i], starts[count] that of all, which `total` has, too.
extern "C" __global__ void scan(int* starts, unsigned long long* total, const unsigned long long* sums, const int* counts,
                                int count) {
    __shared__ unsigned long long of_warps[8];
    unsigned long long before = 0;
    for (int block = threadIdx.x; block < (int)blockIdx.x; block += 256) before += sums[block];
    before = block_sum(before);
    int first = blockIdx.x * SCANNED + 4 * threadIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int own[4];
    unsigned long long sum = 0;
    for (int k = 0; k < 4; k++) {
        own[k] = first + k < count ? counts[first + k] : 0;
        sum += own[k];
    }
    unsigned long long up_to = sum;
    for (int offset = 1; offset < 32; offset *= 2) {
        unsigned long long other = __shfl_up_sync(0xffffffffu, up_to, offset);
        if (lane >= offset) up_to += other;
    }
    if (lane == 31) of_warps[warp] = up_to;
    __syncthreads();
    for (int w = 0; w < warp; w++) before += of_warps[w];
    before += up_to - sum;
    for (int k = 0; k < 4; k++) {
        if (first + k < count) starts[first + k] = (int)before;
        before += own[k];
        if (first + k == count - 1) {
            starts[count] = (int)before;
            *total = before;
        }
    }
}
