// Vertices of cuts at the near plane. Which faces are cut is decided on the host, and only if some vertex is behind.

extern "C" __global__ void look_behind(int* found, const float* seen, float limit, int count) {
    int i = thread_number();
    if (i < count && seen[3ll * i + 2] < limit) *found = 1;
}

struct Share {
    float s;
    float3 along;
};

__device__ __forceinline__ Share share_of(float3 behind, float3 before, float near) {
    return {minus(near, behind.z) / minus(before.z, behind.z), minus(before, behind)};
}

// The vertices, and behind them those of the cuts.
extern "C" __global__ void append(float* all, const float* seen, const int2* cuts, float near, int vertices, int count) {
    int i = thread_number();
    if (i >= count) return;
    if (i < vertices) {
        store3(all, i, load3(seen, i));
        return;
    }
    int2 ends = cuts[i - vertices];
    float3 behind = load3(seen, ends.x), before = load3(seen, ends.y), along = minus(before, behind);
    // From the end that is closer to the plane: the other may be so far away that nothing is left of a sum.
    float3 close = minus(near, behind.z) < minus(before.z, near) ? behind : before;
    float by = minus(near, close.z) / along.z;
    store3(all, i, make_float3(plus(close.x, times(by, along.x)), plus(close.y, times(by, along.y)), near));
}

// Of a vertex at an end of cuts, its list of ends: end k of cut c is 2 c + k.
struct Touched {
    int vertex, first, end, unused;
};

// Adds what the vertices at the ends of cuts get from these.
extern "C" __global__ void append_gradients(float* dseen, const float* seen, const float* dy, const int2* cuts,
                                            const Touched* touched, const int* list, float near, int vertices, int count) {
    int i = thread_number();
    if (i >= count) return;
    Touched own = touched[i];
    float3 sum = load3(dy, own.vertex);
    for (int at = own.first; at < own.end; at++) {
        int cut = list[at] / 2;
        int2 ends = cuts[cut];
        Share share = share_of(load3(seen, ends.x), load3(seen, ends.y), near);
        float3 g = load3(dy, vertices + cut);
        // The depth of the cut is fixed; the share is moved by both ends.
        float of_share = plus(times(g.x, share.along.x / share.along.z), times(g.y, share.along.y / share.along.z));
        float weight = list[at] % 2 ? share.s : minus(1.0f, share.s);
        sum = plus(sum, make_float3(times(g.x, weight), times(g.y, weight), times(-of_share, weight)));
    }
    store3(dseen, own.vertex, sum);
}

// The first vertices.
extern "C" __global__ void head(float* to, const float* from, int count) {
    int i = thread_number();
    if (i < count) to[i] = from[i];
}
