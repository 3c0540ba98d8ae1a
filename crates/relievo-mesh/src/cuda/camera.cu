// From the world onto the screen. A thread for each vertex; sums over all vertices take two launches: blocks sum what
// their threads have, then one block sums those of all, both in a fixed order and in double.

// parts[k] = the sum of x[k] over the block. All threads must call.
template <int N>
__device__ __forceinline__ void block_parts(double* parts, const double (&x)[N]) {
    for (int k = 0; k < N; k++) {
        double sum = block_sum(x[k]);
        if (threadIdx.x == 0) parts[(long long)blockIdx.x * N + k] = sum;
    }
}

// The sum of element k over all blocks.
__device__ __forceinline__ double total_of(const double* parts, int n, int k, int blocks) {
    double sum = 0.0;
    for (int block = 0; block < blocks; block++) sum += parts[(long long)block * n + k];
    return sum;
}

struct Matrix {
    float3 rows[3];
};
__device__ __forceinline__ Matrix load_matrix(const float* p) { return {{load3(p, 0), load3(p, 1), load3(p, 2)}}; }

// R (v - o) or R v + o.
extern "C" __global__ void transform(float* seen, const float* vertices, const float* rotation, const float* offset,
                                     int from_eye, int count) {
    int i = thread_number();
    if (i >= count) return;
    Matrix r = load_matrix(rotation);
    float3 o = load3(offset, 0), v = load3(vertices, i);
    if (from_eye) v = minus(v, o);
    float3 turned = make_float3(dot(r.rows[0], v), dot(r.rows[1], v), dot(r.rows[2], v));
    store3(seen, i, from_eye ? turned : plus(turned, o));
}

// The gradient of the vertices, and sums for those of the rotation (9) and the offset (3); either may be null.
extern "C" __global__ void transform_gradients(float* dvertices, double* parts, const float* vertices,
                                               const float* rotation, const float* offset, const float* dy, int from_eye,
                                               int count) {
    Matrix r = load_matrix(rotation);
    float3 o = load3(offset, 0);
    double sums[12] = {};
    for (int i = thread_number(); i < count; i += gridDim.x * blockDim.x) {
        float3 g = load3(dy, i);
        if (dvertices) {
            store3(dvertices, i,
                   plus(plus(times(r.rows[0], g.x), times(r.rows[1], g.y)), times(r.rows[2], g.z)));
        }
        // A vertex that no visible face has may not be finite.
        if (!parts || is_zero(g)) continue;
        float3 arm = load3(vertices, i);
        if (from_eye) arm = minus(arm, o);
        float of_row[3] = {g.x, g.y, g.z}, of_column[3] = {arm.x, arm.y, arm.z};
        for (int row = 0; row < 3; row++) {
            sums[9 + row] += (double)of_row[row];
            for (int column = 0; column < 3; column++) {
                sums[3 * row + column] += (double)of_row[row] * (double)of_column[column];
            }
        }
    }
    if (parts) block_parts(parts, sums);
}

extern "C" __global__ void transform_finish(float* drotation, float* doffset, const double* parts, const float* rotation,
                                            int from_eye, int blocks) {
    __shared__ double sums[12];
    int k = threadIdx.x;
    if (k < 12) sums[k] = total_of(parts, 12, k, blocks);
    __syncthreads();
    if (k < 9) drotation[k] = (float)sums[k];
    if (k >= 3) return;
    double turned = 0.0;
    for (int row = 0; row < 3; row++) turned += (double)rotation[3 * row + k] * sums[9 + row];
    doffset[k] = (float)(from_eye ? -turned : sums[9 + k]);
}

extern "C" __global__ void perspective(float* screen, const float* seen, float width, float aspect, int count) {
    int i = thread_number();
    if (i >= count) return;
    float3 v = load3(seen, i);
    store3(screen, i, make_float3(v.x / v.z / width / aspect, v.y / v.z / width, v.z));
}

// `parts` gets the derivative by 1 / width.
extern "C" __global__ void perspective_gradients(float* dseen, double* parts, const float* seen, const float* dy,
                                                 float width, float aspect, int count) {
    double sums[1] = {};
    for (int i = thread_number(); i < count; i += gridDim.x * blockDim.x) {
        float3 g = load3(dy, i);
        if (!is_zero(g)) {
            float3 v = load3(seen, i);
            g.x /= aspect;
            float along = plus(times(g.x, v.x), times(g.y, v.y)) / v.z;
            sums[0] += (double)along;
            g = make_float3(g.x / v.z / width, g.y / v.z / width, minus(g.z, along / v.z / width));
        }
        store3(dseen, i, g);
    }
    block_parts(parts, sums);
}

extern "C" __global__ void perspective_finish(float* dangle, const double* parts, float slope, int blocks) {
    if (threadIdx.x == 0) dangle[0] = (float)(total_of(parts, 1, 0, blocks) * slope);
}

// Its own gradient.
extern "C" __global__ void orthographic(float* screen, const float* seen, float aspect, int count) {
    int i = thread_number();
    if (i >= count) return;
    float3 v = load3(seen, i);
    store3(screen, i, make_float3(v.x / aspect, v.y, v.z));
}

// What a lens makes of a point: its place at distance 1, the radial factor and its derivative by r2, and where it goes.
struct Distorted {
    float x, y, r2, radial, slope, to_x, to_y;
};

__device__ __forceinline__ Distorted distort(const float* k, float3 p) {
    float k1 = k[0], k2 = k[1], p1 = k[2], p2 = k[3], k3 = k[4];
    Distorted d;
    d.x = p.x / plus(p.z, 1e-9f);
    d.y = p.y / plus(p.z, 1e-9f);
    float x = d.x, y = d.y;
    float r2 = d.r2 = plus(times(x, x), times(y, y));
    d.radial = plus(plus(plus(1.0f, times(k1, r2)), times(times(k2, r2), r2)), times(times(times(k3, r2), r2), r2));
    d.slope = plus(plus(k1, times(times(2.0f, k2), r2)), times(times(times(3.0f, k3), r2), r2));
    float xx = plus(r2, times(times(2.0f, x), x)), yy = plus(r2, times(times(2.0f, y), y));
    d.to_x = plus(plus(times(x, d.radial), times(times(times(2.0f, p1), x), y)), times(p2, xx));
    d.to_y = plus(plus(times(y, d.radial), times(p1, yy)), times(times(times(2.0f, p2), x), y));
    return d;
}

extern "C" __global__ void project(float* screen, const float* seen, const float* matrix, const float* distortion,
                                   float2 size, int count) {
    int i = thread_number();
    if (i >= count) return;
    float3 v = load3(seen, i), a = load3(matrix, 0), b = load3(matrix, 1);
    Distorted d = distort(distortion, v);
    float u = plus(plus(times(a.x, d.to_x), times(a.y, d.to_y)), a.z);
    float down = plus(plus(times(b.x, d.to_x), times(b.y, d.to_y)), b.z);
    store3(screen, i,
           make_float3(times(2.0f, minus(u, size.x / 2.0f)) / size.x,
                       times(2.0f, minus(minus(size.y, down), size.y / 2.0f)) / size.y, v.z));
}

// `parts` gets sums for the matrix (9) and the distortion (5).
extern "C" __global__ void project_gradients(float* dseen, double* parts, const float* seen, const float* matrix,
                                             const float* distortion, const float* dy, float2 size, int count) {
    float3 a = load3(matrix, 0), b = load3(matrix, 1);
    float p1 = distortion[2], p2 = distortion[3];
    double sums[14] = {};
    for (int i = thread_number(); i < count; i += gridDim.x * blockDim.x) {
        float3 upstream = load3(dy, i);
        if (is_zero(upstream)) {
            store3(dseen, i, upstream);
            continue;
        }
        float3 v = load3(seen, i);
        Distorted d = distort(distortion, v);
        float x = d.x, y = d.y, r2 = d.r2;
        float gu = 2.0f / size.x * upstream.x, gv = -2.0f / size.y * upstream.y;
        float of_row[2] = {gu, gv}, by[3] = {d.to_x, d.to_y, 1.0f};
        for (int k = 0; k < 6; k++) sums[k] += (double)(of_row[k / 3] * by[k % 3]);
        float ga = a.x * gu + b.x * gv, gb = a.y * gu + b.y * gv;
        float along = ga * x + gb * y;
        float xx = r2 + 2.0f * x * x, yy = r2 + 2.0f * y * y, xy = 2.0f * x * y;
        sums[9] += (double)(along * r2);
        sums[10] += (double)(along * r2 * r2);
        sums[11] += (double)(ga * xy + gb * yy);
        sums[12] += (double)(ga * xx + gb * xy);
        sums[13] += (double)(along * r2 * r2 * r2);
        float mixed = xy * d.slope + 2.0f * p1 * x + 2.0f * p2 * y;
        float gx = ga * (d.radial + 2.0f * x * x * d.slope + 2.0f * p1 * y + 6.0f * p2 * x) + gb * mixed;
        float gy = ga * mixed + gb * (d.radial + 2.0f * y * y * d.slope + 6.0f * p1 * y + 2.0f * p2 * x);
        float z = v.z + 1e-9f;
        store3(dseen, i, make_float3(gx / z, gy / z, upstream.z - (gx * x + gy * y) / z));
    }
    block_parts(parts, sums);
}

extern "C" __global__ void project_finish(float* dmatrix, float* ddistortion, const double* parts, int blocks) {
    int k = threadIdx.x;
    if (k < 9) dmatrix[k] = (float)total_of(parts, 14, k, blocks);
    else if (k < 14) ddistortion[k - 9] = (float)total_of(parts, 14, k, blocks);
}
