// One thread for each place of the grid, but where it says otherwise. The gradient of the images is a scatter: it is added up in fixed point, where
// the order does not matter, so that every run gives the same bits.

// The four pixels around a place, as on the CPU.
struct Cell {
    int row, column;
    float along, down;
};

__device__ __forceinline__ int split(float coordinate, int extent, float* rest) {
    float position = __fmul_rn(__fmul_rn(__fadd_rn(coordinate, 1.0f), 0.5f), (float)extent - 1.0f);
    float first = floorf(position);
    *rest = position - first;
    // What is no number must not turn into one: the weights made of `rest` are none either.
    return first == first ? (int)fminf(fmaxf(first, -2.0f), (float)extent) : 0;
}

__device__ __forceinline__ Cell cell_at(const float* grid, int place, int height, int width) {
    Cell cell;
    cell.column = split(grid[2 * place], width, &cell.along);
    cell.row = split(grid[2 * place + 1], height, &cell.down);
    return cell;
}

// Whether pixel i of a cell (top left, top right, bottom left, bottom right) lies inside; its number, and its weight.
__device__ __forceinline__ bool pixel_of(Cell cell, int i, int height, int width, int* pixel, float* weight) {
    int row = cell.row + i / 2, column = cell.column + i % 2;
    *pixel = row * width + column;
    *weight = (i % 2 ? cell.along : 1.0f - cell.along) * (i / 2 ? cell.down : 1.0f - cell.down);
    return row >= 0 && row < height && column >= 0 && column < width;
}

// What a place counts for: the mask has `masked` numbers, again and again, or is null.
__device__ __forceinline__ float counts_for(const float* mask, int place, int masked) {
    return mask ? mask[place % masked] : 1.0f;
}

extern "C" __global__ void forward(float* y, const float* image, const float* grid, const float* mask, int masked,
                                   int height, int width, int channels, int places, int count) {
    int place = thread_number();
    if (place >= count) return;
    Cell cell = cell_at(grid, place, height, width);
    float share = counts_for(mask, place, masked);
    const float* mine = image + (long long)(place / places) * height * width * channels;
    for (int c = 0; c < channels; c++) {
        float sum = 0.0f;
        for (int i = 0; i < 4; i++) {
            int pixel;
            float weight;
            if (pixel_of(cell, i, height, width, &pixel, &weight)) sum += weight * mine[pixel * channels + c];
        }
        y[place * channels + c] = share * sum;
    }
}

// The gradient of a place.
__device__ __forceinline__ float2 slopes(Cell cell, const float* image, const float* dy, int height, int width,
                                         int channels) {
    float products[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int i = 0; i < 4; i++) {
        int pixel;
        float weight;
        if (!pixel_of(cell, i, height, width, &pixel, &weight)) continue;
        for (int c = 0; c < channels; c++) products[i] += image[pixel * channels + c] * dy[c];
    }
    float left = 1.0f - cell.along, top = 1.0f - cell.down;
    return make_float2(0.5f * ((float)width - 1.0f) *
                           (top * (products[1] - products[0]) + cell.down * (products[3] - products[2])),
                       0.5f * ((float)height - 1.0f) *
                           (left * (products[2] - products[0]) + cell.along * (products[3] - products[1])));
}

// The gradient of the grid, and the bits of the largest |mask * dy|, which `scatter` needs; those of a NaN are above all
// others. Each may be null.
extern "C" __global__ void look(float2* dgrid, unsigned* largest, const float* image, const float* grid,
                                const float* dy, const float* mask, int masked, int height, int width, int channels,
                                int places, int count) {
    __shared__ unsigned of_block;
    if (threadIdx.x == 0) of_block = 0;
    __syncthreads();
    int place = thread_number();
    if (place < count) {
        const float* mine = dy + (long long)place * channels;
        float share = counts_for(mask, place, masked);
        if (dgrid) {
            float2 g = slopes(cell_at(grid, place, height, width),
                              image + (long long)(place / places) * height * width * channels, mine, height, width,
                              channels);
            dgrid[place] = make_float2(share * g.x, share * g.y);
        }
        unsigned bits = 0;
        for (int c = 0; c < channels; c++) bits = max(bits, __float_as_uint(share * mine[c]) & 0x7fffffffu);
        if (largest) atomicMax(&of_block, bits);
    }
    __syncthreads();
    if (threadIdx.x == 0 && largest) atomicMax(largest, of_block);
}

// The exponent of a unit of fixed point: 2^room units are the largest |mask * dy| or a little more. Bilinear weights are at
// most 1, and rounding keeps the order of products, so no term is larger; as many terms as there are places, 2^(62 - room) or
// fewer, fit into 63 bits, whatever the mask.
__device__ __forceinline__ int unit_exponent(unsigned bits, int room) { return (int)(bits >> 23) - 126 - room; }

// A thread for each channel of a place: neighbours add to neighbouring numbers.
extern "C" __global__ void scatter(unsigned long long* sums, unsigned* bits, const float* grid, const float* dy,
                                   int room, const float* mask, int masked, int height, int width, int channels,
                                   int places, int count) {
    int at = thread_number();
    if (at >= count) return;
    int place = at / channels;
    Cell cell = cell_at(grid, place, height, width);
    float share = counts_for(mask, place, masked);
    unsigned long long* mine = sums + (long long)(place / places) * height * width * channels + at % channels;
    double units = ldexp(1.0, -unit_exponent(*bits, room));
    for (int i = 0; i < 4; i++) {
        int pixel;
        float weight;
        if (!pixel_of(cell, i, height, width, &pixel, &weight)) continue;
        double term = (double)(share * weight * dy[at]);
        if (!(fabs(term) < 3.0e38)) {
            atomicMax(bits, 0x7fc00000u);
        } else if (term != 0.0) {
            // Two's complement: additions of negative numbers wrap around to the right result.
            atomicAdd(mine + pixel * channels, (unsigned long long)llrint(term * units));
        }
    }
}

// From fixed point; all NaN if anything was not finite.
extern "C" __global__ void from_fixed(float* dimage, const unsigned long long* sums, const unsigned* bits, int room,
                                      int count) {
    int i = thread_number();
    if (i >= count) return;
    bool finite = *bits < 0x7f800000u;
    dimage[i] = finite ? (float)ldexp((double)(long long)sums[i], unit_exponent(*bits, room))
                         : __uint_as_float(0x7fc00000u);
}
