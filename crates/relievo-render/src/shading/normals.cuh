// Normals from central differences of the surface grid. Their gradient gathers: a pixel's depth is in the tangents of its
// four neighbours, whose normals the thread works out again, cheaper than to write and read their gradients.

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

// The normal of a pixel of one depth map.
__device__ __forceinline__ float3 normal_at(const float* depth, const Camera& camera, int row, int column) {
    if (!is_inner(camera.size, row) || !is_inner(camera.size, column)) return make_float3(0.0f, 0.0f, 1.0f);
    float3 u, v;
    tangents(depth, camera, row, column, u, v);
    float3 m = cross(u, v);
    return scaled(m, 1.0f / (sqrtf(dot(m, m)) + camera.normal_epsilon));
}

// The gradient that the normal at (row, column) sends to the depth one pixel further right (across) or down, whose ray is
// (x, y, 1); the depth one pixel before gets its opposite. 0 where the normal does not depend on the depth. `of_normal` gives
// the gradient of a pixel's normal.
template <typename OfNormal>
__device__ __forceinline__ float through_tangent(const float* depth, OfNormal of_normal, const Camera& camera, int row,
                                                 int column, bool across, float x, float y) {
    if (!is_inner(camera.size, row) || !is_inner(camera.size, column)) return 0.0f;
    float3 u, v;
    tangents(depth, camera, row, column, u, v);
    float3 m = cross(u, v);
    float length = sqrtf(dot(m, m));
    float inverse = 1.0f / (length + camera.normal_epsilon);
    float3 g = of_normal(row * camera.size + column, scaled(m, inverse));
    float along = dot(m, g) / fmaxf(length, 1.17549435e-38f) * inverse;
    float3 dm = scaled(subtract(g, scaled(m, along)), inverse);
    // m = u x v, so du = v x dm and dv = dm x u.
    float3 gradient = across ? cross(v, dm) : cross(dm, u);
    return gradient.x * x + gradient.y * y + gradient.z;
}

// The gradient of the depth of pixel p of one map.
template <typename OfNormal>
__device__ __forceinline__ float depth_gradient(const float* depth, OfNormal of_normal, const Camera& camera, int p) {
    int row = p / camera.size, column = p % camera.size;
    float x = slope(camera, column), y = slope(camera, row);
    float sum = through_tangent(depth, of_normal, camera, row, column - 1, true, x, y);
    sum -= through_tangent(depth, of_normal, camera, row, column + 1, true, x, y);
    sum += through_tangent(depth, of_normal, camera, row - 1, column, false, x, y);
    sum -= through_tangent(depth, of_normal, camera, row + 1, column, false, x, y);
    return sum;
}
