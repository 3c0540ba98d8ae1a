// How uneven a surface is, and steps smoothed over it. A thread for each vertex or hinge; vertices collect from lists of their
// neighbours and hinges, and sums are added in a fixed order, all in double precision as on the CPU.

struct Vector {
    double x, y, z;
};
__device__ __forceinline__ Vector point(const float* p, long long i) { return {p[3 * i], p[3 * i + 1], p[3 * i + 2]}; }
__device__ __forceinline__ Vector less(Vector a, Vector b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
__device__ __forceinline__ Vector scaled(Vector a, double by) { return {a.x * by, a.y * by, a.z * by}; }
__device__ __forceinline__ Vector sum_of(Vector a, Vector b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
__device__ __forceinline__ double dot(Vector a, Vector b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
__device__ __forceinline__ Vector cross(Vector a, Vector b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
__device__ __forceinline__ void put(double* to, long long i, Vector v) {
    to[3 * i] = v.x;
    to[3 * i + 1] = v.y;
    to[3 * i + 2] = v.z;
}
__device__ __forceinline__ Vector get(const double* from, long long i) {
    return {from[3 * i], from[3 * i + 1], from[3 * i + 2]};
}

// The sum of what blocks have found. One block of 256 threads.
extern "C" __global__ void finish(float* sum, const double* parts, int blocks) {
    double own = 0.0;
    for (int i = threadIdx.x; i < blocks; i += blockDim.x) own += parts[i];
    own = block_sum(own);
    if (threadIdx.x == 0) *sum = (float)own;
}

// Of each vertex the difference to the mean of its neighbours, zero without any; and the squares of those of each block.
extern "C" __global__ void differences(double* to, double* parts, const float* vertices, const int* starts,
                                       const int* neighbours, int listed, int count) {
    int v = thread_number();
    Vector own = {0.0, 0.0, 0.0};
    if (v < count) {
        int first = v < listed ? starts[v] : 0, end = v < listed ? starts[v + 1] : 0;
        if (first < end) {
            Vector sum = {0.0, 0.0, 0.0};
            for (int i = first; i < end; i++) sum = sum_of(sum, point(vertices, neighbours[i]));
            Vector mean = {sum.x / (end - first), sum.y / (end - first), sum.z / (end - first)};
            own = less(point(vertices, v), mean);
        }
        put(to, v, own);
    }
    double square = block_sum(dot(own, own));
    if (threadIdx.x == 0) parts[blockIdx.x] = square;
}

extern "C" __global__ void laplacian_back(float* gradient, const double* differences, const float* denergy, const int* starts,
                                          const int* neighbours, int listed, int count) {
    int v = thread_number();
    if (v >= count) return;
    double twice = 2.0 * *denergy;
    Vector sum = scaled(get(differences, v), twice);
    for (int i = v < listed ? starts[v] : 0; v < listed && i < starts[v + 1]; i++) {
        int other = neighbours[i];
        sum = less(sum, scaled(get(differences, other), twice / (starts[other + 1] - starts[other])));
    }
    gradient[3ll * v] = (float)sum.x;
    gradient[3ll * v + 1] = (float)sum.y;
    gradient[3ll * v + 2] = (float)sum.z;
}

// A unit normal, the length that it was divided by, and the edges that it is the product of.
struct Side {
    Vector unit, u, v;
    double length;
};

__device__ __forceinline__ Side side_of(Vector u, Vector v) {
    Vector normal = cross(u, v);
    double length = sqrt(dot(normal, normal));
    // A face without area has no normal and no say.
    bool sound = length > 1e-12;
    return {sound ? Vector{normal.x / length, normal.y / length, normal.z / length} : Vector{0.0, 0.0, 0.0}, u, v, length};
}

__device__ __forceinline__ void add_gradients(const Side& side, Vector of_unit, Vector& of_u, Vector& of_v) {
    of_u = of_v = {0.0, 0.0, 0.0};
    if (!(side.length > 1e-12)) return;
    Vector of_normal = scaled(less(of_unit, scaled(side.unit, dot(side.unit, of_unit))), 1.0 / side.length);
    of_u = cross(side.v, of_normal);
    of_v = cross(of_normal, side.u);
}

__device__ __forceinline__ void sides_of(Side& first, Side& second, const float* vertices, const int* hinge) {
    Vector a = point(vertices, hinge[0]), b = point(vertices, hinge[1]), c = point(vertices, hinge[2]);
    Vector d = point(vertices, hinge[3]);
    first = side_of(less(b, a), less(c, a));
    second = side_of(less(d, a), less(b, a));
}

extern "C" __global__ void flatness(double* parts, const float* vertices, const int* hinges, int count) {
    int h = thread_number();
    double own = 0.0;
    if (h < count) {
        Side first, second;
        sides_of(first, second, vertices, hinges + 4ll * h);
        own = 1.0 - dot(first.unit, second.unit);
    }
    double sum = block_sum(own * own);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// What the four vertices of each hinge get.
extern "C" __global__ void flatness_back(double* corners, const float* vertices, const int* hinges, const float* denergy,
                                         int count) {
    int h = thread_number();
    if (h >= count) return;
    Side first, second;
    sides_of(first, second, vertices, hinges + 4ll * h);
    double slope = -2.0 * *denergy * (1.0 - dot(first.unit, second.unit));
    Vector of_b, of_c, of_d, of_b_too;
    add_gradients(first, scaled(second.unit, slope), of_b, of_c);
    add_gradients(second, scaled(first.unit, slope), of_d, of_b_too);
    Vector of_b_all = sum_of(of_b, of_b_too);
    put(corners, 4ll * h, scaled(sum_of(sum_of(of_b_all, of_c), of_d), -1.0));
    put(corners, 4ll * h + 1, of_b_all);
    put(corners, 4ll * h + 2, of_c);
    put(corners, 4ll * h + 3, of_d);
}

// The sum of what a vertex gets from the corners of hinges.
extern "C" __global__ void gather(float* gradient, const double* corners, const int* starts, const int* list, int listed,
                                  int count) {
    int v = thread_number();
    if (v >= count) return;
    Vector sum = {0.0, 0.0, 0.0};
    for (int i = v < listed ? starts[v] : 0; v < listed && i < starts[v + 1]; i++) sum = sum_of(sum, get(corners, list[i]));
    gradient[3ll * v] = (float)sum.x;
    gradient[3ll * v + 1] = (float)sum.y;
    gradient[3ll * v + 2] = (float)sum.z;
}

// Solves (I + stiffness L) x = b by conjugate gradients, L the graph Laplacian; for each coordinate alike. One block of 1,024
// threads, so that nothing has to wait for the host between steps; vertices are handed out in turn. `room` has x, the residual,
// the direction and the product, each [count][3].
extern "C" __global__ void relax(float* result, double* room, const float* b, const int* starts, const int* neighbours,
                                 int listed, int count, float stiffness, float tolerance, int most) {
    double *x = room, *residual = room + 3ll * count, *direction = residual + 3ll * count, *product = direction + 3ll * count;
    double size = 0.0;
    for (int i = threadIdx.x; i < 3 * count; i += blockDim.x) {
        x[i] = 0.0;
        residual[i] = direction[i] = b[i];
        size += (double)b[i] * b[i];
    }
    size = block_sum(size);
    double enough = size * tolerance * tolerance;
    for (int step = 0; step < most && size > enough && size != 0.0; step++) {
        __syncthreads();
        double along = 0.0;
        for (int v = threadIdx.x; v < count; v += blockDim.x) {
            Vector own = get(direction, v), sum = own;
            for (int i = v < listed ? starts[v] : 0; v < listed && i < starts[v + 1]; i++) {
                sum = sum_of(sum, scaled(less(own, get(direction, neighbours[i])), stiffness));
            }
            put(product, v, sum);
            along += dot(own, sum);
        }
        // In a sum over the block all threads wait for each other, so what they wrote before can be read behind it.
        double factor = size / block_sum(along), next = 0.0;
        for (int i = threadIdx.x; i < 3 * count; i += blockDim.x) {
            x[i] += factor * direction[i];
            residual[i] -= factor * product[i];
            next += residual[i] * residual[i];
        }
        next = block_sum(next);
        for (int i = threadIdx.x; i < 3 * count; i += blockDim.x) direction[i] = residual[i] + next / size * direction[i];
        size = next;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 3 * count; i += blockDim.x) result[i] = (float)x[i];
}
