// Blocks of 256 threads have 16384 elements of one tensor each, four elements a thread at a time.

enum { TENSORS = 64, CHUNK = 16384, THREADS = 256 };

// Some of the tensors; lists of up to 64 go with the launch. As in cuda.rs.
struct Group {
    float* parameters[TENSORS];
    void* gradients[TENSORS];
    float* first[TENSORS];
    float* second[TENSORS];
    // Of the parameters, to be written; null for none.
    bf16* copies[TENSORS];
    int lengths[TENSORS];
    // The block that each begins at.
    int starts[TENSORS];
    // Bit i says that gradient i is bf16.
    unsigned long long halves;
    int count, blocks;
};

struct Clip {
    double norm;
};

// The numbers of a step. As in mod.rs.
struct Scalars {
    float weight_decay, one_minus_beta1, beta2, one_minus_beta2, epsilon, minus_step_size, root_of_correction2;
};

// What steps have come to; all zero at first.
struct State {
    double squared_norm;
    // What the gradient is to be multiplied by.
    float scale;
    // 1 if a loss, 2 if a gradient was not finite: then nothing changes any more.
    int stopped;
    // The first part of the gradient that was not finite.
    int culprit;
    // Steps that changed the parameters.
    int taken;
    int unused[2];
};

// A block's part of a tensor: elements first to end of tensor t.
struct Part {
    int t, first, end;
    bool half;
};

__device__ __forceinline__ Part part_of_block(const Group& group) {
    int block = blockIdx.x, low = 0, high = group.count - 1;
    // The last tensor that begins at this block or before. Empty ones begin where the next does.
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (group.starts[middle] <= block) low = middle;
        else high = middle - 1;
    }
    Part part;
    part.t = low;
    part.first = (block - group.starts[low]) * CHUNK;
    part.end = min(part.first + CHUNK, group.lengths[low]);
    part.half = group.halves >> low & 1;
    return part;
}

__device__ __forceinline__ double square(float x) { return (double)x * x; }

template <typename G>
__device__ __forceinline__ double squares(const G* gradient, Part part) {
    double sum = 0.0;
    for (int i = part.first + 4 * threadIdx.x; i < part.end; i += 4 * THREADS) {
        if (i + 4 <= part.end) {
            float4 g = load4(gradient + i);
            sum += (square(g.x) + square(g.y)) + (square(g.z) + square(g.w));
        } else {
            for (int j = i; j < part.end; j++) sum += square(load(gradient + j));
        }
    }
    return sum;
}

// parts[before + b] = the sum of squares of block b.
extern "C" __global__ void sums_of_squares(double* parts, const Group group, int before) {
    Part part = part_of_block(group);
    const void* gradient = group.gradients[part.t];
    double sum = part.half ? squares((const bf16*)gradient, part) : squares((const float*)gradient, part);
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[before + blockIdx.x] = sum;
}

// One block: the sum of the parts, and what follows from it. Loss may be null.
extern "C" __global__ void judge(State* state, const double* parts, int count, const float* loss, Clip clip) {
    if (state->stopped) return;
    double sum = 0.0;
    for (int i = threadIdx.x; i < count; i += THREADS) sum += parts[i];
    sum = block_sum(sum);
    if (threadIdx.x != 0) return;
    state->squared_norm = sum;
    if (loss && !isfinite(*loss)) {
        state->stopped = 1;
    } else if (!isfinite(sum)) {
        int culprit = 0;
        while (culprit + 1 < count && isfinite(parts[culprit])) culprit++;
        state->culprit = culprit;
        state->stopped = 2;
    } else {
        double norm = sqrt(sum);
        state->scale = clip.norm > 0.0 && norm > clip.norm ? (float)(clip.norm / norm) : 1.0f;
        state->taken++;
    }
}

// One element. Every operation is rounded by itself, as on the CPU.
__device__ __forceinline__ void move(const Scalars& s, float scale, float g, float& p, float& m, float& v) {
    g = __fadd_rn(__fmul_rn(scale, g), __fmul_rn(s.weight_decay, p));
    m = __fadd_rn(m, __fmul_rn(s.one_minus_beta1, __fsub_rn(g, m)));
    v = __fadd_rn(__fmul_rn(v, s.beta2), __fmul_rn(__fmul_rn(s.one_minus_beta2, g), g));
    float denominator = __fadd_rn(__fdiv_rn(__fsqrt_rn(v), s.root_of_correction2), s.epsilon);
    p = __fadd_rn(p, __fdiv_rn(__fmul_rn(s.minus_step_size, m), denominator));
}

template <typename G>
__device__ __forceinline__ void update_part(const Group& group, const G* gradient, Part part, const Scalars& s,
                                            float scale) {
    float *p = group.parameters[part.t], *m = group.first[part.t], *v = group.second[part.t];
    bf16* copy = group.copies[part.t];
    for (int i = part.first + 4 * threadIdx.x; i < part.end; i += 4 * THREADS) {
        if (i + 4 <= part.end) {
            float4 g = load4(gradient + i), p4 = load4(p + i), m4 = load4(m + i), v4 = load4(v + i);
            move(s, scale, g.x, p4.x, m4.x, v4.x);
            move(s, scale, g.y, p4.y, m4.y, v4.y);
            move(s, scale, g.z, p4.z, m4.z, v4.z);
            move(s, scale, g.w, p4.w, m4.w, v4.w);
            store4(p + i, p4);
            store4(m + i, m4);
            store4(v + i, v4);
            if (copy) store4(copy + i, p4);
        } else {
            for (int j = i; j < part.end; j++) {
                move(s, scale, load(gradient + j), p[j], m[j], v[j]);
                if (copy) store(copy + j, p[j]);
            }
        }
    }
}

// State is null where the host decides: then the gradient is taken as it is.
extern "C" __global__ void update(const Group group, const Scalars* scalars, const State* state) {
    if (state && state->stopped) return;
    Scalars s = *scalars;
    float scale = state ? state->scale : 1.0f;
    Part part = part_of_block(group);
    const void* gradient = group.gradients[part.t];
    if (part.half) update_part(group, (const bf16*)gradient, part, s, scale);
    else update_part(group, (const float*)gradient, part, s, scale);
}

// The parameters go a share of the way to the gradients, which are f32.
extern "C" __global__ void lerp(const Group group, float share) {
    Part part = part_of_block(group);
    float* x = group.parameters[part.t];
    const float* y = (const float*)group.gradients[part.t];
    for (int i = part.first + threadIdx.x; i < part.end; i += THREADS)
        x[i] = __fadd_rn(x[i], __fmul_rn(share, __fsub_rn(y[i], x[i])));
}

template <typename G>
__device__ __forceinline__ void scale_part(G* x, Part part, float factor) {
    for (int i = part.first + threadIdx.x; i < part.end; i += THREADS) store(x + i, load(x + i) * factor);
}

extern "C" __global__ void scale(const Group group, float factor) {
    Part part = part_of_block(group);
    void* x = group.gradients[part.t];
    if (part.half) scale_part((bf16*)x, part, factor);
    else scale_part((float*)x, part, factor);
}
