// Soft faces (gradients/soft). Forward, a block for each bin, whose list is in the order of the faces' numbers, and a thread
// for each of its samples, which are mixed in that order. Backward, a warp for each face and bin that it reaches, whose lanes
// share the samples; its sums go to a place of their own, and a thread for each face adds these up in order. Colours, light and
// the background are scattered in fixed point.

#define GAMMA 1e-4
#define BACKGROUND 1e-3
#define COVERED 1e-20

// As `Softness` has it. 24 bytes.
struct Softness {
    double square, reach;  // of sigma, and of the distance beyond which faces are left out; in pixels
    int per_pixel, unused;
};

// A face as it is seen from a point.
struct Near {
    double signed_square, along, arm_x, arm_y, total, depth;
    double raw[3], weights[3];
    int side;
};

// False if the point is outside and too far away.
__device__ __forceinline__ bool near_at(Near& near, const Flat& flat, double x, double y, double reach) {
    double areas[3], best = 1e300;
    bool inside = areas_at(flat, x, y, areas);
    for (int k = 0; k < 3; k++) {
        int next = (k + 1) % 3;
        double way_x = flat.x[next] - flat.x[k], way_y = flat.y[next] - flat.y[k];
        double to_x = x - flat.x[k], to_y = y - flat.y[k], square = way_x * way_x + way_y * way_y;
        double share = square > 0.0 ? (to_x * way_x + to_y * way_y) / square : 0.0;
        share = fmin(fmax(share, 0.0), 1.0);
        double from_x = to_x - share * way_x, from_y = to_y - share * way_y, distance = from_x * from_x + from_y * from_y;
        if (distance < best) {
            best = distance;
            near.side = k;
            near.along = share;
            near.arm_x = from_x;
            near.arm_y = from_y;
        }
    }
    if (!(inside || best <= reach)) return false;
    double sum = areas[0] + areas[1] + areas[2];
    near.total = 0.0;
    for (int k = 0; k < 3; k++) {
        near.raw[k] = areas[k] / sum;
        near.weights[k] = fmin(fmax(near.raw[k], 0.0), 1.0);
        near.total += near.weights[k];
    }
    for (int k = 0; k < 3; k++) near.weights[k] /= near.total;
    near.depth = depth_of(flat, near.weights);
    near.signed_square = inside ? best : -best;
    return true;
}

__device__ __forceinline__ double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

// 1 at the near plane, 0 at the far one.
__device__ __forceinline__ double nearness_of(const Raster& raster, double depth) {
    return ((double)raster.far - depth) / ((double)raster.far - (double)raster.near);
}

// The colour of face `face` of all images where it is nearest to a sample.
__device__ __forceinline__ float3 colour_near(Shown& shown, Mixture& m, const Surface* surfaces, int surface_count,
                                              const Image& image, const Flat& flat, const Near& near) {
    on_surface(flat, near.weights, near.depth, shown.weights);
    show(shown, surfaces, surface_count, face_of(image, flat.number), flat.number >= image.count);
    return lit_colour(surfaces, shown, m);
}

// Faces that a block looks at together.
#define CHUNK 64

// `alpha` may be null. `kept` are prod(1 - D), the greatest nearness and the sum of all shares; `colours` and the surfaces may
// be null.
extern "C" __global__ void mix(float* alpha, float* colours, float* kept, const float4* faces, const int* starts,
                               const int* list, const Image* images, const Surface* surfaces, const float* background,
                               Raster raster, Softness softness, int surface_count, int backgrounds) {
    __shared__ Flat chunk[CHUNK];
    int bins = raster.bins_across * raster.bins_down, number = blockIdx.x / bins, bin = blockIdx.x % bins;
    int begin = starts[blockIdx.x], end = starts[blockIdx.x + 1], across = raster.bin / 16;
    int width = raster.columns / softness.per_pixel, height = raster.rows / softness.per_pixel;
    Image image = images[number];
    for (int square = 0; square < across * across; square++) {
        int column = bin % raster.bins_across * raster.bin + square % across * 16 + threadIdx.x % 16;
        int row = bin / raster.bins_across * raster.bin + square / across * 16 + threadIdx.x / 16;
        bool is_there = column < raster.columns && row < raster.rows;
        double x = (column + 0.5) / softness.per_pixel, y = (row + 0.5) / softness.per_pixel;
        double free = 1.0, most = BACKGROUND, total = 1.0, sum[3] = {};
        if (surfaces) {
            float3 behind = load3(background, number % backgrounds);
            sum[0] = behind.x;
            sum[1] = behind.y;
            sum[2] = behind.z;
        }
        for (int first = begin; first < end; first += CHUNK) {
            int count = min(CHUNK, end - first);
            __syncthreads();
            if ((int)threadIdx.x < count) {
                int face = face_of(image, list[first + threadIdx.x]);
                chunk[threadIdx.x] = flat_of(load_face(faces, face), width, height);
            }
            __syncthreads();
            for (int i = 0; is_there && i < count; i++) {
                if (!surfaces && free < COVERED) break;
                Near near;
                if (!near_at(near, chunk[i], x, y, softness.reach)) continue;
                if (!(near.depth > (double)raster.near && near.depth < (double)raster.far)) continue;
                double exponent = near.signed_square / softness.square;
                free *= sigmoid(-exponent);
                if (!surfaces) continue;
                Shown shown;
                Mixture m;
                float3 colour = colour_near(shown, m, surfaces, surface_count, image, chunk[i], near);
                double nearness = nearness_of(raster, near.depth);
                if (nearness > most) {
                    double by = exp((most - nearness) / GAMMA);
                    total *= by;
                    for (int k = 0; k < 3; k++) sum[k] *= by;
                    most = nearness;
                }
                double share = sigmoid(exponent) * exp((nearness - most) / GAMMA);
                total += share;
                sum[0] += share * colour.x;
                sum[1] += share * colour.y;
                sum[2] += share * colour.z;
            }
        }
        if (!is_there) continue;
        long long sample = ((long long)number * raster.rows + row) * raster.columns + column;
        if (alpha) alpha[sample] = (float)(1.0 - free);
        // The total is for the nearness as it is kept.
        float kept_most = (float)most;
        double kept_total = total * exp((most - (double)kept_most) / GAMMA);
        store3(kept, sample, make_float3((float)free, kept_most, (float)kept_total));
        if (colours) {
            store3(colours, sample, make_float3((float)(sum[0] / total), (float)(sum[1] / total), (float)(sum[2] / total)));
        }
    }
}

// The bins that each face reaches.
extern "C" __global__ void count_bins(int* counts, const float4* faces, Raster raster, int face_count) {
    int f = thread_number();
    if (f >= face_count) return;
    Face face = load_face(faces, f);
    counts[f] = 0;
    if (face.number < 0) return;
    int across = last_of(face.columns) / raster.bin - first_of(face.columns) / raster.bin + 1;
    counts[f] = across * (last_of(face.rows) / raster.bin - first_of(face.rows) / raster.bin + 1);
}

// What was made, and the gradients of it; those of images may be null.
struct Upstream {
    const float* dalpha;
    const float* dcolours;
    const float* kept;
    const float* colours;
};

// Gradients of the corners: places in pixels, and depths.
struct Corners {
    double x[3], y[3], z[3];
};

// Adds the gradients of the corners, given those of the signed square and of the depth.
__device__ __forceinline__ void add_corners(Corners& sums, const Near& near, const Flat& flat, double of_square,
                                            double of_depth) {
    // The nearest point stays the nearest to first order, so only the ends of its side move it.
    double by = 2.0 * (near.signed_square >= 0.0 ? -of_square : of_square);
    for (int k = 0; k < 3; k++) {
        double share = k == near.side ? 1.0 - near.along : k == (near.side + 1) % 3 ? near.along : 0.0;
        sums.x[k] += by * share * near.arm_x;
        sums.y[k] += by * share * near.arm_y;
    }
    if (of_depth == 0.0) return;
    double of_weights[3], mean = 0.0, along_x = 0.0, along_y = 0.0;
    for (int k = 0; k < 3; k++) {
        double z = flat.z[k], over = of_depth * near.depth * near.depth / z;
        sums.z[k] += over * near.weights[k] / z;
        of_weights[k] = -over;
        mean += near.weights[k] * of_weights[k];
    }
    // A corner that moves takes the weights of the point with it: d(w_k)/d(corner j) = -w_j grad(w_k).
    double area = turn(flat.x[0], flat.y[0], flat.x[1], flat.y[1], flat.x[2], flat.y[2]);
    for (int k = 0; k < 3; k++) {
        if (!(near.raw[k] > 0.0 && near.raw[k] < 1.0)) continue;
        int p = (k + 1) % 3, q = (k + 2) % 3;
        double g = (of_weights[k] - mean) / near.total;
        along_x += g * (flat.y[p] - flat.y[q]) / area;
        along_y += g * (flat.x[q] - flat.x[p]) / area;
    }
    for (int k = 0; k < 3; k++) {
        sums.x[k] -= near.raw[k] * along_x;
        sums.y[k] -= near.raw[k] * along_y;
    }
}

// A face and one of the bins that it reaches.
struct Item {
    Flat flat;
    Image image;
    int face, image_number, left, bottom, columns, rows;
};

__device__ __forceinline__ Item item_of(int item, const int* starts, const float4* faces, const Image* images,
                                        const Raster& raster, const Softness& softness, int image_count, int face_count) {
    int low = 0, high = face_count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (starts[middle] <= item) low = middle;
        else high = middle;
    }
    Item found;
    Face face = load_face(faces, low);
    found.face = low;
    found.image_number = entry_of(images, image_count, low);
    found.image = images[found.image_number];
    found.flat = flat_of(face, raster.columns / softness.per_pixel, raster.rows / softness.per_pixel);
    int first_column = first_of(face.columns), first_row = first_of(face.rows), bin = item - starts[low];
    int across = last_of(face.columns) / raster.bin - first_column / raster.bin + 1;
    int left = (first_column / raster.bin + bin % across) * raster.bin, bottom = (first_row / raster.bin + bin / across) * raster.bin;
    // The part of the bin that the face reaches.
    found.left = max(left, first_column);
    found.bottom = max(bottom, first_row);
    found.columns = min(left + raster.bin - 1, last_of(face.columns)) - found.left + 1;
    found.rows = min(bottom + raster.bin - 1, last_of(face.rows)) - found.bottom + 1;
    return found;
}

// What a face and a sample do to each other.
struct Share {
    Near near;
    Shown shown;
    Mixture m;
    double of_exponent, of_depth;
    float3 own, lit;  // the colour without light, and what the colour under light gets
    bool has_colour;
};

__device__ __forceinline__ bool share_of(Share& share, const Item& item, int i, const Upstream& upstream,
                                         const Surface* surfaces, const Raster& raster, const Softness& softness,
                                         int surface_count) {
    if (i >= item.columns * item.rows) return false;
    int column = item.left + i % item.columns, row = item.bottom + i / item.columns;
    long long sample = ((long long)item.image_number * raster.rows + row) * raster.columns + column;
    double of_alpha = upstream.dalpha ? upstream.dalpha[sample] : 0.0;
    float3 of_colour = upstream.dcolours ? load3(upstream.dcolours, sample) : make_float3(0.0f, 0.0f, 0.0f);
    float3 kept = load3(upstream.kept, sample);
    if ((of_alpha == 0.0 || kept.x < COVERED) && is_zero(of_colour)) return false;
    double x = (column + 0.5) / softness.per_pixel, y = (row + 0.5) / softness.per_pixel;
    if (!near_at(share.near, item.flat, x, y, softness.reach)) return false;
    double depth = share.near.depth;
    if (!(depth > (double)raster.near && depth < (double)raster.far)) return false;
    double exponent = share.near.signed_square / softness.square, probability = sigmoid(exponent);
    share.of_exponent = of_alpha * kept.x * probability;
    share.of_depth = 0.0;
    share.has_colour = surfaces != nullptr && upstream.dcolours != nullptr;
    if (share.has_colour) {
        double nearness = nearness_of(raster, depth);
        double part = probability * exp((nearness - kept.y) / GAMMA) / kept.z;
        float3 seen = colour_near(share.shown, share.m, surfaces, surface_count, item.image, item.flat, share.near);
        float3 made = load3(upstream.colours, sample);
        double better = (double)of_colour.x * minus(seen.x, made.x) + (double)of_colour.y * minus(seen.y, made.y) +
                        (double)of_colour.z * minus(seen.z, made.z);
        share.of_exponent += part * sigmoid(-exponent) * better;
        share.of_depth = -part * better / GAMMA / ((double)raster.far - (double)raster.near);
        share.own = colour_of(share.m, surfaces[share.shown.part]);
        share.lit = times(of_colour, (float)part);
    }
    return true;
}

// The largest term of a vector, by bits, so that a NaN is longer than all others.
__device__ __forceinline__ float longest(float3 v) {
    unsigned a = __float_as_uint(fabsf(v.x)), b = __float_as_uint(fabsf(v.y)), c = __float_as_uint(fabsf(v.z));
    return __uint_as_float(max(a, max(b, c)));
}

// sums[item] is what the corners of a face get from one bin; `largest` the largest terms of light and colours.
extern "C" __global__ void gradients(double* sums, unsigned* largest, const int* starts, const float4* faces,
                                     const Image* images, const float* dalpha, const float* dcolours, const float* kept,
                                     const float* colours, const Surface* surfaces, Raster raster, Softness softness,
                                     int surface_count, int image_count, int face_count) {
    Upstream upstream = {dalpha, dcolours, kept, colours};
    int all = starts[face_count];
    for (int number = thread_number() / 32; number < all; number += gridDim.x * blockDim.x / 32) {
        Item item = item_of(number, starts, faces, images, raster, softness, image_count, face_count);
        Corners own = {};
        float of_light = 0.0f, of_colours = 0.0f;
        for (int i = threadIdx.x % 32; i < item.columns * item.rows; i += 32) {
            Share share;
            if (!share_of(share, item, i, upstream, surfaces, raster, softness, surface_count)) continue;
            add_corners(own, share.near, item.flat, share.of_exponent / softness.square, share.of_depth);
            if (!share.has_colour) continue;
            const Surface& surface = surfaces[share.shown.part];
            auto noted = [](float a, float b) { return __uint_as_float(max(__float_as_uint(a), __float_as_uint(b))); };
            if (surface.light_sums >= 0) of_light = noted(of_light, longest(times(share.lit, share.own)));
            if (surface.colour_sums >= 0) {
                of_colours = noted(of_colours, longest(times(share.lit, load3(surface.light, share.shown.side))));
            }
        }
        for (int k = 0; k < 3; k++) {
            double x = warp_sum(own.x[k]), y = warp_sum(own.y[k]), z = warp_sum(own.z[k]);
            if (threadIdx.x % 32 != 0) continue;
            sums[9ll * number + 3 * k] = x;
            sums[9ll * number + 3 * k + 1] = y;
            sums[9ll * number + 3 * k + 2] = z;
        }
        note_largest(largest, of_light);
        note_largest(largest + 1, of_colours);
    }
}

// What the corners of each face get [faces][3][3], in the face's own order.
extern "C" __global__ void of_corners(float* gradients, const double* sums, const int* starts, const float4* faces,
                                      const Image* images, Raster raster, Softness softness, int image_count,
                                      int face_count) {
    int f = thread_number();
    if (f >= face_count) return;
    double own[9] = {}, halves[3] = {raster.columns / softness.per_pixel / 2.0, raster.rows / softness.per_pixel / 2.0, 1.0};
    for (int item = starts[f]; item < starts[f + 1]; item++) {
        for (int k = 0; k < 9; k++) own[k] += sums[9ll * item + k];
    }
    bool back = load_face(faces, f).number >= images[entry_of(images, image_count, f)].count;
    for (int k = 0; k < 9; k++) gradients[9ll * f + (back ? 2 - k / 3 : k / 3) * 3 + k % 3] = (float)(own[k] * halves[k % 3]);
}

// Adds to the sums of light and colours.
extern "C" __global__ void scatter(unsigned long long* sums, const unsigned* largest, const int* starts, const float4* faces,
                                   const Image* images, const float* dalpha, const float* dcolours, const float* kept,
                                   const float* colours, const Surface* surfaces, Raster raster, Softness softness, Rooms rooms,
                                   int surface_count, int image_count, int face_count) {
    Upstream upstream = {dalpha, dcolours, kept, colours};
    int all = starts[face_count];
    double of_light = units_of(largest[0], rooms.of[0]), of_colours = units_of(largest[1], rooms.of[1]);
    for (int number = thread_number() / 32; number < all; number += gridDim.x * blockDim.x / 32) {
        Item item = item_of(number, starts, faces, images, raster, softness, image_count, face_count);
        for (int first = 0; first < item.columns * item.rows; first += 32) {
            Share share;
            share.m.count = 0;
            bool adds = share_of(share, item, first + threadIdx.x % 32, upstream, surfaces, raster, softness, surface_count);
            adds = adds && share.has_colour;
            int light = -1, mixed = -1;
            float3 lit = make_float3(0.0f, 0.0f, 0.0f), own = lit;
            if (adds) {
                const Surface& surface = surfaces[share.shown.part];
                // Sums are three to an index.
                if (surface.light_sums >= 0) light = surface.light_sums / 3 + share.shown.side;
                if (surface.colour_sums >= 0) mixed = surface.colour_sums / 3;
                own = times(share.lit, share.own);
                lit = times(share.lit, load3(surface.light, share.shown.side));
            }
            scatter3(sums, light >= 0, light, own, of_light);
            for (int i = 0; i < 8; i++) {
                bool is_there = mixed >= 0 && i < share.m.count;
                float3 term = is_there ? times(lit, share.m.weights[i]) : lit;
                scatter3(sums, is_there, is_there ? mixed + share.m.indices[i] : 0, term, of_colours);
            }
        }
    }
}

// The background's share of a sample; y of the grid counts images.
__device__ __forceinline__ float3 behind(const float* dcolours, const float* kept, const Raster& raster) {
    int sample = thread_number(), samples = raster.columns * raster.rows;
    if (sample >= samples) return make_float3(0.0f, 0.0f, 0.0f);
    float3 own = load3(kept, (long long)blockIdx.y * samples + sample);
    double share = exp((BACKGROUND - own.y) / GAMMA) / own.z;
    return times(load3(dcolours, (long long)blockIdx.y * samples + sample), (float)share);
}

extern "C" __global__ void look_behind(unsigned* largest, const float* dcolours, const float* kept, Raster raster) {
    note_largest(largest + 2, longest(behind(dcolours, kept, raster)));
}

extern "C" __global__ void scatter_behind(unsigned long long* sums, const unsigned* largest, const float* dcolours,
                                          const float* kept, Raster raster, Rooms rooms, int first, int backgrounds) {
    float3 term = behind(dcolours, kept, raster);
    scatter3(sums, true, first / 3 + blockIdx.y % backgrounds, term, units_of(largest[2], rooms.of[2]));
}

extern "C" __global__ void numbers_of_sums(const Output* outputs, const unsigned long long* sums, const unsigned* largest, Rooms rooms,
                                 int output_count, int count) {
    write_sums(outputs, output_count, sums, largest, rooms, count);
}
