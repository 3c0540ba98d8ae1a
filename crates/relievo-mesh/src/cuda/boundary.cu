// The boundary integral (gradients/edges.rs). `boundary` has a warp for each edge: it goes from pixel to pixel, and where it
// looks at what is nearest its lanes share the list of the bin. `add_boundary` has a thread for each face, which takes the
// shares of its sides: nothing depends on the order of threads.

// Where edges are looked at: so many places in a pixel, or so many at random on each edge.
struct Places {
    int per_pixel, per_edge;
    unsigned long long seed;
};

// How far beside an edge the image is asked, in pixels.
#define ASIDE 1e-3

__device__ __forceinline__ unsigned long long scattered(unsigned long long x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

// Number `index` of the stream of an edge, in [0, 1): the engine's `Random`.
__device__ __forceinline__ double uniform(unsigned long long seed, unsigned long long edge, int index) {
    const unsigned long long golden = 0x9e3779b97f4a7c15ull;
    unsigned long long key = scattered(scattered(seed + golden) ^ edge * golden);
    unsigned long long bits = scattered(key + (index + 1ull) * golden);
    return (double)((float)(bits >> 40) * (1.0f / 16777216.0f));
}

// Images and their gradients; what is not there is null. Depth and covered share of pixels are there if only covered samples
// count in depths.
struct Upstream {
    const float* alpha;
    const float* colour;
    const float* depth;
    const float* depths;
    const float* shares;
};

// What is looked at: the faces and their bins, the edges, and what surfaces look like.
struct Looked {
    const float4* faces;
    const int* starts;
    const int* list;
    const Surface* surfaces;
    Image image;
    int image_number, width, height, per_pixel, surface_count;
    float3 background;
};

struct Hit {
    int face, number;  // the former among those of all images, -1 if there is none
    double depth;
};

// The nearest face at a point in pixels. All lanes of a warp must call with the same.
__device__ __forceinline__ Hit nearest(const Looked& at, const Raster& raster, double x, double y) {
    int column = min((int)fmax(x * at.per_pixel / raster.bin, 0.0), raster.bins_across - 1);
    int row = min((int)fmax(y * at.per_pixel / raster.bin, 0.0), raster.bins_down - 1);
    int bin = (at.image_number * raster.bins_down + row) * raster.bins_across + column;
    Hit best = {-1, 0, 1e300};
    for (int i = at.starts[bin] + threadIdx.x % 32; i < at.starts[bin + 1]; i += 32) {
        int face = at.list[i];
        Flat flat = flat_of(load_face(at.faces, face), at.width, at.height);
        double weights[3];
        if (!areas_at(flat, x, y, weights)) continue;
        double total = plus(plus(weights[0], weights[1]), weights[2]);
        for (int k = 0; k < 3; k++) weights[k] = weights[k] / total;
        double depth = depth_of(flat, weights);
        bool wins = depth < best.depth || (depth == best.depth && flat.number < best.number);
        if (wins && depth > (double)raster.near && depth < (double)raster.far) best = {face, flat.number, depth};
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        Hit other;
        other.face = __shfl_xor_sync(0xffffffffu, best.face, offset);
        other.number = __shfl_xor_sync(0xffffffffu, best.number, offset);
        other.depth = __shfl_xor_sync(0xffffffffu, best.depth, offset);
        bool wins = best.face < 0 || other.depth < best.depth || (other.depth == best.depth && other.number < best.number);
        if (other.face >= 0 && wins) best = other;
    }
    return best;
}

// What is seen, times the gradients of a pixel, of those of all images.
__device__ __forceinline__ double value_of(const Looked& at, const Raster& raster, const Upstream& upstream, const Hit& hit,
                                           double x, double y, long long pixel) {
    double value = 0.0;
    bool is_there = hit.face >= 0;
    if (upstream.alpha && is_there) value += upstream.alpha[pixel];
    if (upstream.colour) {
        float3 seen = at.background;
        if (is_there) {
            Flat flat = flat_of(load_face(at.faces, hit.face), at.width, at.height);
            double weights[3];
            areas_at(flat, x, y, weights);
            double total = plus(plus(weights[0], weights[1]), weights[2]);
            for (int k = 0; k < 3; k++) weights[k] = weights[k] / total;
            Shown shown;
            on_surface(flat, weights, hit.depth, shown.weights);
            show(shown, at.surfaces, at.surface_count, hit.face, hit.number >= at.image.count);
            Mixture m;
            seen = lit_colour(at.surfaces, shown, m);
        }
        float3 g = load3(upstream.colour, pixel);
        value += (double)g.x * seen.x + (double)g.y * seen.y + (double)g.z * seen.z;
    }
    if (upstream.depth) {
        double g = upstream.depth[pixel];
        if (!upstream.depths) value += g * (is_there ? hit.depth : (double)raster.far);
        else if (upstream.shares[pixel] > 0.0f) {
            // The mean of the covered part: its sum over its share.
            value += g / upstream.shares[pixel] * (is_there ? hit.depth - upstream.depths[pixel] : 0.0);
        }
    }
    return value;
}

// An edge: its ends' vertices and places, its way from the one to the other.
struct Edge {
    int low, high;
    double x, y, along_x, along_y, length;
};

__device__ __forceinline__ bool has_edge(const int* corners, int face, const Edge& edge) {
    for (int k = 0; k < 3; k++) {
        int from = corners[3ll * face + k], to = corners[3ll * face + (k + 1) % 3];
        if (min(from, to) == edge.low && max(from, to) == edge.high) return true;
    }
    return false;
}

// How much better the image gets if the edge moves along its normal where it is looked at, by pixel of way and length.
__device__ __forceinline__ double jump(const Looked& at, const Raster& raster, const Upstream& upstream, const int* corners,
                                       const Edge& edge, double along) {
    double x = edge.x + along * edge.along_x, y = edge.y + along * edge.along_y;
    int column = min((int)fmax(x, 0.0), at.width - 1), up = min((int)fmax(y, 0.0), at.height - 1);
    long long pixel = ((long long)at.image_number * at.height + at.height - 1 - up) * at.width + column;
    bool hears = (upstream.alpha && upstream.alpha[pixel] != 0.0f) || (upstream.depth && upstream.depth[pixel] != 0.0f) ||
                 (upstream.colour && !is_zero(load3(upstream.colour, pixel)));
    if (!hears) return 0.0;
    double aside_x = ASIDE * edge.along_y / edge.length, aside_y = -ASIDE * edge.along_x / edge.length;
    Hit left = nearest(at, raster, x - aside_x, y - aside_y), right = nearest(at, raster, x + aside_x, y + aside_y);
    bool own = (left.face >= 0 && has_edge(corners, left.face, edge)) || (right.face >= 0 && has_edge(corners, right.face, edge));
    if (!own) return 0.0;
    return value_of(at, raster, upstream, left, x - aside_x, y - aside_y, pixel) -
           value_of(at, raster, upstream, right, x + aside_x, y + aside_y, pixel);
}

// The part of an edge that is on the image; false if there is none.
__device__ __forceinline__ bool clip(const Edge& edge, int width, int height, double& first, double& last) {
    first = 0.0;
    last = 1.0;
    for (int axis = 0; axis < 2; axis++) {
        double side = axis ? height : width, from = axis ? edge.y : edge.x, along = axis ? edge.along_y : edge.along_x;
        if (along == 0.0) {
            if (!(from >= 0.0 && from <= side)) return false;
            continue;
        }
        double p = -from / along, q = (side - from) / along;
        first = fmax(first, fmin(p, q));
        last = fmin(last, fmax(p, q));
    }
    return first < last;
}

// Calls visit(from, to) for each part of an edge that is in one pixel.
template <typename F>
__device__ __forceinline__ void pixels_along(const Edge& edge, double first, double last, F visit) {
    double start[2] = {edge.x, edge.y}, along[2] = {edge.along_x, edge.along_y}, border[2];
    for (int axis = 0; axis < 2; axis++) {
        double at = start[axis] + first * along[axis];
        border[axis] = along[axis] > 0.0 ? floor(at) + 1.0 : ceil(at) - 1.0;
    }
    double from = first;
    while (from < last) {
        double reached[2];
        for (int axis = 0; axis < 2; axis++) {
            reached[axis] = along[axis] == 0.0 ? 1e300 : (border[axis] - start[axis]) / along[axis];
        }
        double to = fmin(fmin(reached[0], reached[1]), last);
        if (to > from) {
            visit(from, to);
            from = to;
        }
        for (int axis = 0; axis < 2; axis++) {
            if (reached[axis] <= to) border[axis] += along[axis] > 0.0 ? 1.0 : -1.0;
        }
    }
}

// found[s], for the first side s of each edge: what the lower and the higher end of each of its sides get, x and y of each.
extern "C" __global__ void boundary(float4* found, const float4* faces, const int* starts, const int* list, const Part* parts,
                                    const Image* images, const int* corners, const int* edges, const unsigned* owners,
                                    const int* counts, const float* dalpha, const float* dcolour, const float* ddepth,
                                    const float* depths, const float* shares, const Surface* surfaces, const float* background,
                                    Raster raster, Places places, int per_pixel, int part_count, int backgrounds,
                                    int face_count) {
    int lane = threadIdx.x % 32;
    Upstream upstream = {dalpha, dcolour, ddepth, depths, shares};
    for (int side = thread_number() / 32; side < 3 * face_count; side += gridDim.x * blockDim.x / 32) {
        int f = side / 3, corner = side % 3;
        Face face = load_face(faces, f);
        if (face.number < 0) continue;
        int slot = edges[side];
        if (~owners[slot] != (unsigned)side) continue;
        if (lane == 0) found[side] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        int backwards = counts[2ll * slot], forwards = counts[2ll * slot + 1];
        // Across other edges only colour jumps.
        if (!dcolour && backwards && forwards) continue;
        const Part& part = parts[entry_of(parts, part_count, f)];
        Looked at = {faces, starts, list, surfaces, images[part.image], part.image, raster.columns / per_pixel,
                     raster.rows / per_pixel, per_pixel, part_count, make_float3(0.0f, 0.0f, 0.0f)};
        if (background) at.background = load3(background, part.image % backgrounds);
        Flat flat = flat_of(face, at.width, at.height);
        int next = (corner + 1) % 3, of_corner = corners[3ll * f + corner], of_next = corners[3ll * f + next];
        int a = of_corner < of_next ? corner : next, b = of_corner < of_next ? next : corner;
        Edge edge = {min(of_corner, of_next), max(of_corner, of_next), flat.x[a], flat.y[a], flat.x[b] - flat.x[a],
                     flat.y[b] - flat.y[a], 0.0};
        edge.length = hypot(edge.along_x, edge.along_y);
        double first, last, low = 0.0, high = 0.0;
        if (!(edge.length > 0.0) || !clip(edge, at.width, at.height, first, last)) continue;
        auto look = [&](double from, double to, double along) {
            double found = jump(at, raster, upstream, corners, edge, along) * edge.length * (to - from);
            low += found * (1.0 - along);
            high += found * along;
        };
        if (places.per_pixel > 0) {
            pixels_along(edge, first, last, [&](double from, double to) {
                double step = (to - from) / places.per_pixel;
                for (int i = 0; i < places.per_pixel; i++) {
                    double begin = from + i * step;
                    look(begin, begin + step, begin + step / 2.0);
                }
            });
        } else {
            // Vertices are counted image by image, as on the CPU.
            unsigned long long stream = (unsigned long long)(edge.low - part.image_vertex) << 32 |
                                        (unsigned)(edge.high - part.image_vertex);
            double step = (last - first) / places.per_edge;
            for (int i = 0; i < places.per_edge; i++) {
                double begin = first + i * step;
                look(begin, begin + step, begin + step * uniform(places.seed, stream, i));
            }
        }
        double x = edge.along_y / edge.length * at.width / 2.0 / (backwards + forwards);
        double y = -edge.along_x / edge.length * at.height / 2.0 / (backwards + forwards);
        if (lane == 0) found[side] = make_float4((float)(low * x), (float)(low * y), (float)(high * x), (float)(high * y));
    }
}

// Adds to what the corners of each face get [faces][3][3], in the face's own order.
extern "C" __global__ void add_boundary(float* gradients, const float4* found, const float4* faces, const Image* images,
                                        const int* corners, const int* edges, const unsigned* owners, int image_count,
                                        int face_count) {
    int f = thread_number();
    if (f >= face_count) return;
    int number = load_face(faces, f).number;
    if (number < 0) return;
    bool back = number >= images[entry_of(images, image_count, f)].count;
    for (int k = 0; k < 3; k++) {
        int next = (k + 1) % 3;
        float4 g = found[~owners[edges[3ll * f + k]]];
        bool forward = corners[3ll * f + k] < corners[3ll * f + next];
        float* from = gradients + 9ll * f + 3 * (back ? 2 - k : k);
        float* to = gradients + 9ll * f + 3 * (back ? 2 - next : next);
        from[0] += forward ? g.x : g.z;
        from[1] += forward ? g.y : g.w;
        to[0] += forward ? g.z : g.x;
        to[1] += forward ? g.w : g.y;
    }
}
