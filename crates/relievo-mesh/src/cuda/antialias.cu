// Silhouettes drawn with the share of a sample that they cover (gradients/antialias.rs). A thread for each sample mixes it,
// and looks at the pairs with all of its neighbours for that, in the order in which the CPU takes them: left, right, below,
// above. What vertices get is scattered in fixed point: a thread for each pair, `look` for the largest term, then `scatter`.
// y of the grid counts images.

#define BEYOND (1.0 / 16.0)
#define LEAST_HEIGHT 1e-3

// A sample that is mixed with its neighbour.
struct Blend {
    int target;  // which of the pair
    float share;
    bool own;  // whether that is the sample that shows the face of the edge
    int face, corners[2];
    float slopes[2][2];  // derivatives by the places of the corners on the screen
};

// What is seen, and which edges are silhouettes.
struct Seen {
    const float4* faces;
    const float* numbers;  // of the image
    const int* edges;
    const int* counts;
    Image image;
    int columns, rows;
};

__device__ __forceinline__ bool is_silhouette(const Seen& seen, int face, int corner) {
    int slot = seen.edges[3ll * face + corner];
    return !seen.counts[2ll * slot] || !seen.counts[2ll * slot + 1];
}

// The blend of a sample and the next one along an axis, if there is one.
__device__ __forceinline__ bool blend_of(Blend& blend, const Seen& seen, const Raster& raster, int sample, int axis) {
    int pair[2] = {sample, sample + (axis ? seen.columns : 1)};
    float numbers[2] = {seen.numbers[pair[0]], seen.numbers[pair[1]]};
    if (numbers[0] == numbers[1]) return false;
    float depths[2];
    for (int k = 0; k < 2; k++) {
        depths[k] = __int_as_float(0x7f800000);
        if (numbers[k] < 0.0f) continue;
        Triangle t = triangle_of(load_face(seen.faces, face_of(seen.image, (int)numbers[k])).corners, raster);
        float w[3];
        depths[k] = weights_at(t, pair[k] % seen.columns, pair[k] / seen.columns, w);
    }
    // Of equals the first.
    int own = depths[1] < depths[0] ? 1 : 0;
    blend.face = face_of(seen.image, (int)numbers[own]);
    Triangle t = triangle_of(load_face(seen.faces, blend.face).corners, raster);
    double origin_x = pair[own] % seen.columns, origin_y = pair[own] / seen.columns, towards = own ? -1.0 : 1.0;
    double x[3], y[3], c = 0.0;
    for (int k = 0; k < 3; k++) {
        double across = minus((double)t.px[k], origin_x), up = minus((double)t.py[k], origin_y);
        x[k] = towards * (axis ? up : across);
        y[k] = axis ? across : up;
    }
    int corner = -1;
    for (int k = 0; k < 3; k++) {
        int next = (k + 1) % 3;
        if ((y[k] < 0.0) == (y[next] < 0.0)) continue;
        double at = minus(times(x[k], y[next]), times(x[next], y[k])) / minus(y[next], y[k]);
        // Of equals the last.
        if (corner < 0 || at >= c) {
            corner = k;
            c = at;
        }
    }
    if (corner < 0 || !is_silhouette(seen, blend.face, corner)) return false;
    int next = (corner + 1) % 3;
    double x1 = x[corner], y1 = y[corner], x2 = x[next], y2 = y[next];
    if (!(fabs(y2 - y1) >= fabs(x2 - x1)) || !(c > -BEYOND && c < 1.0 + BEYOND)) return false;
    double height = y2 - y1 + (y2 < y1 ? -LEAST_HEIGHT : LEAST_HEIGHT);
    bool is_clamped = !(c > 0.0 && c < 1.0);
    c = fmin(fmax(c, 0.0), 1.0);
    double slopes[2][2] = {{y2, c - x2}, {-y1, x1 - c}};
    double half_along = (axis ? seen.rows : seen.columns) / 2.0, half_across = (axis ? seen.columns : seen.rows) / 2.0;
    for (int k = 0; k < 2; k++) {
        blend.slopes[k][axis] = is_clamped ? 0.0f : (float)(towards * slopes[k][0] / height * half_along);
        blend.slopes[k][1 - axis] = is_clamped ? 0.0f : (float)(slopes[k][1] / height * half_across);
    }
    blend.own = c < 0.5;
    blend.target = blend.own ? own : 1 - own;
    blend.share = (float)fabs(0.5 - c);
    blend.corners[0] = corner;
    blend.corners[1] = next;
    return true;
}

// Calls visit(neighbour, blend, whether this sample is the target) for each blend of a sample.
template <typename F>
__device__ __forceinline__ void visit_blends(const Seen& seen, const Raster& raster, int sample, F visit) {
    int column = sample % seen.columns, row = sample / seen.columns;
    for (int k = 0; k < 4; k++) {
        int axis = k / 2, before = k % 2 == 0, step = axis ? seen.columns : 1;
        bool is_there = axis ? (before ? row > 0 : row < seen.rows - 1) : (before ? column > 0 : column < seen.columns - 1);
        if (!is_there) continue;
        Blend blend;
        if (!blend_of(blend, seen, raster, before ? sample - step : sample, axis)) continue;
        visit(before ? sample - step : sample + step, blend, blend.target == before);
    }
}

__device__ __forceinline__ Seen seen_of(const float4* faces, const Image* images, const float* numbers, const int* edges,
                                        const int* counts, const Raster& raster) {
    long long first = (long long)blockIdx.y * raster.columns * raster.rows;
    return Seen{faces, numbers + first, edges, counts, images[blockIdx.y], raster.columns, raster.rows};
}

// Samples mixed; alpha, and colours with those they are made of, may be null.
extern "C" __global__ void mix(float* alpha, float* mixed, const float* colours, const float4* faces, const Image* images,
                               const float* numbers, const int* edges, const int* counts, Raster raster) {
    int sample = thread_number(), samples = raster.columns * raster.rows;
    if (sample >= samples) return;
    Seen seen = seen_of(faces, images, numbers, edges, counts, raster);
    long long first = (long long)blockIdx.y * samples;
    auto covered = [&](int sample) { return seen.numbers[sample] >= 0.0f ? 1.0f : 0.0f; };
    float own_alpha = covered(sample), new_alpha = own_alpha;
    float3 own = colours ? load3(colours, first + sample) : make_float3(0.0f, 0.0f, 0.0f), colour = own;
    visit_blends(seen, raster, sample, [&](int neighbour, const Blend& blend, bool is_target) {
        if (!is_target) return;
        new_alpha = plus(new_alpha, times(blend.share, minus(covered(neighbour), own_alpha)));
        if (colours) colour = plus(colour, times(minus(load3(colours, first + neighbour), own), blend.share));
    });
    if (alpha) alpha[first + sample] = new_alpha;
    if (mixed) store3(mixed, first + sample, colour);
}

// The gradient of the samples' colours before they were mixed.
extern "C" __global__ void mix_back(float* before, const float* after, const float4* faces, const Image* images,
                                    const float* numbers, const int* edges, const int* counts, Raster raster) {
    int sample = thread_number(), samples = raster.columns * raster.rows;
    if (sample >= samples) return;
    Seen seen = seen_of(faces, images, numbers, edges, counts, raster);
    long long first = (long long)blockIdx.y * samples;
    float3 own = load3(after, first + sample), sum = own;
    visit_blends(seen, raster, sample, [&](int neighbour, const Blend& blend, bool is_target) {
        float3 moved = times(is_target ? own : load3(after, first + neighbour), blend.share);
        sum = is_target ? minus(sum, moved) : plus(sum, moved);
    });
    store3(before, first + sample, sum);
}

// What the crossing of the edge of a pair gets; false if there is none. Pairs along rows come first.
__device__ __forceinline__ bool crossing_of(Blend& blend, float& of_crossing, const Seen& seen, const Raster& raster, int pair,
                                            const float* dalpha, const float* colours, const float* dcolours) {
    int samples = raster.columns * raster.rows, axis = pair / samples, sample = pair % samples;
    if (pair >= 2 * samples) return false;
    if (axis ? sample / seen.columns == seen.rows - 1 : sample % seen.columns == seen.columns - 1) return false;
    if (!blend_of(blend, seen, raster, sample, axis)) return false;
    int places[2] = {sample, sample + (axis ? seen.columns : 1)};
    int target = places[blend.target], neighbour = places[1 - blend.target];
    // Whichever of the two is mixed, it becomes more of the own one as the edge moves away from it.
    int own = blend.own ? target : neighbour, other = blend.own ? neighbour : target;
    long long first = (long long)blockIdx.y * samples;
    of_crossing = 0.0f;
    if (dalpha) {
        float jump = (seen.numbers[own] >= 0.0f ? 1.0f : 0.0f) - (seen.numbers[other] >= 0.0f ? 1.0f : 0.0f);
        of_crossing = times(dalpha[first + target], jump);
    }
    if (dcolours) {
        float3 jump = minus(load3(colours, first + own), load3(colours, first + other));
        of_crossing = plus(of_crossing, dot(load3(dcolours, first + target), jump));
    }
    return true;
}

extern "C" __global__ void look(unsigned* largest, const float4* faces, const Image* images, const float* numbers,
                                const int* edges, const int* counts, const float* dalpha, const float* colours,
                                const float* dcolours, Raster raster) {
    Blend blend;
    float of_crossing = 0.0f, most = 0.0f;
    Seen seen = seen_of(faces, images, numbers, edges, counts, raster);
    if (crossing_of(blend, of_crossing, seen, raster, thread_number(), dalpha, colours, dcolours)) {
        unsigned bits = 0;
        for (int k = 0; k < 4; k++) {
            // Bits, so that a NaN is longer than all others.
            bits = max(bits, __float_as_uint(times(of_crossing, blend.slopes[k / 2][k % 2])) & 0x7fffffffu);
        }
        most = __uint_as_float(bits);
    }
    note_largest(largest, most);
}

// `sums` are three of each corner of each face, as it is seen.
extern "C" __global__ void scatter(unsigned long long* sums, const unsigned* largest, const float4* faces, const Image* images,
                                   const float* numbers, const int* edges, const int* counts, const float* dalpha,
                                   const float* colours, const float* dcolours, Raster raster, int room) {
    Blend blend;
    float of_crossing = 0.0f;
    Seen seen = seen_of(faces, images, numbers, edges, counts, raster);
    bool is_there = crossing_of(blend, of_crossing, seen, raster, thread_number(), dalpha, colours, dcolours);
    double units = units_of(*largest, room);
    for (int k = 0; k < 2; k++) {
        float3 term = make_float3(0.0f, 0.0f, 0.0f);
        if (is_there) term = make_float3(times(of_crossing, blend.slopes[k][0]), times(of_crossing, blend.slopes[k][1]), 0.0f);
        scatter3(sums, is_there, is_there ? 3 * blend.face + blend.corners[k] : 0, term, units);
    }
}

// What the corners of each face get [faces][3][3], in the face's own order.
extern "C" __global__ void of_corners(float* gradients, const unsigned long long* sums, const unsigned* largest,
                                      const float4* faces, const Image* images, int room, int image_count, int face_count) {
    int f = thread_number();
    if (f >= face_count) return;
    int number = load_face(faces, f).number;
    bool back = number >= images[entry_of(images, image_count, f)].count;
    for (int k = 0; k < 3; k++) {
        float3 g = make_float3(0.0f, 0.0f, 0.0f);
        if (number >= 0) {
            g.x = from_fixed(sums[9ll * f + 3 * k], *largest, room);
            g.y = from_fixed(sums[9ll * f + 3 * k + 1], *largest, room);
        }
        store3(gradients, 3ll * f + (back ? 2 - k : k), g);
    }
}
