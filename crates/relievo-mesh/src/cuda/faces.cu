// Light on faces, and normals. A thread for each face, or for each vertex where vertices collect from their faces.

struct Edges {
    float3 a, b;
    float by;  // what they are scaled by
};

__device__ __forceinline__ float longest_of(float3 v) { return fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fabsf(v.z)); }

// Two edges of a face, whose cross product is its normal; scaled if that would overflow.
__device__ __forceinline__ Edges edges_of(const float* vertices, const int* indices, int face) {
    float3 middle = load3(vertices, indices[3 * face + 1]);
    Edges edges = {minus(load3(vertices, indices[3 * face]), middle), minus(load3(vertices, indices[3 * face + 2]), middle),
                   1.0f};
    float longest = fmaxf(longest_of(edges.a), longest_of(edges.b));
    if (longest > 1e12f) edges.by = 1.0f / longest;
    edges.a = times(edges.a, edges.by);
    edges.b = times(edges.b, edges.by);
    return edges;
}

#define LEAST_LENGTH 1e-5f

__device__ __forceinline__ float3 normalise(float3 v) {
    return times(v, 1.0f / fmaxf(sqrtf(dot(v, v)), LEAST_LENGTH));
}
__device__ __forceinline__ float3 normalise_gradient(float3 v, float3 g) {
    float norm = sqrtf(dot(v, v));
    if (norm <= LEAST_LENGTH) return times(g, 1.0f / LEAST_LENGTH);
    float3 n = times(v, 1.0f / norm);
    return times(minus(g, times(n, dot(n, g))), 1.0f / norm);
}

struct Ray {
    float intensity;
    float3 colour, direction;
};

__device__ __forceinline__ Ray load_ray(const float* intensity, const float* colour, const float* direction) {
    if (!intensity) return {};
    return {*intensity, load3(colour, 0), load3(direction, 0)};
}

// The light on one or both sides of the faces: ambient light and that of one direction, which may be null; or, without the
// ambient light, that of another direction to be added.
extern "C" __global__ void light_faces(float* light, const float* vertices, const int* indices, const float* ambient,
                                       const float* ambient_colour, const float* intensity, const float* colour,
                                       const float* direction, float front, int faces, int sides) {
    int face = thread_number();
    if (face >= faces) return;
    Edges edges = edges_of(vertices, indices, face);
    float3 normal = normalise(cross(edges.a, edges.b));
    Ray ray = load_ray(intensity, colour, direction);
    for (int side = 0; side < sides; side++) {
        int i = side * faces + face;
        float3 sum = ambient ? times(load3(ambient_colour, 0), *ambient) : load3(light, i);
        float incidence = fmaxf(dot(times(normal, side ? -front : front), ray.direction), 0.0f);
        if (intensity) sum = plus(sum, times(ray.colour, times(ray.intensity, incidence)));
        store3(light, i, sum);
    }
}

// What light of one direction, which may be null, gives the corners of the faces [faces][3][3], added if others did before;
// and sums over all faces, of each block: those of g, of g max(0, n.l), and the gradient of the direction over the
// intensity.
extern "C" __global__ void light_gradients(float* corners, double* parts, const float* vertices, const int* indices,
                                           const float* intensity, const float* colour, const float* direction,
                                           const float* dy, float front, int faces, int sides, int others) {
    Ray ray = load_ray(intensity, colour, direction);
    double sums[9] = {};
    for (int face = thread_number(); face < faces; face += gridDim.x * blockDim.x) {
        Edges edges = edges_of(vertices, indices, face);
        float3 area = cross(edges.a, edges.b), unit = normalise(area), darea = make_float3(0.0f, 0.0f, 0.0f);
        for (int side = 0; side < sides; side++) {
            float3 g = load3(dy, side * faces + face);
            if (is_zero(g)) continue;
            sums[0] += (double)g.x;
            sums[1] += (double)g.y;
            sums[2] += (double)g.z;
            float sign = side ? -front : front;
            float3 normal = times(unit, sign);
            float incidence = dot(normal, ray.direction);
            if (!(incidence > 0.0f)) continue;
            sums[3] += (double)(g.x * incidence);
            sums[4] += (double)(g.y * incidence);
            sums[5] += (double)(g.z * incidence);
            float along = dot(g, ray.colour);
            sums[6] += (double)(along * normal.x);
            sums[7] += (double)(along * normal.y);
            sums[8] += (double)(along * normal.z);
            float3 dnormal = times(ray.direction, times(along, ray.intensity));
            if (!is_zero(dnormal)) darea = plus(darea, times(normalise_gradient(area, times(dnormal, sign)), edges.by));
        }
        if (!corners) continue;
        float3 d[3] = {};
        if (!is_zero(darea)) {
            d[0] = cross(edges.b, darea);
            d[2] = cross(darea, edges.a);
            d[1] = times(plus(d[0], d[2]), -1.0f);
        }
        for (int k = 0; k < 3; k++) {
            int i = 3 * face + k;
            store3(corners, i, others ? plus(load3(corners, i), d[k]) : d[k]);
        }
    }
    for (int k = 0; k < 9; k++) {
        double sum = block_sum(sums[k]);
        if (threadIdx.x == 0) parts[9ll * blockIdx.x + k] = sum;
    }
}

// The gradients of one light from those sums; those of the ambient light may be null, and so may the others.
extern "C" __global__ void light_finish(float* dambient, float* dambient_colour, float* dintensity, float* dcolour,
                                        float* ddirection, const double* parts, const float* ambient,
                                        const float* ambient_colour, const float* intensity, const float* colour, int blocks) {
    __shared__ double sums[9];
    int k = threadIdx.x;
    if (k < 9) {
        double sum = 0.0;
        for (int block = 0; block < blocks; block++) sum += parts[9 * block + k];
        sums[k] = sum;
    }
    __syncthreads();
    if (k < 3) {
        if (dambient) dambient_colour[k] = (float)(sums[k] * *ambient);
        if (dintensity) {
            dcolour[k] = (float)(sums[3 + k] * *intensity);
            ddirection[k] = (float)(sums[6 + k] * *intensity);
        }
    }
    if (k > 0) return;
    if (dambient) *dambient = (float)(sums[0] * ambient_colour[0] + sums[1] * ambient_colour[1] + sums[2] * ambient_colour[2]);
    if (dintensity) *dintensity = (float)(sums[3] * colour[0] + sums[4] * colour[1] + sums[5] * colour[2]);
}

// What the vertices get from the corners of their faces [faces][3][3].
extern "C" __global__ void gather(float* dvertices, const float* of_corners, const int* starts, const int* corners,
                                  int listed, int count) {
    int v = thread_number();
    bool has_faces = v < count && v < listed;
    float3 sum = sum_of_corners(corners, has_faces ? starts[v] : 0, has_faces ? starts[v + 1] : 0,
                                [&](int corner) { return load3(of_corners, corner); });
    if (v < count) store3(dvertices, v, sum);
}

// Twice the area of a face, as a vector.
__device__ __forceinline__ float3 area_of(const float* vertices, const int* indices, int face, float side) {
    float3 middle = load3(vertices, indices[3 * face + 1]);
    return times(cross(minus(load3(vertices, indices[3 * face]), middle), minus(load3(vertices, indices[3 * face + 2]), middle)),
                 side);
}

// v / |v|, or 0; scaled first, so that no square is lost or overflows.
__device__ __forceinline__ float3 unit(float3 v) {
    float longest = longest_of(v);
    if (!(longest > 0.0f && isfinite(longest))) return make_float3(0.0f, 0.0f, 0.0f);
    v = times(v, 1.0f / longest);
    return times(v, 1.0f / sqrtf(dot(v, v)));
}
__device__ __forceinline__ float3 unit_gradient(float3 v, float3 g) {
    float3 n = unit(v);
    float length = dot(v, n);
    if (!(length > 0.0f && isfinite(length))) return make_float3(0.0f, 0.0f, 0.0f);
    return times(minus(g, times(n, dot(n, g))), 1.0f / length);
}

// Vectors normalised; or their gradient, if there is dy.
extern "C" __global__ void units(float* to, const float* from, const float* dy, int count) {
    int i = thread_number();
    if (i >= count) return;
    float3 v = load3(from, i);
    store3(to, i, dy ? unit_gradient(v, load3(dy, i)) : unit(v));
}

// The normals of faces; or the gradient of their areas, if there is dy.
extern "C" __global__ void face_normals(float* to, const float* vertices, const int* indices, const float* dy, float side,
                                        int faces) {
    int face = thread_number();
    if (face >= faces) return;
    float3 area = area_of(vertices, indices, face, side);
    store3(to, face, dy ? unit_gradient(area, load3(dy, face)) : unit(area));
}

// The normals of vertices; or the gradient of the sums of their faces' areas, if there is dy. A face that is not finite does
// not spoil others.
extern "C" __global__ void vertex_normals(float* to, const float* vertices, const int* indices, const int* starts,
                                          const int* corners, const float* dy, float side, int listed, int count) {
    int v = thread_number();
    bool has_faces = v < count && v < listed;
    float3 sum = sum_of_corners(corners, has_faces ? starts[v] : 0, has_faces ? starts[v + 1] : 0, [&](int corner) {
        float3 area = area_of(vertices, indices, corner / 3, side);
        return is_finite(area) ? area : make_float3(0.0f, 0.0f, 0.0f);
    });
    if (v < count) store3(to, v, dy ? unit_gradient(sum, load3(dy, v)) : unit(sum));
}

// What the corners of faces get [faces][3][3], from the gradients of areas, or of the sums of areas at vertices.
extern "C" __global__ void normal_corners(float* of_corners, const float* vertices, const int* indices, const float* dareas,
                                          float side, int at_vertices, int faces) {
    int face = thread_number();
    if (face >= faces) return;
    float3 d = make_float3(0.0f, 0.0f, 0.0f), of[3] = {};
    if (at_vertices) {
        for (int k = 0; k < 3; k++) d = plus(d, load3(dareas, indices[3 * face + k]));
    } else {
        d = load3(dareas, face);
    }
    if (!is_zero(d) && is_finite(area_of(vertices, indices, face, side))) {
        float3 middle = load3(vertices, indices[3 * face + 1]);
        float3 first = minus(load3(vertices, indices[3 * face]), middle);
        float3 second = minus(load3(vertices, indices[3 * face + 2]), middle);
        d = times(d, side);
        of[0] = cross(second, d);
        of[2] = cross(d, first);
        of[1] = times(plus(of[0], of[2]), -1.0f);
    }
    for (int k = 0; k < 3; k++) store3(of_corners, 3 * face + k, of[k]);
}
