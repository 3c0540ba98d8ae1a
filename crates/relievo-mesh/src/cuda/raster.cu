// Which face every sample shows, in four stages. `set_up` has a thread for each face: it keeps the face on the screen and
// counts it in the bins that it touches; the counts are summed (scan.cuh); `fill` has a thread for each face again and
// writes it to its bins' lists, which are as long as they must be, so no face is ever dropped; `draw` has a block for each
// bin and a thread for each of its samples.
//
// The order within a list does not matter here: a sample goes to the nearest face, and of equally near ones to the lowest
// number. Where it does, `sort_lists` puts lists in order.

#define LEAST_DEPTH 1e-6f
#define GREATEST_DEPTH 1e15f
#define STEEPEST 1e6f
#define FURTHEST 1e9f

// First and last sample between the least and the greatest of three coordinates; false if there is none.
__device__ __forceinline__ bool range_of(const float (&p)[3], int count, unsigned& range) {
    float least = fminf(fminf(p[0], p[1]), p[2]), greatest = fmaxf(fmaxf(p[0], p[1]), p[2]);
    float slack = plus(0.01f, times(1e-6f, fmaxf(fabsf(least), fabsf(greatest))));
    float low = fmaxf(minus(least, slack), 0.0f), high = fminf(plus(greatest, slack), (float)(count - 1));
    if (high < 0.0f || low > high) return false;
    int first = (int)ceilf(low), last = (int)floorf(high);
    range = (unsigned)first | (unsigned)last << 16;
    return first <= last;
}

// First and last of the cells of samples, each of which is as large as the distance between two, within `reach` of a face with
// these coordinates on the screen; false if it does not come so near to the image.
__device__ __forceinline__ bool cells_of(float a, float b, float c, int count, float reach, unsigned& range) {
    double low = ((double)fminf(fminf(a, b), c) + 1.0) * 0.5 * count - reach;
    double high = ((double)fmaxf(fmaxf(a, b), c) + 1.0) * 0.5 * count + reach;
    if (!(low <= (double)count && high >= 0.0)) return false;
    // A little more, for points next to a cell and for rounding.
    int first = (int)fmin(fmax(low - 0.01, 0.0), count - 1.0), last = (int)fmin(high + 0.01, count - 1.0);
    range = (unsigned)first | (unsigned)last << 16;
    return true;
}

// Whether a face with these corners is drawn, in this order: whether it can cover a sample or, if `reach` is not negative,
// whether it comes as near to the image.
__device__ __forceinline__ bool is_drawn(const float3 (&c)[3], const Raster& raster, float reach, unsigned& columns,
                                         unsigned& rows) {
    float left = times(minus(c[2].y, c[0].y), minus(c[1].x, c[0].x));
    float right = times(minus(c[1].y, c[0].y), minus(c[2].x, c[0].x));
    if (!(left > right)) return false;
    for (int k = 0; k < 3; k++) {
        if (!(c[k].z >= LEAST_DEPTH && c[k].z <= GREATEST_DEPTH)) return false;
    }
    Triangle t = triangle_of(c, raster);
    bool sound = true;
    for (int k = 0; k < 3; k++) sound = sound && fabsf(t.px[k]) <= FURTHEST && fabsf(t.py[k]) <= FURTHEST;
    for (int k = 0; k < 4; k++) sound = sound && fabsf(t.slopes[k / 2][k % 2]) <= STEEPEST;
    if (!sound) return false;
    if (reach < 0.0f) return range_of(t.px, raster.columns, columns) && range_of(t.py, raster.rows, rows);
    return cells_of(c[0].x, c[1].x, c[2].x, raster.columns, reach, columns) &&
           cells_of(c[0].y, c[1].y, c[2].y, raster.rows, reach, rows);
}

struct Bins {
    int left, bottom, across, count;
    int first;  // bin of the image
};

__device__ __forceinline__ Bins bins_of(const Raster& raster, unsigned columns, unsigned rows, int image) {
    Bins bins;
    bins.left = first_of(columns) / raster.bin;
    bins.bottom = first_of(rows) / raster.bin;
    bins.across = last_of(columns) / raster.bin - bins.left + 1;
    bins.count = bins.across * (last_of(rows) / raster.bin - bins.bottom + 1);
    bins.first = image * raster.bins_across * raster.bins_down;
    return bins;
}
__device__ __forceinline__ int bin_at(const Raster& raster, const Bins& bins, int i) {
    return bins.first + (bins.bottom + i / bins.across) * raster.bins_across + bins.left + i % bins.across;
}

// Calls visit(face, bin) for each bin of the face of each lane that is there. All lanes of a warp must call: a face with
// many bins is shared by all of them.
template <typename F>
__device__ __forceinline__ void visit_bins(const Raster& raster, bool is_there, int face, int image, unsigned columns,
                                           unsigned rows, F visit) {
    Bins own = is_there ? bins_of(raster, columns, rows, image) : Bins{};
    bool is_shared = is_there && own.count > 32;
    if (is_there && !is_shared) {
        for (int i = 0; i < own.count; i++) visit(face, bin_at(raster, own, i));
    }
    for (unsigned shared = __ballot_sync(0xffffffffu, is_shared); shared; shared &= shared - 1) {
        int owner = __ffs(shared) - 1;
        int its_image = __shfl_sync(0xffffffffu, image, owner), its = __shfl_sync(0xffffffffu, face, owner);
        unsigned its_columns = __shfl_sync(0xffffffffu, columns, owner), its_rows = __shfl_sync(0xffffffffu, rows, owner);
        Bins bins = bins_of(raster, its_columns, its_rows, its_image);
        for (int i = threadIdx.x % 32; i < bins.count; i += 32) visit(its, bin_at(raster, bins, i));
    }
}

extern "C" __global__ void set_up(float4* faces, int* counts, const Part* parts, const Image* images, Raster raster,
                                  float reach, int part_count, int face_count) {
    int i = thread_number(), image = 0;
    bool seen = false;
    unsigned columns = 0, rows = 0;
    if (i < face_count) {
        Part part = parts[entry_of(parts, part_count, i)];
        const int* indices = part.indices + 3ll * (i - part.first);
        float3 corners[3];
        for (int k = 0; k < 3; k++) corners[k] = load3(part.screen, indices[k]);
        image = part.image;
        int number = i - images[image].first;
        seen = is_drawn(corners, raster, reach, columns, rows);
        if (!seen && raster.backs) {
            float3 first = corners[0];
            corners[0] = corners[2];
            corners[2] = first;
            number += images[image].count;
            seen = is_drawn(corners, raster, reach, columns, rows);
        }
        float3 a = corners[0], b = corners[1], c = corners[2];
        faces[3ll * i] = make_float4(a.x, a.y, a.z, __int_as_float(seen ? number + 1 : 0));
        faces[3ll * i + 1] = make_float4(b.x, b.y, b.z, __uint_as_float(columns));
        faces[3ll * i + 2] = make_float4(c.x, c.y, c.z, __uint_as_float(rows));
    }
    visit_bins(raster, seen, i, image, columns, rows, [&](int, int bin) { atomicAdd(counts + bin, 1); });
}

// `left` begins as the counts, and ends as zeros.
extern "C" __global__ void fill(int* list, int* left, const int* starts, const float4* faces, const Part* parts,
                                Raster raster, int part_count, int face_count) {
    int i = thread_number(), image = 0;
    Face face = {};
    bool seen = false;
    if (i < face_count) {
        face = load_face(faces, i);
        seen = face.number >= 0;
        if (seen) image = parts[entry_of(parts, part_count, i)].image;
    }
    visit_bins(raster, seen, i, image, face.columns, face.rows,
               [&](int its, int bin) { list[starts[bin] + atomicSub(left + bin, 1) - 1] = its; });
}

// Faces that a block looks at together.
#define CHUNK 64

// A face prepared for the samples of a bin.
struct Prepared {
    float x[3], y[3], along_x[3], along_y[3];
    float inverse_z[3];
    float px, py, slopes[4];
    int number;
    unsigned columns, rows;
};

__device__ __forceinline__ void prepare(Prepared& p, const Face& face, const Raster& raster) {
    Triangle t = triangle_of(face.corners, raster);
    for (int k = 0; k < 3; k++) {
        float3 from = face.corners[k], to = face.corners[(k + 1) % 3];
        p.x[k] = from.x;
        p.y[k] = from.y;
        p.along_x[k] = minus(to.x, from.x);
        p.along_y[k] = minus(to.y, from.y);
        p.inverse_z[k] = 1.0f / from.z;
    }
    p.px = t.px[0];
    p.py = t.py[0];
    for (int k = 0; k < 4; k++) p.slopes[k] = t.slopes[k / 2][k % 2];
    p.number = face.number;
    p.columns = face.columns;
    p.rows = face.rows;
}

// The depth of a face at a sample; 0 if it does not cover it.
__device__ __forceinline__ float depth_at(const Prepared& p, float x, float y, float column, float row) {
    for (int k = 0; k < 3; k++) {
        if (!(times(minus(y, p.y[k]), p.along_x[k]) >= times(minus(x, p.x[k]), p.along_y[k]))) return 0.0f;
    }
    float dx = minus(column, p.px), dy = minus(row, p.py);
    float b = plus(times(p.slopes[0], dx), times(p.slopes[1], dy));
    float c = plus(times(p.slopes[2], dx), times(p.slopes[3], dy));
    float a = clamp_to_unit(minus(minus(1.0f, b), c));
    b = clamp_to_unit(b);
    c = clamp_to_unit(c);
    float over_z = plus(plus(times(a, p.inverse_z[0]), times(b, p.inverse_z[1])), times(c, p.inverse_z[2]));
    return plus(plus(a, b), c) / over_z;
}

// Blocks of 256 threads draw squares of 16x16 samples of their bin, one after the other; a warp has 8x4 of them. `depth` may
// be null.
extern "C" __global__ void draw(float* numbers, float* depth, const float4* faces, const int* starts, const int* list,
                                Raster raster) {
    __shared__ Prepared chunk[CHUNK];
    int bins = raster.bins_across * raster.bins_down, image = blockIdx.x / bins, bin = blockIdx.x % bins;
    int begin = starts[blockIdx.x], end = starts[blockIdx.x + 1], across = raster.bin / 16;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int square = 0; square < across * across; square++) {
        int left = bin % raster.bins_across * raster.bin + square % across * 16 + warp % 2 * 8;
        int bottom = bin / raster.bins_across * raster.bin + square / across * 16 + warp / 2 * 4;
        int column = left + lane % 8, row = bottom + lane / 8;
        float x = place(column, raster.columns), y = place(row, raster.rows), best = raster.far;
        int shown = -1;
        for (int first = begin; first < end; first += CHUNK) {
            int count = min(CHUNK, end - first);
            __syncthreads();
            if ((int)threadIdx.x < count) prepare(chunk[threadIdx.x], load_face(faces, list[first + threadIdx.x]), raster);
            __syncthreads();
            for (int i = 0; i < count; i++) {
                const Prepared& p = chunk[i];
                if (first_of(p.columns) > left + 7 || last_of(p.columns) < left || first_of(p.rows) > bottom + 3 ||
                    last_of(p.rows) < bottom) {
                    continue;
                }
                float d = depth_at(p, x, y, (float)column, (float)row);
                if (d > raster.near && (d < best || (d == best && p.number < shown))) {
                    best = d;
                    shown = p.number;
                }
            }
        }
        if (column < raster.columns && row < raster.rows) {
            long long sample = ((long long)image * raster.rows + row) * raster.columns + column;
            numbers[sample] = (float)shown;
            if (depth) depth[sample] = best;
        }
    }
}

// Puts the lists of bins in order, each entry replaced by the number of its face. A block for each bin, and a sorting network
// for lists of any length: what is missing at the end of one counts as larger than all.
extern "C" __global__ void sort_lists(int* list, const int* starts, const float4* faces) {
    int* own = list + starts[blockIdx.x];
    int count = starts[blockIdx.x + 1] - starts[blockIdx.x], whole = 1;
    while (whole < count) whole *= 2;
    for (int i = threadIdx.x; i < count; i += blockDim.x) own[i] = load_face(faces, own[i]).number;
    auto exchange = [&](int i, int j) {
        if (j <= i || j >= count) return;
        int a = own[i], b = own[j];
        if (a > b) {
            own[i] = b;
            own[j] = a;
        }
    };
    for (int size = 2; size <= whole; size *= 2) {
        __syncthreads();
        for (int i = threadIdx.x; i < count; i += blockDim.x) exchange(i, i ^ (size - 1));
        for (int apart = size / 4; apart > 0; apart /= 2) {
            __syncthreads();
            for (int i = threadIdx.x; i < count; i += blockDim.x) exchange(i, i ^ apart);
        }
    }
}
