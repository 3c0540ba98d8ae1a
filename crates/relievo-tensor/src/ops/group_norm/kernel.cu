// Group normalisation, channels last.
//
// How work is split: a column is four neighbouring channels, or one where four do not divide the channels. A block of 256
// threads has `tile` columns at most (the others go to blocks further along y) and takes as many pixels at a time as they
// leave room for, so that neighbouring threads touch neighbouring memory, and a thread keeps to one column: what belongs to
// its channels stays in registers. `span` pixels of one image make a block.
//
// Few pixels: a block has all pixels of an image and whole groups of its channels, and does everything. `whole` reads x
// and writes y; `whole_gradient` reads x and dy and writes dx, and `finish_gradients` adds up the parameters' gradients. What
// is read for the second time lies in a cache of the block's own.
//
// Many pixels: the host chooses the span so that there are about a thousand blocks. Sums over an image go through memory
// in f64, one pair for each block and channel, and are added in a fixed order by small kernels in between. Forward:
// `moments` reads x, `statistics` reads the pairs, `normalise` reads x and writes y: x is read twice, y written once.
// Backward: `gradient_sums` reads x and dy, `finish_gradients` reads the pairs, `input_gradient` reads x and dy and writes
// dx: x and dy are read twice, dx written once. A second reading finds in the second-level cache what fits there.

// Threads of a block.
enum { BLOCK = 256 };

// As in cuda.rs.
struct Layout {
    int images, pixels, channels, groups;
    int span;   // pixels of a block
    int spans;  // blocks of an image along x
    int tile;   // columns of a block
};

// Stands for all activations that no loop is compiled for.
enum { ANY = -1 };

template <int KIND> __device__ __forceinline__ float value_of(int kind, float x) {
    return activation(KIND == ANY ? kind : KIND, x);
}

// dy/dx at x.
template <int KIND> __device__ __forceinline__ float slope_of(int kind, float x) {
    int which = KIND == ANY ? kind : KIND;
    return activation_slope(which, activation(which, x));
}

template <int V> __device__ __forceinline__ void load_column(const real* p, float (&x)[V]) {
    if constexpr (V == 4) {
        float4 four = load4(p);
        x[0] = four.x, x[1] = four.y, x[2] = four.z, x[3] = four.w;
    } else {
        x[0] = load(p);
    }
}

template <int V> __device__ __forceinline__ void store_column(real* p, const float (&x)[V]) {
    if constexpr (V == 4) {
        store4(p, make_float4(x[0], x[1], x[2], x[3]));
    } else {
        store(p, x[0]);
    }
}

// What a thread works on.
template <int V> struct Place {
    int width, rows;  // columns and pixels a block takes at a time
    int row;          // which of them is this thread's; of no pixel if it is not below `rows`
    int channel;      // the first of the column
    int image;
    int pixel, end;   // pixels from, and before

    __device__ __forceinline__ Place(const Layout& layout) {
        int first = layout.tile * blockIdx.y;
        width = min(layout.channels / V - first, layout.tile);
        rows = BLOCK / width;
        row = threadIdx.x / width;
        channel = (first + threadIdx.x % width) * V;
        image = blockIdx.x / layout.spans;
        int start = blockIdx.x % layout.spans * layout.span;
        pixel = start + row;
        end = row < rows ? min(start + layout.span, layout.pixels) : 0;
    }

    // Of an element of pixel 0, from the start of the tensor.
    __device__ __forceinline__ long long offset(const Layout& layout) const {
        return (long long)image * layout.pixels * layout.channels + channel;
    }
};

// Two sums for each channel of a block: those of channel i of column c are in [2 i][c] and [2 i + 1][c].
typedef double Sums[2 * 4][BLOCK];

// Adds two numbers for each channel over the rows of a block, and writes the sums to pairs[image][span][2][channel] if
// that is not null. They are in `shared` after the next barrier.
template <int V> __device__ __forceinline__ void add_rows(double* pairs, const double (&first)[V], const double (&second)[V],
                                                          const Place<V>& at, const Layout& layout, Sums& shared) {
    for (int i = 0; i < V; i++) {
        shared[2 * i][threadIdx.x] = first[i];
        shared[2 * i + 1][threadIdx.x] = second[i];
    }
    for (int left = at.rows; left > 1;) {
        int half = (left + 1) / 2;
        __syncthreads();
        if (at.row + half < left) {
            for (int i = 0; i < 2 * V; i++) shared[i][threadIdx.x] += shared[i][threadIdx.x + half * at.width];
        }
        left = half;
    }
    if (at.row == 0 && pairs) {
        pairs += (long long)blockIdx.x * 2 * layout.channels + at.channel;
        for (int i = 0; i < V; i++) {
            pairs[i] = shared[2 * i][threadIdx.x];
            pairs[layout.channels + i] = shared[2 * i + 1][threadIdx.x];
        }
    }
}

// The sums of x and of its squares over a block, for each channel, as `add_rows` leaves them. x begins at the column.
template <int V> __device__ __forceinline__ void add_moments(double* pairs, const real* x, const Place<V>& at,
                                                             const Layout& layout, Sums& shared) {
    // Sums of differences to the thread's first value, which lose nothing however far from zero x is.
    float origin[V] = {}, sum[V] = {}, square[V] = {};
    if (at.pixel < at.end) load_column<V>(x + at.pixel * layout.channels, origin);
    int count = 0;
#pragma unroll 4
    for (int pixel = at.pixel; pixel < at.end; pixel += at.rows) {
        float v[V];
        load_column<V>(x + pixel * layout.channels, v);
        for (int i = 0; i < V; i++) {
            float d = v[i] - origin[i];
            sum[i] += d;
            square[i] += d * d;
        }
        count++;
    }
    double sums[V], squares[V];
    for (int i = 0; i < V; i++) {
        double o = origin[i], all = count * o;
        sums[i] = all + sum[i];
        squares[i] = square[i] + o * (2.0 * sum[i] + all);
    }
    add_rows<V>(pairs, sums, squares, at, layout, shared);
}

namespace columns {
template <int V> __device__ __forceinline__ void moments(double* pairs, const real* x, const Layout& layout, Sums& shared) {
    Place<V> at(layout);
    add_moments<V>(pairs, x + at.offset(layout), at, layout, shared);
}
}  // namespace columns

// The sums of x and of its squares, for each block and channel.
extern "C" __global__ void moments(double* pairs, const real* x, Layout layout) {
    __shared__ Sums shared;
    if (layout.channels % 4 == 0) {
        columns::moments<4>(pairs, x, layout, shared);
    } else {
        columns::moments<1>(pairs, x, layout, shared);
    }
}

// The two sums of a group of an image over spans and channels, each channel's times its weight if there are weights; by
// a warp, in every lane.
__device__ __forceinline__ void group_sums(const double* pairs, const float* weight, const Layout& layout, int image,
                                           int group, double& first, double& second) {
    int width = layout.channels / layout.groups;
    first = second = 0.0;
    for (int i = threadIdx.x % 32; i < layout.spans * width; i += 32) {
        int span = i / width, channel = group * width + i % width;
        const double* pair = pairs + ((long long)image * layout.spans + span) * 2 * layout.channels + channel;
        double factor = weight ? weight[channel] : 1.0;
        first += factor * pair[0];
        second += factor * pair[layout.channels];
    }
    first = warp_sum(first);
    second = warp_sum(second);
}

// Mean and 1 / sqrt(variance + eps) of a group, from the sums of its numbers and of their squares.
__device__ __forceinline__ void store_statistics(float* of_group, double sum, double square, float eps,
                                                 const Layout& layout) {
    double count = (double)layout.pixels * (layout.channels / layout.groups);
    double mean = sum / count, variance = fmax(square / count - mean * mean, 0.0);
    // A NaN must not look like a variance of zero.
    if (square != square) variance = square;
    of_group[0] = (float)mean;
    of_group[1] = (float)(1.0 / sqrt(variance + eps));
}

// Those of every group, [image][group][2]. A warp for each.
extern "C" __global__ void statistics(float* statistics, const double* pairs, float eps, Layout layout) {
    int task = thread_number() / 32;
    if (task >= layout.images * layout.groups) return;
    double sum, square;
    group_sums(pairs, nullptr, layout, task / layout.groups, task % layout.groups, sum, square);
    if (threadIdx.x % 32 == 0) store_statistics(statistics + 2 * task, sum, square, eps, layout);
}

// What the channels of a column are normalised by: (x - mean) * scale + bias.
template <int V> struct Line {
    float mean[V], scale[V], bias[V];

    __device__ __forceinline__ Line(const Place<V>& at, const Layout& layout, const float* statistics, const float* weight,
                                    const float* bias_of) {
        for (int i = 0; i < V; i++) {
            int channel = at.channel + i, group = channel / (layout.channels / layout.groups);
            const float* of_group = statistics + 2 * (at.image * layout.groups + group);
            mean[i] = of_group[0];
            scale[i] = of_group[1] * weight[channel];
            bias[i] = bias_of[channel];
        }
    }
};

// y of a thread's pixels. x and y begin at the column.
template <int V, int KIND>
__device__ __forceinline__ void store_normalised(real* __restrict__ y, const real* __restrict__ x, const Line<V>& line,
                                                 int kind, const Place<V>& at, const Layout& layout) {
#pragma unroll 4
    for (int pixel = at.pixel; pixel < at.end; pixel += at.rows) {
        float v[V];
        load_column<V>(x + pixel * layout.channels, v);
        for (int i = 0; i < V; i++) v[i] = value_of<KIND>(kind, (v[i] - line.mean[i]) * line.scale[i] + line.bias[i]);
        store_column<V>(y + pixel * layout.channels, v);
    }
}

namespace columns {
template <int V, int KIND>
__device__ __forceinline__ void normalise(real* y, const real* x, const float* weight, const float* bias,
                                          const float* statistics, int kind, const Layout& layout) {
    Place<V> at(layout);
    if (at.pixel >= at.end) return;
    Line<V> line(at, layout, statistics, weight, bias);
    store_normalised<V, KIND>(y + at.offset(layout), x + at.offset(layout), line, kind, at, layout);
}
}  // namespace columns

extern "C" __global__ void normalise(real* y, const real* x, const float* weight, const float* bias,
                                     const float* statistics, int kind, Layout layout) {
    if (layout.channels % 4 != 0) {
        columns::normalise<1, ANY>(y, x, weight, bias, statistics, kind, layout);
    } else if (kind == RELU) {
        columns::normalise<4, RELU>(y, x, weight, bias, statistics, kind, layout);
    } else if (kind == LEAKY_RELU) {
        columns::normalise<4, LEAKY_RELU>(y, x, weight, bias, statistics, kind, layout);
    } else {
        columns::normalise<4, ANY>(y, x, weight, bias, statistics, kind, layout);
    }
}

// The two sums over the channels of the group that a channel is in, each channel's times its weight if there are weights. The
// block has the whole group.
template <int V> __device__ __forceinline__ void group_sums(const Sums& shared, const float* weight, const Place<V>& at,
                                                            const Layout& layout, int channel, double& first,
                                                            double& second) {
    int width = layout.channels / layout.groups, start = channel / width * width;
    // Channel 0 of the block's sums.
    int origin = at.channel - threadIdx.x % at.width * V;
    first = second = 0.0;
    for (int c = start; c < start + width; c++) {
        int local = c - origin;
        double factor = weight ? weight[c] : 1.0;
        first += factor * shared[2 * (local % V)][local / V];
        second += factor * shared[2 * (local % V) + 1][local / V];
    }
}

namespace columns {
template <int KIND>
__device__ __forceinline__ void whole(real* y, float* statistics, const real* x, const float* weight, const float* bias,
                                      float eps, int kind, const Layout& layout, Sums& shared) {
    Place<4> at(layout);
    add_moments<4>(nullptr, x + at.offset(layout), at, layout, shared);
    __syncthreads();
    int width = layout.channels / layout.groups;
    for (int i = 0; i < 4; i++) {
        int channel = at.channel + i;
        if (at.row != 0 || channel % width != 0) continue;
        double sum, square;
        group_sums<4>(shared, nullptr, at, layout, channel, sum, square);
        store_statistics(statistics + 2 * (at.image * layout.groups + channel / width), sum, square, eps, layout);
    }
    // The block reads the statistics that it wrote.
    __syncthreads();
    Line<4> line(at, layout, statistics, weight, bias);
    store_normalised<4, KIND>(y + at.offset(layout), x + at.offset(layout), line, kind, at, layout);
}
}  // namespace columns

// Everything, where a block has all pixels of whole groups; channels in fours.
extern "C" __global__ void whole(real* y, float* statistics, const real* x, const float* weight, const float* bias,
                                 float eps, int kind, Layout layout) {
    __shared__ Sums shared;
    if (kind == RELU) {
        columns::whole<RELU>(y, statistics, x, weight, bias, eps, kind, layout, shared);
    } else if (kind == LEAKY_RELU) {
        columns::whole<LEAKY_RELU>(y, statistics, x, weight, bias, eps, kind, layout, shared);
    } else {
        columns::whole<ANY>(y, statistics, x, weight, bias, eps, kind, layout, shared);
    }
}

// With g = dy * slope of the activation: the sums of g and of g * (x - mean) over a block, for each channel, as `add_rows`
// leaves them. x and dy begin at the column.
template <int V, int KIND>
__device__ __forceinline__ void add_gradients(double* pairs, const real* x, const real* dy, const Line<V>& line, int kind,
                                              const Place<V>& at, const Layout& layout, Sums& shared) {
    float g_sum[V] = {}, gd_sum[V] = {};
#pragma unroll 4
    for (int pixel = at.pixel; pixel < at.end; pixel += at.rows) {
        float v[V], g[V];
        load_column<V>(x + pixel * layout.channels, v);
        load_column<V>(dy + pixel * layout.channels, g);
        for (int i = 0; i < V; i++) {
            float d = v[i] - line.mean[i];
            float slope = slope_of<KIND>(kind, d * line.scale[i] + line.bias[i]);
            g_sum[i] += g[i] * slope;
            gd_sum[i] += g[i] * slope * d;
        }
    }
    double first[V], second[V];
    for (int i = 0; i < V; i++) first[i] = g_sum[i], second[i] = gd_sum[i];
    add_rows<V>(pairs, first, second, at, layout, shared);
}

namespace columns {
template <int V, int KIND>
__device__ __forceinline__ void gradient_sums(double* pairs, const real* x, const real* dy, const float* weight,
                                              const float* bias, const float* statistics, int kind, const Layout& layout,
                                              Sums& shared) {
    Place<V> at(layout);
    Line<V> line(at, layout, statistics, weight, bias);
    add_gradients<V, KIND>(pairs, x + at.offset(layout), dy + at.offset(layout), line, kind, at, layout, shared);
}
}  // namespace columns

// The sums of g and of g * (x - mean), for each block and channel.
extern "C" __global__ void gradient_sums(double* pairs, const real* x, const real* dy, const float* weight,
                                         const float* bias, const float* statistics, int kind, Layout layout) {
    __shared__ Sums shared;
    if (layout.channels % 4 != 0) {
        columns::gradient_sums<1, ANY>(pairs, x, dy, weight, bias, statistics, kind, layout, shared);
    } else if (kind == RELU) {
        columns::gradient_sums<4, RELU>(pairs, x, dy, weight, bias, statistics, kind, layout, shared);
    } else if (kind == LEAKY_RELU) {
        columns::gradient_sums<4, LEAKY_RELU>(pairs, x, dy, weight, bias, statistics, kind, layout, shared);
    } else {
        columns::gradient_sums<4, ANY>(pairs, x, dy, weight, bias, statistics, kind, layout, shared);
    }
}

// dx = scale * g + slope * (x - mean) + offset: slope and offset of a group, from the weighted sums of g and g * (x - mean).
__device__ __forceinline__ float2 correction(double g, double gd, double deviation, const Layout& layout) {
    double count = (double)layout.pixels * (layout.channels / layout.groups);
    return make_float2((float)(-gd / count * deviation * deviation * deviation), (float)(-g / count * deviation));
}

// From the pairs of `gradient_sums` or `whole_gradient`. The first blocks, if there are corrections to be found, a warp for
// each group of an image: those, [image][group][2], for `input_gradient`. The others, a block for each channel: dweight and
// dbias.
extern "C" __global__ void finish_gradients(float* corrections, float* dweight, float* dbias, const double* pairs,
                                            const float* weight, const float* statistics, Layout layout) {
    __shared__ double of_warps[2][BLOCK / 32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = BLOCK / 32;
    int tasks = layout.images * layout.groups, group_blocks = corrections ? (tasks + warps - 1) / warps : 0;
    if (blockIdx.x < group_blocks) {
        int task = blockIdx.x * warps + warp;
        if (task >= tasks) return;
        double g, gd;
        group_sums(pairs, weight, layout, task / layout.groups, task % layout.groups, g, gd);
        float2 found = correction(g, gd, statistics[2 * task + 1], layout);
        if (lane == 0) {
            corrections[2 * task] = found.x;
            corrections[2 * task + 1] = found.y;
        }
        return;
    }
    int channel = blockIdx.x - group_blocks, group = channel / (layout.channels / layout.groups);
    double g = 0.0, gn = 0.0;
    for (int i = threadIdx.x; i < layout.images * layout.spans; i += BLOCK) {
        const double* pair = pairs + (long long)i * 2 * layout.channels + channel;
        g += pair[0];
        gn += pair[layout.channels] * statistics[2 * (i / layout.spans * layout.groups + group) + 1];
    }
    g = warp_sum(g);
    gn = warp_sum(gn);
    if (lane == 0) of_warps[0][warp] = g, of_warps[1][warp] = gn;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 1; i < warps; i++) g += of_warps[0][i], gn += of_warps[1][i];
        dbias[channel] = (float)g;
        dweight[channel] = (float)gn;
    }
}

// dx of a thread's pixels. The tensors begin at the column.
template <int V, int KIND>
__device__ __forceinline__ void store_gradient(real* __restrict__ dx, const real* __restrict__ x,
                                               const real* __restrict__ dy, const Line<V>& line,
                                               const float2 (&corrections)[V], int kind, const Place<V>& at,
                                               const Layout& layout) {
#pragma unroll 4
    for (int pixel = at.pixel; pixel < at.end; pixel += at.rows) {
        float v[V], g[V];
        load_column<V>(x + pixel * layout.channels, v);
        load_column<V>(dy + pixel * layout.channels, g);
        for (int i = 0; i < V; i++) {
            float d = v[i] - line.mean[i];
            g[i] *= slope_of<KIND>(kind, d * line.scale[i] + line.bias[i]);
            v[i] = line.scale[i] * g[i] + (corrections[i].x * d + corrections[i].y);
        }
        store_column<V>(dx + pixel * layout.channels, v);
    }
}

// Those of the channels of a block.
typedef float2 Corrections[4 * BLOCK];

namespace columns {
template <int V, int KIND>
__device__ __forceinline__ void input_gradient(real* dx, const real* x, const real* dy, const float* weight,
                                               const float* bias, const float* statistics, const float* corrections,
                                               int kind, const Layout& layout) {
    Place<V> at(layout);
    if (at.pixel >= at.end) return;
    Line<V> line(at, layout, statistics, weight, bias);
    float2 of_channels[V];
    for (int i = 0; i < V; i++) {
        int group = (at.channel + i) / (layout.channels / layout.groups);
        const float* of_group = corrections + 2 * (at.image * layout.groups + group);
        of_channels[i] = make_float2(of_group[0], of_group[1]);
    }
    long long first = at.offset(layout);
    store_gradient<V, KIND>(dx + first, x + first, dy + first, line, of_channels, kind, at, layout);
}

template <int KIND>
__device__ __forceinline__ void whole_gradient(real* dx, double* pairs, const real* x, const real* dy, const float* weight,
                                               const float* bias, const float* statistics, int kind, const Layout& layout,
                                               Sums& shared, Corrections& of_channels) {
    Place<4> at(layout);
    Line<4> line(at, layout, statistics, weight, bias);
    long long first = at.offset(layout);
    add_gradients<4, KIND>(pairs, x + first, dy + first, line, kind, at, layout, shared);
    __syncthreads();
    // Each channel's once: where images are small, this is most of the work.
    int width = layout.channels / layout.groups, origin = at.channel - threadIdx.x % at.width * 4;
    for (int c = threadIdx.x; c < 4 * at.width; c += BLOCK) {
        double g, gd;
        group_sums<4>(shared, weight, at, layout, origin + c, g, gd);
        double deviation = statistics[2 * (at.image * layout.groups + (origin + c) / width) + 1];
        of_channels[c] = correction(g, gd, deviation, layout);
    }
    __syncthreads();
    float2 corrections[4];
    for (int i = 0; i < 4; i++) corrections[i] = of_channels[at.channel - origin + i];
    store_gradient<4, KIND>(dx + first, x + first, dy + first, line, corrections, kind, at, layout);
}
}  // namespace columns

// dx and the pairs for `finish_gradients`, where a block has all pixels of whole groups; channels in fours.
extern "C" __global__ void whole_gradient(real* dx, double* pairs, const real* x, const real* dy, const float* weight,
                                          const float* bias, const float* statistics, int kind, Layout layout) {
    __shared__ Sums shared;
    __shared__ Corrections of_channels;
    if (kind == RELU) {
        columns::whole_gradient<RELU>(dx, pairs, x, dy, weight, bias, statistics, kind, layout, shared, of_channels);
    } else if (kind == LEAKY_RELU) {
        columns::whole_gradient<LEAKY_RELU>(dx, pairs, x, dy, weight, bias, statistics, kind, layout, shared, of_channels);
    } else {
        columns::whole_gradient<ANY>(dx, pairs, x, dy, weight, bias, statistics, kind, layout, shared, of_channels);
    }
}

extern "C" __global__ void input_gradient(real* dx, const real* x, const real* dy, const float* weight, const float* bias,
                                          const float* statistics, const float* corrections, int kind, Layout layout) {
    if (layout.channels % 4 != 0) {
        columns::input_gradient<1, ANY>(dx, x, dy, weight, bias, statistics, corrections, kind, layout);
    } else if (kind == RELU) {
        columns::input_gradient<4, RELU>(dx, x, dy, weight, bias, statistics, corrections, kind, layout);
    } else if (kind == LEAKY_RELU) {
        columns::input_gradient<4, LEAKY_RELU>(dx, x, dy, weight, bias, statistics, corrections, kind, layout);
    } else {
        columns::input_gradient<4, ANY>(dx, x, dy, weight, bias, statistics, corrections, kind, layout);
    }
}
