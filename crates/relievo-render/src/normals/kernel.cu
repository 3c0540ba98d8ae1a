// A thread for each pixel; y of the grid counts pictures. Backward gathers: a pixel's depth is in the tangents of its
// four neighbours, whose gradients the thread works out again, cheaper than to write and read them.

#define EPSILON 1e-7f

__device__ __forceinline__ bool is_inner(int size, int i) { return i > 0 && i + 1 < size; }

// Tangents along the rows (u) and the columns (v) at an inner pixel of one depth map.
__device__ __forceinline__ void tangents(const float* depth, const Camera& camera, int row, int column, float3& u,
                                         float3& v) {
    int at = row * camera.size + column;
    float left = depth[at - 1], right = depth[at + 1], above = depth[at - camera.size], below = depth[at + camera.size];
    float across = right - left, down = below - above;
    u = make_float3(__fsub_rn(__fmul_rn(right, slope(camera, column + 1)), __fmul_rn(left, slope(camera, column - 1))),
                    __fmul_rn(across, slope(camera, row)), across);
    v = make_float3(__fmul_rn(down, slope(camera, column)),
                    __fsub_rn(__fmul_rn(below, slope(camera, row + 1)), __fmul_rn(above, slope(camera, row - 1))), down);
}

extern "C" __global__ void forward(float* normals, const float* depth, Camera camera) {
    int p = thread_number(), pixels = camera.size * camera.size;
    if (p >= pixels) return;
    long long picture = (long long)blockIdx.y * pixels;
    int row = p / camera.size, column = p % camera.size;
    float3 normal = make_float3(0.0f, 0.0f, 1.0f);
    if (is_inner(camera.size, row) && is_inner(camera.size, column)) {
        float3 u, v;
        tangents(depth + picture, camera, row, column, u, v);
        float3 m = cross(u, v);
        normal = scaled(m, 1.0f / (sqrtf(dot(m, m)) + EPSILON));
    }
    store3(normals + 3 * picture, p, normal);
}

// The gradient that the normal at (row, column) sends to the depth one pixel further right (across) or down, whose ray is
// (x, y, 1); the depth one pixel before gets its opposite. 0 where the normal does not depend on the depth.
__device__ __forceinline__ float through_tangent(const float* depth, const float* dy, const Camera& camera, int row,
                                                 int column, bool across, float x, float y) {
    if (!is_inner(camera.size, row) || !is_inner(camera.size, column)) return 0.0f;
    float3 u, v;
    tangents(depth, camera, row, column, u, v);
    float3 m = cross(u, v), g = load3(dy, row * camera.size + column);
    float length = sqrtf(dot(m, m));
    float inverse = 1.0f / (length + EPSILON);
    float along = dot(m, g) / fmaxf(length, 1.17549435e-38f) * inverse;
    float3 dm = scaled(subtract(g, scaled(m, along)), inverse);
    // m = u x v, so du = v x dm and dv = dm x u.
    float3 gradient = across ? cross(v, dm) : cross(dm, u);
    return gradient.x * x + gradient.y * y + gradient.z;
}

extern "C" __global__ void backward(float* ddepth, const float* depth, const float* dy, Camera camera) {
    int p = thread_number(), pixels = camera.size * camera.size;
    if (p >= pixels) return;
    long long picture = (long long)blockIdx.y * pixels;
    depth += picture;
    dy += 3 * picture;
    int row = p / camera.size, column = p % camera.size;
    float x = slope(camera, column), y = slope(camera, row);
    float sum = through_tangent(depth, dy, camera, row, column - 1, true, x, y);
    sum -= through_tangent(depth, dy, camera, row, column + 1, true, x, y);
    sum += through_tangent(depth, dy, camera, row - 1, column, false, x, y);
    sum -= through_tangent(depth, dy, camera, row + 1, column, false, x, y);
    ddepth[picture + p] = sum;
}
