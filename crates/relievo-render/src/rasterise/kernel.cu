// Forward: `cover` has a thread for each triangle (a warp for a large one), which offers its depth to the samples within
// its bounding box; a sample keeps the best offer it ever got, so the order of the threads does not matter. `resolve` has
// a thread for each pixel.
// Backward: `triangle_gradients` lets each triangle collect from the samples it won, `corner_gradients` lets each corner
// collect from its triangles. y of the grid counts images.
//
// What decides about samples is worked out exactly as in triangle.rs, in the same order and unfused, so that the same
// points give the same depths to the bit.

struct Raster {
    int size;             // corners of the grid, and pixels of the image, along each axis
    int per_pixel;        // samples of a pixel along each axis
    float focal, centre;  // of the camera, in samples
    float offset;         // coordinate of the first sample
    float near, far;
    float low, high;      // what pixels are clamped to
};

// An offer to a sample, more being better: nearer first, then the triangle of the lower number. 0 is none.
typedef unsigned long long Offer;
__device__ __forceinline__ Offer offer(float depth, int triangle) {
    return ~((Offer)__float_as_uint(depth) << 32 | (unsigned)triangle);
}
__device__ __forceinline__ float depth_of(Offer offer) { return __uint_as_float((unsigned)(~offer >> 32)); }
__device__ __forceinline__ int triangle_of(Offer offer) { return (int)(unsigned)~offer; }

// What samples without a triangle save as their winner, and those of a pixel that was clamped.
#define NOBODY -1.0f

__device__ __forceinline__ float3 project(const Raster& raster, float3 p) {
    return make_float3(raster.focal * p.x / p.z + raster.centre, raster.focal * p.y / p.z + raster.centre, p.z);
}

// The corners of a triangle on the screen: x and y in samples, and depth.
__device__ __forceinline__ void corners_of(const Raster& raster, const float* points, int triangle, float3 (&corners)[3]) {
    int cell = triangle / 2, row = cell / (raster.size - 1), column = cell % (raster.size - 1);
    int corner = row * raster.size + column;
    corners[0] = project(raster, load3(points, triangle % 2 ? corner + 1 : corner));
    corners[1] = project(raster, load3(points, corner + raster.size));
    corners[2] = project(raster, load3(points, triangle % 2 ? corner + raster.size + 1 : corner + 1));
}

// The samples first..end between the least and the greatest of three coordinates.
__device__ __forceinline__ void covered(float a, float b, float c, float offset, int samples, int& first, int& end) {
    float least = a < b ? a : b, greatest = a > b ? a : b;
    least = least < c ? least : c;
    greatest = greatest > c ? greatest : c;
    least -= offset;
    greatest -= offset;
    float low = least > 0.0f ? least : 0.0f;
    float high = greatest < (float)samples - 1.0f ? greatest : (float)samples - 1.0f;
    first = end = 0;
    if (!(high >= 0.0f && low <= high)) return;
    first = (int)low;
    if ((float)first < low) first++;
    end = (int)high + 1;
}

struct Box {
    int first_row, end_row, first_column, end_column;
};

__device__ __forceinline__ Box box_of(const Raster& raster, const float3 (&corners)[3]) {
    Box box;
    int samples = raster.size * raster.per_pixel;
    covered(corners[0].y, corners[1].y, corners[2].y, raster.offset, samples, box.first_row, box.end_row);
    covered(corners[0].x, corners[1].x, corners[2].x, raster.offset, samples, box.first_column, box.end_column);
    return box;
}

// A triangle made ready to be asked about samples: for every corner the edge opposite it.
struct Triangle {
    double from_x[3], from_y[3], step_x[3], step_y[3];
    double inverse_area;
    float inverse_z[3];
};

// False if it covers nothing.
__device__ __forceinline__ bool make_ready(Triangle& triangle, const float3 (&corners)[3]) {
    double x[3], y[3];
    bool in_front = true;
    for (int k = 0; k < 3; k++) {
        x[k] = corners[k].x;
        y[k] = corners[k].y;
        in_front = in_front && corners[k].z > 0.0f && isfinite(corners[k].z);
        triangle.inverse_z[k] = 1.0f / corners[k].z;
    }
    double area = __dsub_rn(__dmul_rn(x[1] - x[0], y[2] - y[0]), __dmul_rn(y[1] - y[0], x[2] - x[0]));
    if (area == 0.0 || !isfinite(area) || !in_front) return false;
    for (int k = 0; k < 3; k++) {
        int from = (k + 1) % 3, to = (k + 2) % 3;
        triangle.from_x[k] = x[from];
        triangle.from_y[k] = y[from];
        triangle.step_x[k] = x[to] - x[from];
        triangle.step_y[k] = y[to] - y[from];
    }
    triangle.inverse_area = 1.0 / area;
    return true;
}

// Weights and depth at the place (x, y), if the triangle covers it.
__device__ __forceinline__ bool at(const Triangle& triangle, double x, double y, float (&weights)[3], float& depth) {
    double edges[3];
    for (int k = 0; k < 3; k++) {
        double down = __dmul_rn(triangle.step_x[k], y - triangle.from_y[k]);
        double right = __dmul_rn(triangle.step_y[k], x - triangle.from_x[k]);
        edges[k] = __dmul_rn(__dsub_rn(down, right), triangle.inverse_area);
    }
    if (edges[0] < 0.0 || edges[1] < 0.0 || edges[2] < 0.0) return false;
    float clamped[3];
    for (int k = 0; k < 3; k++) clamped[k] = edges[k] < 1.0 ? (float)edges[k] : 1.0f;
    float total = __fadd_rn(__fadd_rn(clamped[0], clamped[1]), clamped[2]);
    float inverse = __fadd_rn(__fadd_rn(__fmul_rn(clamped[0], triangle.inverse_z[0]),
                                        __fmul_rn(clamped[1], triangle.inverse_z[1])),
                              __fmul_rn(clamped[2], triangle.inverse_z[2]));
    for (int k = 0; k < 3; k++) weights[k] = clamped[k] / total;
    depth = total / inverse;
    return true;
}

__device__ __forceinline__ double place(const Raster& raster, int sample) { return sample + (double)raster.offset; }

// A place on the way through the samples of a box, row by row.
struct Samples {
    Box box;
    int row, column;
};

__device__ __forceinline__ void step(Samples& at, int columns) {
    at.column += columns;
    while (at.column >= at.box.end_column && at.row < at.box.end_row) {
        at.column -= at.box.end_column - at.box.first_column;
        at.row++;
    }
}

__device__ __forceinline__ Samples samples_of(const Box& box, int first) {
    // No columns: none.
    Samples at = {box, box.first_column < box.end_column ? box.first_row : box.end_row, box.first_column};
    step(at, first);
    return at;
}

// More samples than a lane visits by itself: then the 32 lanes of its warp do it together, so that one stretched triangle
// does not keep 31 waiting.
#define MANY 32

__device__ __forceinline__ bool is_large(const Box& box) {
    return (box.end_row - box.first_row) * (box.end_column - box.first_column) > MANY;
}

// Offers a triangle's depth to the samples it covers: of its box every `stride`-th sample, beginning with number `first`.
// Offers begin as 0.
__device__ __forceinline__ void make_offers(Offer* offers, const Raster& raster, const float3 (&corners)[3], const Box& box,
                                            int number, int first, int stride) {
    Triangle triangle;
    if (!make_ready(triangle, corners)) return;
    int columns = raster.size * raster.per_pixel;
    for (Samples s = samples_of(box, first); s.row < box.end_row; step(s, stride)) {
        float weights[3], depth;
        if (at(triangle, place(raster, s.column), place(raster, s.row), weights, depth) && depth > raster.near &&
            depth < raster.far) {
            atomicMax(offers + s.row * columns + s.column, offer(depth, number));
        }
    }
}

extern "C" __global__ void cover(Offer* offers, const float* points, Raster raster) {
    int number = thread_number(), count = 2 * (raster.size - 1) * (raster.size - 1);
    int samples = raster.size * raster.per_pixel, lane = threadIdx.x % 32;
    points += 3ll * blockIdx.y * raster.size * raster.size;
    offers += (long long)blockIdx.y * samples * samples;
    bool is_there = number < count;
    float3 corners[3];
    corners_of(raster, points, is_there ? number : 0, corners);
    Box box = box_of(raster, corners);
    bool is_shared = is_there && is_large(box);
    if (is_there && !is_shared) make_offers(offers, raster, corners, box, number, 0, 1);
    for (unsigned shared = __ballot_sync(0xffffffffu, is_shared); shared; shared &= shared - 1) {
        int other = __shfl_sync(0xffffffffu, number, __ffs(shared) - 1);
        corners_of(raster, points, other, corners);
        make_offers(offers, raster, corners, box_of(raster, corners), other, lane, 32);
    }
}

// The mean depth of each pixel's samples, clamped, and the winner of every sample, which may be null.
extern "C" __global__ void resolve(float* depth, float* winners, const Offer* offers, Raster raster) {
    int p = thread_number(), pixels = raster.size * raster.size, samples = raster.size * raster.per_pixel;
    if (p >= pixels) return;
    long long first = (long long)blockIdx.y * samples * samples +
                      (p / raster.size * samples + p % raster.size) * raster.per_pixel;
    int count = raster.per_pixel * raster.per_pixel;
    auto sample = [&](int i) { return first + i / raster.per_pixel * samples + i % raster.per_pixel; };
    float sum = 0.0f;
    for (int i = 0; i < count; i++) {
        Offer best = offers[sample(i)];
        sum += best ? depth_of(best) : raster.far;
    }
    float mean = sum * (1.0f / (float)count);
    depth[(long long)blockIdx.y * pixels + p] = fminf(fmaxf(mean, raster.low), raster.high);
    if (!winners) return;
    bool is_clamped = !(mean >= raster.low && mean <= raster.high);
    for (int i = 0; i < count; i++) {
        Offer best = offers[sample(i)];
        winners[sample(i)] = best && !is_clamped ? (float)triangle_of(best) : NOBODY;
    }
}

// What a triangle collects from the samples it won: for each corner the sum of G D^2 w. Again every `stride`-th sample.
struct Collected {
    double sums[3];
    bool any;
};

__device__ __forceinline__ Collected collect(const float* winners, const float* dy, const Raster& raster,
                                             const float3 (&corners)[3], const Box& box, int number, int first,
                                             int stride) {
    Collected collected = {};
    Triangle triangle;
    int columns = raster.size * raster.per_pixel;
    float share = 1.0f / (float)(raster.per_pixel * raster.per_pixel);
    for (Samples s = samples_of(box, first); s.row < box.end_row; step(s, stride)) {
        if (winners[s.row * columns + s.column] != (float)number) continue;
        // Worked out when a sample is known to be the triangle's: many have none.
        if (!collected.any && !make_ready(triangle, corners)) break;
        collected.any = true;
        float weights[3], depth;
        if (!at(triangle, place(raster, s.column), place(raster, s.row), weights, depth)) continue;
        int pixel = s.row / raster.per_pixel * raster.size + s.column / raster.per_pixel;
        float g = dy[pixel] * share * depth * depth;
        for (int k = 0; k < 3; k++) collected.sums[k] += (double)(g * weights[k]);
    }
    return collected;
}

// What the lanes of a warp collected together, in every lane, summed in a fixed order.
__device__ __forceinline__ Collected of_warp(Collected collected) {
    for (int k = 0; k < 3; k++) collected.sums[k] = warp_sum(collected.sums[k]);
    collected.any = __any_sync(0xffffffffu, collected.any);
    return collected;
}

// The gradients of every triangle's corners on the screen, [images][9][triangles]: of its first corner x, y and z, of its
// second and of its third.
extern "C" __global__ void triangle_gradients(float* gradients, const float* points, const float* winners, const float* dy,
                                              Raster raster) {
    int number = thread_number(), count = 2 * (raster.size - 1) * (raster.size - 1);
    int pixels = raster.size * raster.size, samples = raster.size * raster.per_pixel, lane = threadIdx.x % 32;
    points += 3ll * blockIdx.y * pixels;
    winners += (long long)blockIdx.y * samples * samples;
    dy += (long long)blockIdx.y * pixels;
    bool is_there = number < count;
    float3 corners[3];
    corners_of(raster, points, is_there ? number : 0, corners);
    Box box = box_of(raster, corners);
    bool is_shared = is_there && is_large(box);
    Collected own = {};
    if (is_there && !is_shared) own = collect(winners, dy, raster, corners, box, number, 0, 1);
    for (unsigned shared = __ballot_sync(0xffffffffu, is_shared); shared; shared &= shared - 1) {
        int owner = __ffs(shared) - 1, other = __shfl_sync(0xffffffffu, number, owner);
        float3 its[3];
        corners_of(raster, points, other, its);
        Collected all = of_warp(collect(winners, dy, raster, its, box_of(raster, its), other, lane, 32));
        if (lane == owner) own = all;
    }
    if (!is_there) return;
    gradients += 9ll * blockIdx.y * count + number;
    double along_x = 0.0, along_y = 0.0;
    if (own.any) {
        // 1 / depth is affine on the screen: its slopes there.
        double z = corners[0].z;
        double bx = (double)corners[1].x - corners[0].x, by = (double)corners[1].y - corners[0].y;
        double cx = (double)corners[2].x - corners[0].x, cy = (double)corners[2].y - corners[0].y;
        double bq = 1.0 / corners[1].z - 1.0 / z, cq = 1.0 / corners[2].z - 1.0 / z;
        double area = bx * cy - by * cx;
        along_x = (bq * cy - cq * by) / area;
        along_y = (cq * bx - bq * cx) / area;
    }
    for (int k = 0; k < 3; k++) {
        double z = corners[k].z;
        gradients[3 * k * count] = own.any ? (float)(own.sums[k] * along_x) : 0.0f;
        gradients[(3 * k + 1) * count] = own.any ? (float)(own.sums[k] * along_y) : 0.0f;
        gradients[(3 * k + 2) * count] = own.any ? (float)(own.sums[k] / (z * z)) : 0.0f;
    }
}

// The gradients of the points from those of the triangles' corners.
extern "C" __global__ void corner_gradients(float* dpoints, const float* points, const float* gradients, Raster raster) {
    int p = thread_number(), size = raster.size, pixels = size * size, count = 2 * (size - 1) * (size - 1);
    if (p >= pixels) return;
    long long image = 3ll * blockIdx.y * pixels;
    gradients += 9ll * blockIdx.y * count;
    int row = p / size, column = p % size;
    float3 g = make_float3(0.0f, 0.0f, 0.0f);
    // The part of corner k of the first (0) or second (1) triangle of the cell at (r, c).
    auto add = [&](int r, int c, int half, int k) {
        const float* part = gradients + 3 * k * count + 2 * (r * (size - 1) + c) + half;
        g.x += part[0];
        g.y += part[count];
        g.z += part[2 * count];
    };
    bool left = column > 0, right = column + 1 < size;
    if (row > 0) {
        if (left) add(row - 1, column - 1, 1, 2);
        if (right) add(row - 1, column, 0, 1), add(row - 1, column, 1, 1);
    }
    if (row + 1 < size) {
        if (left) add(row, column - 1, 0, 2), add(row, column - 1, 1, 0);
        if (right) add(row, column, 0, 0);
    }
    float3 point = load3(points + image, p);
    float slope = raster.focal / point.z;
    // Of a point nearly at the camera the terms cancel.
    float along = __fadd_rn(__fmul_rn(g.x, point.x), __fmul_rn(g.y, point.y)) / point.z;
    float3 moved = make_float3(g.x * slope, g.y * slope, __fsub_rn(g.z, __fmul_rn(along, slope)));
    // Corners of unseen triangles only get none; their own numbers may not be finite.
    bool is_seen = g.x != 0.0f || g.y != 0.0f || g.z != 0.0f;
    store3(dpoints + image, p, is_seen ? moved : g);
}
