// Reconstructions [count, height, width], one after the other; reconstruction n is one of image n % images. As in mod.rs.

#define COLOUR_SPREAD 0.1f
#define COLOUR_LIMIT 0.5f
#define DEPTH_SPREAD 4.0f

struct Colour {
    float c[3];
};

__device__ __forceinline__ Colour colour_at(const float* of, long long pixel) {
    return {{of[3 * pixel], of[3 * pixel + 1], of[3 * pixel + 2]}};
}

__device__ __forceinline__ float pair_weight(const Colour& a, const Colour& b, float step) {
    float square = 0.0f;
    for (int c = 0; c < 3; c++) square += (a.c[c] - b.c[c]) * (a.c[c] - b.c[c]);
    return square < COLOUR_LIMIT ? expf(-square / COLOUR_SPREAD - step * step / DEPTH_SPREAD) : 0.0f;
}

// Calls visit(distance, there) for the eight neighbours of pixel (v, u): how far away each lies, and whether it is inside.
template <typename Visit>
__device__ __forceinline__ void for_neighbours(int v, int u, int height, int width, Visit visit) {
    for (int down = -1; down < 2; down++) {
        for (int right = -1; right < 2; right++) {
            if (down == 0 && right == 0) continue;
            bool there = v + down >= 0 && v + down < height && u + right >= 0 && u + right < width;
            visit(down * width + right, there);
        }
    }
}

// Where pixel i of all reconstructions lies in the images.
__device__ __forceinline__ int image_pixel(int i, int images, int height, int width) {
    int each = height * width;
    return i / each % images * each + i % each;
}

extern "C" __global__ void slopes(float* slopes, const float* albedo, const float* depth, const float* image, int images,
                                  int height, int width, int count) {
    int i = thread_number();
    if (i >= count) return;
    int v = i / width % height, u = i % width, own = image_pixel(i, images, height, width);
    Colour a = colour_at(albedo, i), seen = colour_at(image, own), slope = {};
    for_neighbours(v, u, height, width, [&](int distance, bool there) {
        Colour b = {}, other = {};
        float d = 0.0f;
        if (there) {
            b = colour_at(albedo, i + distance);
            other = colour_at(image, own + distance);
            d = depth[i + distance];
        }
        float weight = pair_weight(seen, other, depth[i] - d);
        for (int c = 0; c < 3; c++) slope.c[c] += weight * (a.c[c] - b.c[c]);
    });
    for (int c = 0; c < 3; c++) slopes[3ll * i + c] = slope.c[c];
}

// A block for each part: its mean of mask times squared slopes.
extern "C" __global__ void losses(float* losses, const float* slopes, const float* mask, int in_part) {
    long long first = (long long)blockIdx.x * in_part;
    double sum = 0.0;
    for (long long i = first + threadIdx.x; i < first + in_part; i += blockDim.x) {
        double error = 0.0;
        for (int c = 0; c < 3; c++) error += (double)slopes[3 * i + c] * slopes[3 * i + c];
        sum += mask[i] * error;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) losses[blockIdx.x] = (float)(sum / in_part);
}

// A pixel gathers what it gave to its own sum and to its neighbours' sums.
extern "C" __global__ void backward(float* dalbedo, float* ddepth, const float* albedo, const float* depth,
                                    const float* mask, const float* image, const float* slopes, const float* dy,
                                    int images, int height, int width, int in_part, int count) {
    int i = thread_number();
    if (i >= count) return;
    int v = i / width % height, u = i % width, own = image_pixel(i, images, height, width);
    float factor = 2.0f * dy[i / in_part] / (float)in_part;
    Colour a = colour_at(albedo, i), seen = colour_at(image, own), slope = colour_at(slopes, i), sum = {};
    for (int c = 0; c < 3; c++) slope.c[c] *= mask[i];
    float of_depth = 0.0f;
    for_neighbours(v, u, height, width, [&](int distance, bool there) {
        Colour b = {}, other = {}, other_slope = {};
        float d = 0.0f;
        if (there) {
            b = colour_at(albedo, i + distance);
            other = colour_at(image, own + distance);
            other_slope = colour_at(slopes, i + distance);
            for (int c = 0; c < 3; c++) other_slope.c[c] *= mask[i + distance];
            d = depth[i + distance];
        }
        float step = depth[i] - d, weight = factor * pair_weight(seen, other, step), of_weight = 0.0f;
        for (int c = 0; c < 3; c++) {
            float pull = slope.c[c] - other_slope.c[c];
            sum.c[c] += weight * pull;
            of_weight += pull * (a.c[c] - b.c[c]);
        }
        of_depth -= 2.0f / DEPTH_SPREAD * step * weight * of_weight;
    });
    for (int c = 0; c < 3; c++) dalbedo[3ll * i + c] = sum.c[c];
    ddepth[i] = of_depth;
}
