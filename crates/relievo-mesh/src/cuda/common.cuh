// What the kernels of several files share. Comes before their own text, after the engine's.
//
// plus, minus and times are never fused with what follows: what they compute decides something (which face covers a
// sample, whether an edge is moved) and has to be the CPU's to the bit.

__device__ __forceinline__ float plus(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ float minus(float a, float b) { return __fsub_rn(a, b); }
__device__ __forceinline__ float times(float a, float b) { return __fmul_rn(a, b); }

__device__ __forceinline__ float3 load3(const float* p, long long i) {
    return make_float3(p[3 * i], p[3 * i + 1], p[3 * i + 2]);
}
__device__ __forceinline__ void store3(float* p, long long i, float3 v) {
    p[3 * i] = v.x;
    p[3 * i + 1] = v.y;
    p[3 * i + 2] = v.z;
}
__device__ __forceinline__ float3 plus(float3 a, float3 b) {
    return make_float3(plus(a.x, b.x), plus(a.y, b.y), plus(a.z, b.z));
}
__device__ __forceinline__ float3 minus(float3 a, float3 b) {
    return make_float3(minus(a.x, b.x), minus(a.y, b.y), minus(a.z, b.z));
}
__device__ __forceinline__ float3 times(float3 v, float by) {
    return make_float3(times(v.x, by), times(v.y, by), times(v.z, by));
}
__device__ __forceinline__ float3 times(float3 a, float3 b) {
    return make_float3(times(a.x, b.x), times(a.y, b.y), times(a.z, b.z));
}
__device__ __forceinline__ float dot(float3 a, float3 b) {
    return plus(plus(times(a.x, b.x), times(a.y, b.y)), times(a.z, b.z));
}
__device__ __forceinline__ float3 cross(float3 a, float3 b) {
    return make_float3(minus(times(a.y, b.z), times(a.z, b.y)), minus(times(a.z, b.x), times(a.x, b.z)),
                       minus(times(a.x, b.y), times(a.y, b.x)));
}
__device__ __forceinline__ bool is_zero(float3 v) { return v.x == 0.0f && v.y == 0.0f && v.z == 0.0f; }
__device__ __forceinline__ bool is_finite(float3 v) { return isfinite(v.x) && isfinite(v.y) && isfinite(v.z); }

// The last entry of a list whose `first` is not above i. Entries without anything share the `first` of the next one.
template <typename T>
__device__ __forceinline__ int entry_of(const T* list, int count, int i) {
    int low = 0, high = count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (list[middle].first <= i) low = middle;
        else high = middle;
    }
    return low;
}

// The raster of samples; row 0 is the bottom. Bins are squares of samples, counted row by row, image by image.
struct Raster {
    int columns, rows;
    int bin;  // samples along the side of a bin
    int bins_across, bins_down;
    float near, far;
    int backs;  // whether faces are seen from the back, too
};

// The faces of an image among those of all, and how many there are. Faces seen from the back have numbers from `count` on.
struct Image {
    int first, count;
};

// The face that a number leads to, among those of all images.
__device__ __forceinline__ int face_of(Image image, int number) {
    return image.first + (number >= image.count ? number - image.count : number);
}

// Place of sample i of `count` on the screen, and a coordinate of the screen in units in which samples are whole numbers.
__device__ __forceinline__ float place(int i, int count) { return (float)(2 * i + 1 - count) / (float)count; }
__device__ __forceinline__ float in_samples(float coordinate, int count) {
    return times(0.5f, minus(plus(times(coordinate, (float)count), (float)count), 1.0f));
}

// A face on the screen as it is kept: its corners in the order in which it is seen from the front; number + 1, or 0 if it
// is not drawn; first and last column and row of samples that it can cover, the last in the upper half. 48 bytes.
struct Face {
    float3 corners[3];
    int number;
    unsigned columns, rows;
};

__device__ __forceinline__ Face load_face(const float4* faces, long long i) {
    float4 a = faces[3 * i], b = faces[3 * i + 1], c = faces[3 * i + 2];
    Face face;
    face.corners[0] = make_float3(a.x, a.y, a.z);
    face.corners[1] = make_float3(b.x, b.y, b.z);
    face.corners[2] = make_float3(c.x, c.y, c.z);
    face.number = __float_as_int(a.w) - 1;
    face.columns = __float_as_uint(b.w);
    face.rows = __float_as_uint(c.w);
    return face;
}
__device__ __forceinline__ int first_of(unsigned range) { return (int)(range & 0xffffu); }
__device__ __forceinline__ int last_of(unsigned range) { return (int)(range >> 16); }

// A face prepared for its samples, as triangle.rs has it: corners in samples, depths, and the derivatives of the second and
// third weight by column and row.
struct Triangle {
    float px[3], py[3], z[3];
    float slopes[2][2];
};

__device__ __forceinline__ Triangle triangle_of(const float3 (&corners)[3], const Raster& raster) {
    Triangle t;
    for (int k = 0; k < 3; k++) {
        t.px[k] = in_samples(corners[k].x, raster.columns);
        t.py[k] = in_samples(corners[k].y, raster.rows);
        t.z[k] = corners[k].z;
    }
    float bx = minus(t.px[1], t.px[0]), by = minus(t.py[1], t.py[0]);
    float cx = minus(t.px[2], t.px[0]), cy = minus(t.py[2], t.py[0]);
    float inverse_area = 1.0f / minus(times(bx, cy), times(cx, by));
    t.slopes[0][0] = times(cy, inverse_area);
    t.slopes[0][1] = times(-cx, inverse_area);
    t.slopes[1][0] = times(-by, inverse_area);
    t.slopes[1][1] = times(bx, inverse_area);
    return t;
}

// Clamped to [0, 1]; 0 for NaN.
__device__ __forceinline__ float clamp_to_unit(float w) {
    w = w > 0.0f ? w : 0.0f;
    return w < 1.0f ? w : 1.0f;
}

// The clamped weights of the corners on the screen at a sample, and their sum.
__device__ __forceinline__ float clamped_weights(const Triangle& t, float column, float row, float (&w)[3]) {
    float dx = minus(column, t.px[0]), dy = minus(row, t.py[0]);
    float b = plus(times(t.slopes[0][0], dx), times(t.slopes[0][1], dy));
    float c = plus(times(t.slopes[1][0], dx), times(t.slopes[1][1], dy));
    w[0] = clamp_to_unit(minus(minus(1.0f, b), c));
    w[1] = clamp_to_unit(b);
    w[2] = clamp_to_unit(c);
    return plus(plus(w[0], w[1]), w[2]);
}

// The weights, with sum 1, and the depth.
__device__ __forceinline__ float weights_at(const Triangle& t, int column, int row, float (&w)[3]) {
    float total = clamped_weights(t, (float)column, (float)row, w);
    float over_z = plus(plus(times(w[0], 1.0f / t.z[0]), times(w[1], 1.0f / t.z[1])), times(w[2], 1.0f / t.z[2]));
    for (int k = 0; k < 3; k++) w[k] = w[k] / total;
    return total / over_z;
}

// The weights on the surface rather than on the screen.
__device__ __forceinline__ void surface_weights(const Triangle& t, int column, int row, float (&w)[3]) {
    float depth = weights_at(t, column, row, w);
    for (int k = 0; k < 3; k++) w[k] = times(w[k] / t.z[k], depth);
}

// Sums whose terms come in any order are added up in fixed point: whole numbers of a unit that is 2^-room of the largest
// term, so that every run gives the same bits. `largest` are the bits of that term's absolute value; those of a NaN are
// above all others.
__device__ __forceinline__ void note_largest(unsigned* largest, float x) {
    unsigned bits = __float_as_uint(x) & 0x7fffffffu;
    bits = __reduce_max_sync(0xffffffffu, bits);
    if (threadIdx.x % 32 == 0 && bits) atomicMax(largest, bits);
}
__device__ __forceinline__ int unit_exponent(unsigned bits, int room) { return (int)(bits >> 23) - 126 - room; }
__device__ __forceinline__ double units_of(unsigned bits, int room) { return ldexp(1.0, -unit_exponent(bits, room)); }
__device__ __forceinline__ void add_fixed(unsigned long long* sum, float term, double units) {
    // Two's complement: additions of negative numbers wrap around to the right result. What is not finite is in `largest`.
    if (term != 0.0f && isfinite(term)) atomicAdd(sum, (unsigned long long)llrint((double)term * units));
}
__device__ __forceinline__ float from_fixed(unsigned long long sum, unsigned bits, int room) {
    if (bits >= 0x7f800000u) return __uint_as_float(0x7fc00000u);
    return (float)ldexp((double)(long long)sum, unit_exponent(bits, room));
}

// Adds a vector to a sum. All lanes of a warp must call; those that have nothing say so. Neighbouring samples mostly show
// the same face: then the warp adds up what it has, in a fixed order, before one lane does the addition.
__device__ __forceinline__ void scatter3(unsigned long long* sums, bool is_there, int index, float3 term, double units) {
    unsigned there = __ballot_sync(0xffffffffu, is_there);
    if (!there) return;
    int other = __shfl_sync(0xffffffffu, index, __ffs(there) - 1);
    if (__all_sync(0xffffffffu, !is_there || index == other)) {
        if (!is_there) term = make_float3(0.0f, 0.0f, 0.0f);
        term = make_float3(warp_sum(term.x), warp_sum(term.y), warp_sum(term.z));
        is_there = threadIdx.x % 32 == 0;
        index = other;
    }
    if (!is_there) return;
    add_fixed(sums + 3ll * index, term.x, units);
    add_fixed(sums + 3ll * index + 1, term.y, units);
    add_fixed(sums + 3ll * index + 2, term.z, units);
}

// The sum of term(corner) over the corners first..end of each lane's list, in order. All lanes of a warp must call: a vertex
// with many faces is shared by all of them, so that it does not keep 31 waiting.
template <typename F>
__device__ __forceinline__ float3 sum_of_corners(const int* corners, int first, int end, F term) {
    float3 sum = make_float3(0.0f, 0.0f, 0.0f);
    bool is_shared = end - first > 64;
    if (!is_shared) {
        for (int i = first; i < end; i++) sum = plus(sum, term(corners[i]));
    }
    int lane = threadIdx.x % 32;
    for (unsigned shared = __ballot_sync(0xffffffffu, is_shared); shared; shared &= shared - 1) {
        int owner = __ffs(shared) - 1;
        int its_end = __shfl_sync(0xffffffffu, end, owner);
        float3 own = make_float3(0.0f, 0.0f, 0.0f);
        for (int i = __shfl_sync(0xffffffffu, first, owner) + lane; i < its_end; i += 32) own = plus(own, term(corners[i]));
        own = make_float3(warp_sum(own.x), warp_sum(own.y), warp_sum(own.z));
        if (lane == owner) sum = own;
    }
    return sum;
}

// A piece of a face that was cut: the face, and the face's barycentric coordinates at each corner of the piece if it is not
// whole. 48 bytes.
struct Piece {
    int face, is_cut, unused;
    float corners[3][3];
};

// The face before any cut that face `local` of a part is of, and the weights in the order of the face's own corners.
__device__ __forceinline__ int on_face(const Piece* pieces, int local, bool back, float (&w)[3]) {
    if (back) {
        float first = w[0];
        w[0] = w[2];
        w[2] = first;
    }
    if (!pieces) return local;
    const Piece& piece = pieces[local];
    if (piece.is_cut) {
        float of_face[3];
        for (int k = 0; k < 3; k++) {
            of_face[k] = plus(plus(times(w[0], piece.corners[0][k]), times(w[1], piece.corners[1][k])),
                              times(w[2], piece.corners[2][k]));
        }
        for (int k = 0; k < 3; k++) w[k] = of_face[k];
    }
    return piece.face;
}

// Where the sums of an output begin, in numbers, and which of the largest terms is theirs.
struct Output {
    float* to;
    int first, slot;
};

// Room for terms below each of the largest ones.
struct Rooms {
    int of[3];
};

// Writes sums of fixed point to their outputs.
__device__ __forceinline__ void write_sums(const Output* outputs, int output_count, const unsigned long long* sums,
                                           const unsigned* largest, const Rooms& rooms, int count) {
    int i = thread_number();
    if (i >= count) return;
    Output output = outputs[entry_of(outputs, output_count, i)];
    output.to[i - output.first] = from_fixed(sums[i], largest[output.slot], rooms.of[output.slot]);
}
