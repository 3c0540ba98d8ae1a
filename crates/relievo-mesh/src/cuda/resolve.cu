// From samples to images, and what vertices on the screen get from images.
//
// Forward: `means` has a thread for each pixel.
// Backward, edges: columns are transposed, so that both ways lines are neighbouring numbers. A warp takes the lines of a bin
// that cross a face, one after the other, and its lanes share the samples of each line; its sums go to a place of their own.
// `face_gradients` adds the places of each face up in order and `gather` the faces of each vertex: no sum depends on the
// order of threads.
// Backward, depth: a thread for each sample adds to the sums of its face, in fixed point.

struct Settings {
    int per_pixel;
    float share;  // of a sample in its pixel
    float eps;    // what distances are kept away from zero by, on the screen
    int covered;  // whether only samples with a face count in the depth of a pixel
    float background;  // and the depth of pixels without any
};

// Each image may be null; `depths` are those of samples.
extern "C" __global__ void means(float* alpha, float* colour, float* depth, const float* numbers, const float* colours,
                                 const float* depths, Raster raster, Settings settings) {
    int per_pixel = settings.per_pixel, width = raster.columns / per_pixel, height = raster.rows / per_pixel;
    int p = thread_number();
    if (p >= width * height) return;
    int x = p % width, y = height - 1 - p / width;
    long long samples = (long long)blockIdx.y * raster.columns * raster.rows;
    float covered = 0.0f, deep = 0.0f;
    float3 sum = make_float3(0.0f, 0.0f, 0.0f);
    for (int row = 0; row < per_pixel; row++) {
        for (int column = 0; column < per_pixel; column++) {
            long long sample = samples + (long long)(y * per_pixel + row) * raster.columns + x * per_pixel + column;
            covered += numbers[sample] >= 0.0f ? 1.0f : 0.0f;
            if (colour) sum = plus(sum, load3(colours, sample));
            if (depth) deep = plus(deep, settings.covered && !(depths[sample] < raster.far) ? 0.0f : depths[sample]);
        }
    }
    long long pixel = (long long)blockIdx.y * width * height + p;
    covered *= settings.share;
    deep *= settings.share;
    if (alpha) alpha[pixel] = covered;
    if (colour) store3(colour, pixel, times(sum, settings.share));
    if (depth) depth[pixel] = !settings.covered ? deep : covered > 0.0f ? deep / covered : settings.background;
}

// The pixel of a sample within its image.
__device__ __forceinline__ int pixel_of(const Raster& raster, int per_pixel, int sample) {
    int width = raster.columns / per_pixel, height = raster.rows / per_pixel;
    return (height - 1 - sample / raster.columns / per_pixel) * width + sample % raster.columns / per_pixel;
}

// The gradient of all samples' colours from that of the pixels.
extern "C" __global__ void spread(float* dcolours, const float* dcolour, Raster raster, Settings settings) {
    int sample = thread_number(), samples = raster.columns * raster.rows;
    if (sample >= samples) return;
    long long pixels = samples / settings.per_pixel / settings.per_pixel;
    float3 g = load3(dcolour, blockIdx.y * pixels + pixel_of(raster, settings.per_pixel, sample));
    store3(dcolours, (long long)blockIdx.y * samples + sample, times(g, settings.share));
}

// A sample's face, weights and upstream gradient times the square of its depth; false if it has no face.
struct Deep {
    int face;
    float weights[3], g;
};

__device__ __forceinline__ bool deep_at(Deep& deep, const float4* faces, const Image* images, const float* numbers,
                                        const float* ddepth, const Raster& raster, const Settings& settings, int sample) {
    int samples = raster.columns * raster.rows, per_pixel = settings.per_pixel;
    if (sample >= samples) return false;
    const float* own = numbers + (long long)blockIdx.y * samples;
    if (own[sample] < 0.0f) return false;
    deep.face = face_of(images[blockIdx.y], (int)own[sample]);
    float share = settings.share;
    if (settings.covered) {
        float count = 0.0f;
        int corner = sample - sample / raster.columns % per_pixel * raster.columns - sample % raster.columns % per_pixel;
        for (int i = 0; i < per_pixel * per_pixel; i++) {
            count += own[corner + i / per_pixel * raster.columns + i % per_pixel] >= 0.0f ? 1.0f : 0.0f;
        }
        share = 1.0f / count;
    }
    Triangle t = triangle_of(load_face(faces, deep.face).corners, raster);
    float depth = weights_at(t, sample % raster.columns, sample / raster.columns, deep.weights);
    long long pixels = samples / per_pixel / per_pixel;
    deep.g = ddepth[blockIdx.y * pixels + pixel_of(raster, per_pixel, sample)] * share * depth * depth;
    return true;
}

extern "C" __global__ void look_depth(unsigned* largest, const float4* faces, const Image* images, const float* numbers,
                                      const float* ddepth, Raster raster, Settings settings) {
    Deep deep;
    bool has_face = deep_at(deep, faces, images, numbers, ddepth, raster, settings, thread_number());
    note_largest(largest, has_face ? deep.g : 0.0f);
}

// `sums` are three of each face.
extern "C" __global__ void scatter_depth(unsigned long long* sums, const unsigned* largest, const float4* faces,
                                         const Image* images, const float* numbers, const float* ddepth, Raster raster,
                                         Settings settings, int room) {
    Deep deep;
    bool has_face = deep_at(deep, faces, images, numbers, ddepth, raster, settings, thread_number());
    float3 term = make_float3(0.0f, 0.0f, 0.0f);
    if (has_face) term = make_float3(deep.g * deep.weights[0], deep.g * deep.weights[1], deep.g * deep.weights[2]);
    scatter3(sums, has_face, has_face ? deep.face : 0, term, units_of(*largest, room));
}

// Rows and columns of a list of `channels` numbers each exchanged; with the rows in reverse order before, if asked for.
// Blocks take tiles of 32x32.
extern "C" __global__ void transpose(float* to, const float* from, int rows, int columns, int channels, int reverse) {
    __shared__ float tile[3][32][33];
    int across = (columns + 31) / 32, left = blockIdx.x % across * 32, top = blockIdx.x / across * 32;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    long long image = (long long)blockIdx.y * rows * columns * channels;
    for (int i = warp; i < 32; i += 8) {
        for (int k = lane; k < 32 * channels; k += 32) {
            int row = top + i, column = left + k / channels;
            if (row >= rows || column >= columns) continue;
            long long source = reverse ? rows - 1 - row : row;
            tile[k % channels][i][k / channels] = from[image + (source * columns + column) * channels + k % channels];
        }
    }
    __syncthreads();
    for (int i = warp; i < 32; i += 8) {
        for (int k = lane; k < 32 * channels; k += 32) {
            int row = top + k / channels, column = left + i;
            if (row >= rows || column >= columns) continue;
            to[image + ((long long)column * rows + row) * channels + k % channels] = tile[k % channels][k / channels][i];
        }
    }
}

// Marks the faces that some sample shows. Threads write the same to the same place.
extern "C" __global__ void mark_seen(int* seen, const Image* images, const float* numbers, Raster raster) {
    int sample = thread_number(), samples = raster.columns * raster.rows;
    if (sample >= samples) return;
    float number = numbers[(long long)blockIdx.y * samples + sample];
    if (number >= 0.0f) seen[face_of(images[blockIdx.y], (int)number)] = 1;
}

__device__ __forceinline__ int bins_of(unsigned range, int bin) { return last_of(range) / bin - first_of(range) / bin + 1; }

// From what is seen: the columns and rows of bins of each face that is.
extern "C" __global__ void count_bins(int* seen, const float4* faces, Raster raster, int face_count) {
    int f = thread_number();
    if (f >= face_count || !seen[f]) return;
    Face face = load_face(faces, f);
    seen[f] = bins_of(face.columns, raster.bin) + bins_of(face.rows, raster.bin);
}

// What lines of one kind read: columns, or rows. Gradients of an image may be null. Of the first sample of an image.
struct Lines {
    const float* numbers;
    const float* colours;
    const float* dalpha;
    const float* dcolour;
};

// One line.
struct Line {
    const float* numbers;
    const float* colours;
    const float* dalpha;
    const float* dcolour;
    int length, per_pixel;
    float share;
};

__device__ __forceinline__ Line line_at(const Lines& lines, int image, int line, int count, int length,
                                        const Settings& settings, bool is_row) {
    long long first = ((long long)image * count + line) * length;
    int per_pixel = settings.per_pixel, pixels = length / per_pixel;
    // Gradients of pixels have their first row at the top, but not those that were transposed.
    int of_pixels = is_row ? count / per_pixel - 1 - line / per_pixel : line / per_pixel;
    long long pixel = ((long long)image * (count / per_pixel) + of_pixels) * pixels;
    Line own;
    own.numbers = lines.numbers + first;
    own.colours = lines.dcolour ? lines.colours + 3 * first : nullptr;
    own.dalpha = lines.dalpha ? lines.dalpha + pixel : nullptr;
    own.dcolour = lines.dcolour ? lines.dcolour + 3 * pixel : nullptr;
    own.length = length;
    own.per_pixel = per_pixel;
    own.share = settings.share;
    return own;
}

// What a sample shows, with the silhouette as fourth channel, and its gradient.
__device__ __forceinline__ float4 values_at(const Line& line, int place) {
    float3 colour = load3(line.colours, place);
    return make_float4(colour.x, colour.y, colour.z, line.numbers[place] >= 0.0f ? 1.0f : 0.0f);
}
__device__ __forceinline__ float dalpha_at(const Line& line, int place) {
    return line.dalpha ? times(line.dalpha[place / line.per_pixel], line.share) : 0.0f;
}

// What a sample gains by becoming like a model: the sum over channels of (I - I') g.
__device__ __forceinline__ float gain(const Line& line, int place, float4 model) {
    float3 g = times(load3(line.dcolour, place / line.per_pixel), line.share);
    float of_alpha = dalpha_at(line, place);
    float4 own = values_at(line, place);
    float is = plus(plus(times(g.x, own.x), times(g.y, own.y)), plus(times(g.z, own.z), times(of_alpha, own.w)));
    float other = plus(plus(times(g.x, model.x), times(g.y, model.y)), plus(times(g.z, model.z), times(of_alpha, model.w)));
    return minus(is, other);
}

// An edge where it crosses a line.
struct Crossing {
    float at, slopes[2], eps;
};

__device__ __forceinline__ float away_from_zero(float d, float eps) { return plus(d, d > 0.0f ? eps : -eps); }

// Adds what a sample pulls both ends with.
__device__ __forceinline__ void pull(const Crossing& crossing, int place, float strength, float (&found)[2]) {
    if (!(strength > 0.0f)) return;
    float away = minus((float)place, crossing.at);
    float a = away_from_zero(times(crossing.slopes[0], away), crossing.eps);
    float b = away_from_zero(times(crossing.slopes[1], away), crossing.eps);
    float share = strength / times(a, b);
    found[0] += share * b;
    found[1] += share * a;
}

// First and last line between two coordinates, rounded towards zero as in the original.
__device__ __forceinline__ bool lines_between(float least, float greatest, int lines, int& first, int& last) {
    float low = fmaxf(ceilf(least), 0.0f), high = truncf(fminf(greatest, (float)(lines - 1)));
    if (!(low <= high)) return false;
    first = (int)low;
    last = (int)high;
    return true;
}

// A face across and along the lines of one kind.
struct Crossed {
    float u[3], v[3];
    int number, image;
    int count, length;  // lines, and samples of each
    bool is_row;
};

__device__ __forceinline__ float slope_of(const Crossed& face, int a, int b) {
    return minus(face.v[b], face.v[a]) / minus(face.u[b], face.u[a]);
}

__device__ __forceinline__ float slope_by(float along, float arm, float unit) {
    if (arm == 0.0f) return 1.0f;
    return times(fminf(fmaxf(along / arm, -1e15f), 1e15f), unit);
}

// Adds what the corners a and b get where the edge between them crosses lines of first..last; each lane has its share of the
// samples. c is the other corner.
__device__ __forceinline__ void sweep_edge(const Crossed& face, const Lines& lines, const Settings& settings, int a, int b,
                                           int c, int first, int last, float (&sums)[3]) {
    float ua = face.u[a], ub = face.u[b];
    int from, to;
    if (ua == ub || !lines_between(fminf(ua, ub), fmaxf(ua, ub), face.count, from, to)) return;
    // The side of the edge that is outside of the face.
    bool up = face.is_row == (ua < ub);
    float unit = 2.0f / (float)face.length, most = (float)(face.length - 1), along = slope_of(face, a, b);
    int lane = threadIdx.x % 32;
    for (int at_line = max(from, first); at_line <= min(to, last); at_line++) {
        float q = (float)at_line;
        Crossing crossing;
        crossing.at = plus(times(along, minus(q, ua)), face.v[a]);
        crossing.eps = settings.eps;
        float inner_at = up ? floorf(crossing.at) : ceilf(crossing.at), outer_at = plus(inner_at, up ? 1.0f : -1.0f);
        // Written so that NaN is skipped.
        if (!(inner_at >= 0.0f && inner_at <= most && outer_at >= 0.0f && outer_at <= most)) continue;
        int inner = (int)inner_at, outer = (int)outer_at;
        Line line = line_at(lines, face.image, at_line, face.count, face.length, settings, face.is_row);
        float number = (float)face.number;
        bool has_colour = line.dcolour != nullptr;
        bool outward = line.numbers[inner] == number, inward = has_colour || line.numbers[outer] < 0.0f;
        if (!outward && !inward) continue;
        float by_a = minus(ub, q), by_b = minus(q, ua);
        crossing.slopes[0] = slope_by(minus(ub, ua), by_a, unit);
        crossing.slopes[1] = slope_by(minus(ub, ua), by_b, unit);
        float found[2] = {0.0f, 0.0f};
        if (outward) {
            float4 model = has_colour ? values_at(line, inner) : float4{};
            for (int place = (up ? inner + 1 : 0) + lane; place < (up ? face.length : inner); place += 32) {
                float strength = 0.0f;
                if (has_colour) strength = gain(line, place, model);
                else if (line.numbers[place] < 0.0f) strength = -dalpha_at(line, place);
                pull(crossing, place, strength, found);
            }
        }
        if (inward) {
            // The far end, where the line leaves the face.
            float uc = face.u[c];
            float end_at = times(minus(q, ua), minus(q, uc)) < 0.0f
                               ? plus(times(slope_of(face, a, c), minus(q, ua)), face.v[a])
                               : plus(times(slope_of(face, c, b), minus(q, uc)), face.v[c]);
            int end = __float2int_rz(up ? ceilf(end_at) : floorf(end_at));
            float4 model = has_colour ? values_at(line, outer) : float4{};
            for (int place = max(min(end, inner), 0) + lane; place <= min(max(end, inner), face.length - 1); place += 32) {
                if (line.numbers[place] != number) continue;
                pull(crossing, place, has_colour ? gain(line, place, model) : dalpha_at(line, place), found);
            }
        }
        // An end on the line itself is not moved by the other end.
        if (by_a != 0.0f) sums[a] += found[0];
        if (by_b != 0.0f) sums[b] += found[1];
    }
}

// sums[starts[f] + i] is what the corners of face f get from the lines of its bin i: columns of bins first, then rows of
// them. Warps go through all of these in turn.
extern "C" __global__ void sweep(float* sums, const int* starts, const float4* faces, const Image* images,
                                 const float* numbers, const float* colours, const float* dalpha, const float* dcolour,
                                 const float* numbers_across, const float* colours_across, const float* dalpha_across,
                                 const float* dcolour_across, Raster raster, Settings settings, int image_count,
                                 int face_count) {
    int all = starts[face_count], lane = threadIdx.x % 32;
    Lines rows = {numbers, colours, dalpha, dcolour};
    Lines columns = {numbers_across, colours_across, dalpha_across, dcolour_across};
    for (int item = thread_number() / 32; item < all; item += gridDim.x * blockDim.x / 32) {
        int low = 0, high = face_count;
        while (high - low > 1) {
            int middle = (low + high) / 2;
            if (starts[middle] <= item) low = middle;
            else high = middle;
        }
        Face kept = load_face(faces, low);
        Triangle t = triangle_of(kept.corners, raster);
        Crossed face;
        face.number = kept.number;
        face.image = entry_of(images, image_count, low);
        int bin = item - starts[low], across = bins_of(kept.columns, raster.bin);
        face.is_row = bin >= across;
        face.count = face.is_row ? raster.rows : raster.columns;
        face.length = face.is_row ? raster.columns : raster.rows;
        for (int k = 0; k < 3; k++) {
            face.u[k] = face.is_row ? t.py[k] : t.px[k];
            face.v[k] = face.is_row ? t.px[k] : t.py[k];
        }
        int first = (first_of(face.is_row ? kept.rows : kept.columns) / raster.bin + (face.is_row ? bin - across : bin)) *
                    raster.bin;
        const Lines& lines = face.is_row ? rows : columns;
        float own[3] = {0.0f, 0.0f, 0.0f};
        for (int k = 0; k < 3; k++) {
            sweep_edge(face, lines, settings, k, (k + 1) % 3, (k + 2) % 3, first, first + raster.bin - 1, own);
        }
        for (int k = 0; k < 3; k++) {
            float sum = warp_sum(own[k]);
            if (lane == 0) sums[3ll * item + k] = sum;
        }
    }
}

// What the corners of each face get [faces][3][3], in the face's own order: from its edges (may be null) and its depth (may be
// null).
extern "C" __global__ void face_gradients(float* corners, const float4* faces, const Image* images, const float* sums,
                                          const int* starts, const unsigned long long* of_depth, const unsigned* largest,
                                          Raster raster, int room, int image_count, int face_count) {
    int f = thread_number();
    if (f >= face_count) return;
    Face face = load_face(faces, f);
    float3 g[3] = {};
    if (sums && face.number >= 0) {
        int across = bins_of(face.columns, raster.bin);
        for (int item = starts[f]; item < starts[f + 1]; item++) {
            for (int k = 0; k < 3; k++) {
                float own = sums[3ll * item + k];
                if (item - starts[f] < across) g[k].y -= own;
                else g[k].x -= own;
            }
        }
    }
    if (of_depth && face.number >= 0) {
        float own[3];
        bool any = false;
        for (int k = 0; k < 3; k++) {
            own[k] = from_fixed(of_depth[3ll * f + k], *largest, room);
            any = any || own[k] != 0.0f;
        }
        if (any) {
            Triangle t = triangle_of(face.corners, raster);
            float tilt[2];
            for (int axis = 0; axis < 2; axis++) {
                float b = t.slopes[0][axis], c = t.slopes[1][axis];
                float sum = plus(plus((-b - c) / t.z[0], b / t.z[1]), c / t.z[2]);
                tilt[axis] = sum * (float)(axis ? raster.rows : raster.columns) / 2.0f;
            }
            for (int k = 0; k < 3; k++) {
                g[k].x += own[k] * tilt[0];
                g[k].y += own[k] * tilt[1];
                g[k].z += own[k] / t.z[k] / t.z[k];
            }
        }
    }
    bool back = face.number >= images[entry_of(images, image_count, f)].count;
    for (int k = 0; k < 3; k++) store3(corners, 3ll * f + k, g[back ? 2 - k : k]);
}

// A part's vertices: where their gradients go, and their corners.
struct Part {
    float* to;
    const int* starts;
    const int* corners;
    int first;  // vertex among those of all parts
    int face;   // first face among those of all images
    int listed;
    int count;
};

extern "C" __global__ void gather(const Part* parts, const float* of_corners, int part_count, int count) {
    int v = thread_number(), lane = threadIdx.x % 32;
    bool is_there = v < count;
    Part part = parts[entry_of(parts, part_count, is_there ? v : 0)];
    int own = v - part.first;
    bool has_faces = is_there && own < part.listed;
    int first = has_faces ? part.starts[own] : 0, end = has_faces ? part.starts[own + 1] : 0;
    bool is_shared = end - first > 64;
    float3 sum = make_float3(0.0f, 0.0f, 0.0f);
    auto term = [&](const Part& of, int i) { return load3(of_corners, 3ll * of.face + of.corners[i]); };
    if (!is_shared) {
        for (int i = first; i < end; i++) sum = plus(sum, term(part, i));
    }
    // As sum_of_corners, but lanes may be of different parts.
    for (unsigned shared = __ballot_sync(0xffffffffu, is_shared); shared; shared &= shared - 1) {
        int owner = __ffs(shared) - 1, its = __shfl_sync(0xffffffffu, v, owner);
        int its_end = __shfl_sync(0xffffffffu, end, owner);
        Part other = parts[entry_of(parts, part_count, its)];
        float3 of_lane = make_float3(0.0f, 0.0f, 0.0f);
        for (int i = __shfl_sync(0xffffffffu, first, owner) + lane; i < its_end; i += 32) of_lane = plus(of_lane, term(other, i));
        of_lane = make_float3(warp_sum(of_lane.x), warp_sum(of_lane.y), warp_sum(of_lane.z));
        if (lane == owner) sum = of_lane;
    }
    if (is_there) store3(part.to, own, sum);
}
