// A viewpoint as a rigid motion.

// Rotation, rows first, about (0, 0, 1), and translation.
struct Motion {
    float rotation[9];
    float translation[3];
};

// A rotation about an axis: sine and cosine of its angle, and what it does along the axis. Its derivative in the angle is
// of the same form.
struct Turn {
    double sine, cosine, along;
};

__device__ __forceinline__ Turn turn_by(float angle) {
    Turn turn;
    sincos((double)angle, &turn.sine, &turn.cosine);
    turn.along = 1.0;
    return turn;
}

__device__ __forceinline__ Turn derivative(const Turn& turn) { return {turn.cosine, -turn.sine, 0.0}; }

// Rz Ry Rx, rows first.
__device__ __forceinline__ void compose(const Turn& x, const Turn& y, const Turn& z, double (&r)[9]) {
    double xx = y.cosine * x.along, xy = y.sine * x.sine, xz = y.sine * x.cosine;
    double yy = y.along * x.cosine, yz = -y.along * x.sine;
    double zx = -y.sine * x.along, zy = y.cosine * x.sine, zz = y.cosine * x.cosine;
    r[0] = z.cosine * xx;
    r[1] = z.cosine * xy - z.sine * yy;
    r[2] = z.cosine * xz - z.sine * yz;
    r[3] = z.sine * xx;
    r[4] = z.sine * xy + z.cosine * yy;
    r[5] = z.sine * xz + z.cosine * yz;
    r[6] = z.along * zx;
    r[7] = z.along * zy;
    r[8] = z.along * zz;
}

// The motion of a viewpoint's six numbers, for the whole block: all threads must call, once.
__device__ __forceinline__ const Motion& block_motion(const float* view) {
    __shared__ Motion motion;
    __shared__ Turn turns[3];
    if (threadIdx.x < 3) {
        turns[threadIdx.x] = turn_by(view[threadIdx.x]);
        motion.translation[threadIdx.x] = view[3 + threadIdx.x];
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        double rotation[9];
        compose(turns[0], turns[1], turns[2], rotation);
        for (int i = 0; i < 9; i++) motion.rotation[i] = (float)rotation[i];
    }
    __syncthreads();
    return motion;
}

// R v.
__device__ __forceinline__ float3 turn(const Motion& m, float3 v) {
    const float* r = m.rotation;
    return make_float3(dot(make_float3(r[0], r[1], r[2]), v), dot(make_float3(r[3], r[4], r[5]), v),
                       dot(make_float3(r[6], r[7], r[8]), v));
}

// R^T v.
__device__ __forceinline__ float3 turn_back(const Motion& m, float3 v) {
    const float* r = m.rotation;
    return make_float3(dot(make_float3(r[0], r[3], r[6]), v), dot(make_float3(r[1], r[4], r[7]), v),
                       dot(make_float3(r[2], r[5], r[8]), v));
}

// P - c, and P - t - c.
__device__ __forceinline__ float3 from_pivot(float3 point) { return make_float3(point.x, point.y, __fsub_rn(point.z, 1.0f)); }
__device__ __forceinline__ float3 from_moved_pivot(const Motion& m, float3 point) {
    return from_pivot(subtract(point, make_float3(m.translation[0], m.translation[1], m.translation[2])));
}

// R (P - c) + c + t.
__device__ __forceinline__ float3 move(const Motion& m, float3 point) {
    float3 v = turn(m, from_pivot(point));
    return make_float3(__fadd_rn(v.x, m.translation[0]), __fadd_rn(v.y, m.translation[1]),
                       __fadd_rn(__fadd_rn(v.z, 1.0f), m.translation[2]));
}

// R^T (P - t - c) + c.
__device__ __forceinline__ float3 move_back(const Motion& m, float3 point) {
    float3 v = turn_back(m, from_moved_pivot(m, point));
    return make_float3(v.x, v.y, __fadd_rn(v.z, 1.0f));
}

// Sums of the gradient in a motion's twelve numbers: nine of the rotation, three of the translation.
typedef float MotionSums[12];

// Adds a point of `move`, g being the gradient of the moved point.
__device__ __forceinline__ void add(MotionSums& sums, float3 point, float3 g) {
    float3 q = from_pivot(point);
    sums[0] += g.x * q.x;
    sums[1] += g.x * q.y;
    sums[2] += g.x * q.z;
    sums[3] += g.y * q.x;
    sums[4] += g.y * q.y;
    sums[5] += g.y * q.z;
    sums[6] += g.z * q.x;
    sums[7] += g.z * q.y;
    sums[8] += g.z * q.z;
    sums[9] += g.x;
    sums[10] += g.y;
    sums[11] += g.z;
}

// Adds a point of `move_back`, g being the gradient of the moved point and `turned` that of the point.
__device__ __forceinline__ void add_back(MotionSums& sums, const Motion& m, float3 point, float3 g, float3 turned) {
    float3 q = from_moved_pivot(m, point);
    sums[0] += q.x * g.x;
    sums[1] += q.x * g.y;
    sums[2] += q.x * g.z;
    sums[3] += q.y * g.x;
    sums[4] += q.y * g.y;
    sums[5] += q.y * g.z;
    sums[6] += q.z * g.x;
    sums[7] += q.z * g.y;
    sums[8] += q.z * g.z;
    sums[9] -= turned.x;
    sums[10] -= turned.y;
    sums[11] -= turned.z;
}
