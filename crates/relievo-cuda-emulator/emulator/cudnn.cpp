// libcudnn.so: the convolutions of cuDNN's legacy interface.
//
// Two-dimensional convolutions of float or bfloat16 (read as they are, summed in float, rounded to nearest even), in NHWC, NCHW
// or any strides, filters as KRSC or KCRS, one group, cross-correlation. Float is rounded to TF32 first where the math type lets
// tensor cores do so, that is, unless it is CUDNN_FMA_MATH.
//
// All three directions are one matrix product whose left or right side is gathered from an image, tap by tap, as its blocks
// are packed: nothing is unrolled, nothing scattered. For an input gradient of stride s the pixels fall into s*s classes, each
// with taps of its own. Sums are divided by shape alone, so results do not depend on the number of cores.
//
// What a caller may get wrong is checked more strictly than by cuDNN: extents that do not fit, pointers outside allocations
// or not aligned to 16 bytes, a workspace too small. The workspace is filled with NaNs, as are the outputs of the Find functions.
// Algorithms differ in name and workspace only; FFT and Winograd are not supported. Times are invented.
#include "driver.h"
#include "machine.h"
#include "memory.h"
#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

using namespace emulator;

extern "C" int cuCtxGetCurrent(void** context);

namespace {

enum Status : int {
    SUCCESS = 0,
    NOT_INITIALIZED = 1001,
    BAD_PARAM = 2000,
    BAD_NULL_POINTER = 2002,
    BAD_ALIGNMENT = 2003,
    BAD_SIZE = 2006,
    BAD_SHAPE = 2008,
    NOT_SUPPORTED = 3000,
    NOT_SUPPORTED_TYPE = 3003,
    NOT_SUPPORTED_LAYOUT = 3004,
    EXECUTION_FAILED = 5000,
};

enum : int { FLOAT = 0, BFLOAT16 = 9 };
enum : int { NCHW = 0, NHWC = 1 };
enum : int { CROSS_CORRELATION = 1 };
enum : int { DEFAULT_MATH = 0, FMA_MATH = 3 };
enum : int { RELU = 1, IDENTITY = 5 };

struct Handle {
    void* stream = nullptr;
};

struct Tensor {
    int type = -1;
    int n = 0, c = 0, h = 0, w = 0;
    int stride_n = 0, stride_c = 0, stride_h = 0, stride_w = 0;

    size_t count() const { return static_cast<size_t>(n) * c * h * w; }
    size_t item() const { return type == BFLOAT16 ? 2 : 4; }
    size_t bytes() const {
        return (static_cast<size_t>(n - 1) * stride_n + static_cast<size_t>(c - 1) * stride_c + static_cast<size_t>(h - 1) * stride_h +
                static_cast<size_t>(w - 1) * stride_w + 1) * item();
    }
    size_t at(int in, int ic, int ih, int iw) const {
        return static_cast<size_t>(in) * stride_n + static_cast<size_t>(ic) * stride_c + static_cast<size_t>(ih) * stride_h +
               static_cast<size_t>(iw) * stride_w;
    }
};

struct Filter {
    int type = -1, format = 0;
    int k = 0, c = 0, h = 0, w = 0;

    // A filter is a tensor with k for n.
    Tensor tensor() const {
        Tensor t;
        t.type = type;
        t.n = k, t.c = c, t.h = h, t.w = w;
        t.stride_n = c * h * w;
        if (format == NHWC) t.stride_c = 1, t.stride_w = c, t.stride_h = w * c;
        else t.stride_w = 1, t.stride_h = w, t.stride_c = h * w;
        return t;
    }
};

struct Convolution {
    int pad_h = 0, pad_w = 0, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
    int mode = -1, compute = -1, math = DEFAULT_MATH, groups = 1;
};

struct Activation {
    int mode = -1;
    double coefficient = 0;
};

thread_local char last_error[512] = "";

int refuse(int status, const char* format, ...) __attribute__((format(printf, 2, 3)));
int refuse(int status, const char* format, ...) {
    va_list list;
    va_start(list, format);
    std::vsnprintf(last_error, sizeof last_error, format, list);
    va_end(list);
    complain("cuDNN: %s", last_error);
    return status;
}

// ---- Numbers ----

float from_bfloat16(uint16_t bits) {
    uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, 4);
    return value;
}

uint16_t to_bfloat16(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>(bits >> 16 | 0x40);  // a NaN stays one
    return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// To the 10 bits of mantissa that tensor cores take; ties go away from zero.
float to_tf32(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if ((bits & 0x7F800000) != 0x7F800000) bits = (bits + 0x1000) & ~0x1FFFu;
    std::memcpy(&value, &bits, 4);
    return value;
}

float load(const Tensor& t, const void* data, size_t index) {
    return t.type == BFLOAT16 ? from_bfloat16(static_cast<const uint16_t*>(data)[index]) : static_cast<const float*>(data)[index];
}

void store(const Tensor& t, void* data, size_t index, float value) {
    if (t.type == BFLOAT16) static_cast<uint16_t*>(data)[index] = to_bfloat16(value);
    else static_cast<float*>(data)[index] = value;
}

// alpha * value + beta * what is there, where 0 * anything there is 0.
void blend(const Tensor& t, void* data, size_t index, float value, float alpha, float beta) {
    value *= alpha;
    if (beta != 0) value += beta * load(t, data, index);
    store(t, data, index, value);
}

// A tensor as floats, channels last.
std::vector<float> unpack(const Tensor& t, const void* data, bool tf32) {
    std::vector<float> out(t.count());
    parallel_for(static_cast<size_t>(t.n) * t.h, [&](size_t row) {
        int n = static_cast<int>(row / t.h), h = static_cast<int>(row % t.h);
        float* to = out.data() + row * t.w * t.c;
        for (int w = 0; w < t.w; w++) {
            for (int c = 0; c < t.c; c++) {
                float value = load(t, data, t.at(n, c, h, w));
                *to++ = tf32 ? to_tf32(value) : value;
            }
        }
    });
    return out;
}

// ---- The matrix product ----
//
// C = A B in tiles of MC rows and NC columns, each the business of one core from beginning to end; the sum over K goes in blocks
// of KC. `pack_a(i, k, count, to, step)` writes A[i][k..k+count] to to[0], to[step], ..; `pack_b(k, j, count, to)` writes B[k][j..].
// `emit(i, j, count, values)` takes a finished part of a row.

constexpr size_t MR = 6, NR = 16, MC = 192, NC = 256, KC = 256;
typedef float Vector __attribute__((vector_size(32), aligned(4)));

void micro_kernel(const float* a, const float* b, size_t depth, float* c) {
    Vector sum[MR][2] = {};
    for (size_t k = 0; k < depth; k++, a += MR, b += NR) {
        Vector b0 = *reinterpret_cast<const Vector*>(b), b1 = *reinterpret_cast<const Vector*>(b + 8);
#pragma GCC unroll 6
        for (size_t r = 0; r < MR; r++) {
            Vector x = a[r] - Vector{};
            sum[r][0] += x * b0;
            sum[r][1] += x * b1;
        }
    }
    for (size_t r = 0; r < MR; r++) {
        *reinterpret_cast<Vector*>(c + r * NC) += sum[r][0];
        *reinterpret_cast<Vector*>(c + r * NC + 8) += sum[r][1];
    }
}

template <class PackA, class PackB, class Emit>
void multiply(size_t rows, size_t columns, size_t depth, PackA pack_a, PackB pack_b, Emit emit) {
    size_t row_tiles = (rows + MC - 1) / MC, column_tiles = (columns + NC - 1) / NC;
    parallel_for(row_tiles * column_tiles, [&](size_t tile) {
        static thread_local std::vector<float> buffer(MC * KC + KC * NC + MC * NC);
        float *a = buffer.data(), *b = a + MC * KC, *c = b + KC * NC;
        size_t i0 = tile / column_tiles * MC, j0 = tile % column_tiles * NC;
        size_t m = std::min(MC, rows - i0), n = std::min(NC, columns - j0);
        std::fill_n(c, MC * NC, 0.0f);
        for (size_t k0 = 0; k0 < depth; k0 += KC) {
            size_t d = std::min(KC, depth - k0);
            for (size_t i = 0; i < (m + MR - 1) / MR * MR; i++) {
                float* to = a + i / MR * MR * d + i % MR;
                if (i < m) pack_a(i0 + i, k0, d, to, MR);
                else
                    for (size_t k = 0; k < d; k++) to[k * MR] = 0;
            }
            for (size_t k = 0; k < d; k++) {
                float line[NC + NR] = {};
                pack_b(k0 + k, j0, n, line);
                for (size_t j = 0; j < n; j += NR) std::memcpy(b + j * d + k * NR, line + j, NR * sizeof(float));
            }
            for (size_t j = 0; j < n; j += NR)
                for (size_t i = 0; i < m; i += MR) micro_kernel(a + i * d, b + j * d, d, c + i * NC + j);
        }
        for (size_t i = 0; i < m; i++) emit(i0 + i, j0, n, c + i * NC);
    });
}

// Columns of a gathered matrix are (tap, channel); `at(row, tap)` is where a tap's channels are, or null for zeros.
// Copies columns [first, first + count) of a row to to[0], to[step], ..
template <class At>
void gather(At at, size_t row, size_t channels, size_t first, size_t count, float* to, size_t step) {
    while (count > 0) {
        size_t tap = first / channels, c = first % channels, part = std::min(count, channels - c);
        const float* from = at(row, tap);
        if (!from) for (size_t i = 0; i < part; i++) to[i * step] = 0;
        else if (step == 1) std::memcpy(to, from + c, part * sizeof(float));
        else for (size_t i = 0; i < part; i++) to[i * step] = from[c + i];
        first += part, count -= part, to += part * step;
    }
}

// ---- The convolutions ----

struct Problem {
    Tensor x, w, y;
    Convolution conv;
    bool tf32() const { return x.type == FLOAT && conv.math != FMA_MATH; }
};

// Where the input of output pixel `row` is under `tap`.
struct Under {
    const Problem& p;
    const float* x;
    const float* operator()(size_t row, size_t tap) const {
        size_t area = static_cast<size_t>(p.y.h) * p.y.w;
        size_t n = row / area;
        int oh = static_cast<int>(row % area / p.y.w), ow = static_cast<int>(row % p.y.w);
        int r = static_cast<int>(tap) / p.w.w, s = static_cast<int>(tap) % p.w.w;
        int h = oh * p.conv.stride_h - p.conv.pad_h + r * p.conv.dilation_h;
        int w = ow * p.conv.stride_w - p.conv.pad_w + s * p.conv.dilation_w;
        if (h < 0 || h >= p.x.h || w < 0 || w >= p.x.w) return nullptr;
        return x + ((n * p.x.h + h) * p.x.w + w) * p.x.c;
    }
};

template <class Emit>
void forward(const Problem& p, const void* x_data, const void* w_data, Emit emit) {
    std::vector<float> x = unpack(p.x, x_data, p.tf32()), w = unpack(p.w, w_data, p.tf32());
    size_t taps = static_cast<size_t>(p.w.h) * p.w.w, channels = static_cast<size_t>(p.x.c), depth = taps * channels;
    size_t area = static_cast<size_t>(p.y.h) * p.y.w, outputs = static_cast<size_t>(p.y.c);
    // B needs the filters' columns: turned once.
    std::vector<float> turned(depth * outputs);
    parallel_for(depth, [&](size_t k) {
        for (size_t o = 0; o < outputs; o++) turned[k * outputs + o] = w[o * depth + k];
    });
    Under under{p, x.data()};
    multiply(
        p.y.n * area, outputs, depth,
        [&](size_t i, size_t k, size_t count, float* to, size_t step) { gather(under, i, channels, k, count, to, step); },
        [&](size_t k, size_t j, size_t count, float* to) { std::memcpy(to, &turned[k * outputs + j], count * sizeof(float)); },
        [&](size_t i, size_t j, size_t count, const float* values) {
            int n = static_cast<int>(i / area), h = static_cast<int>(i % area / p.y.w), v = static_cast<int>(i % p.y.w);
            for (size_t o = 0; o < count; o++) emit(n, static_cast<int>(j + o), h, v, values[o]);
        });
}

void backward_data(const Problem& p, const void* w_data, const void* dy_data, void* dx, float alpha, float beta) {
    std::vector<float> w = unpack(p.w, w_data, p.tf32()), dy = unpack(p.y, dy_data, p.tf32());
    const Convolution& c = p.conv;
    size_t inputs = static_cast<size_t>(p.x.c), outputs = static_cast<size_t>(p.y.c);
    size_t filter = static_cast<size_t>(p.w.h) * p.w.w * inputs;
    // Pixels whose padded coordinates leave the same rest modulo the stride see the same taps.
    for (int rest_h = 0; rest_h < c.stride_h; rest_h++) {
        for (int rest_w = 0; rest_w < c.stride_w; rest_w++) {
            std::vector<std::pair<int, int>> taps;
            for (int r = 0; r < p.w.h; r++)
                for (int s = 0; s < p.w.w; s++)
                    if (r * c.dilation_h % c.stride_h == rest_h && s * c.dilation_w % c.stride_w == rest_w) taps.push_back({r, s});
            auto members = [](int extent, int pad, int stride, int rest) {
                std::vector<int> all;
                for (int i = 0; i < extent; i++)
                    if ((i + pad) % stride == rest) all.push_back(i);
                return all;
            };
            std::vector<int> hs = members(p.x.h, c.pad_h, c.stride_h, rest_h), ws = members(p.x.w, c.pad_w, c.stride_w, rest_w);
            size_t area = hs.size() * ws.size();
            if (!area) continue;
            auto over = [&](size_t row, size_t tap) -> const float* {
                size_t n = row / area;
                int h = hs[row % area / ws.size()] + c.pad_h - taps[tap].first * c.dilation_h;
                int v = ws[row % ws.size()] + c.pad_w - taps[tap].second * c.dilation_w;
                if (h < 0 || v < 0) return nullptr;
                h /= c.stride_h, v /= c.stride_w;
                if (h >= p.y.h || v >= p.y.w) return nullptr;
                return dy.data() + ((n * p.y.h + h) * p.y.w + v) * outputs;
            };
            multiply(
                p.x.n * area, inputs, taps.size() * outputs,
                [&](size_t i, size_t k, size_t count, float* to, size_t step) { gather(over, i, outputs, k, count, to, step); },
                [&](size_t k, size_t j, size_t count, float* to) {
                    auto [r, s] = taps[k / outputs];
                    std::memcpy(to, &w[k % outputs * filter + (static_cast<size_t>(r) * p.w.w + s) * inputs + j], count * sizeof(float));
                },
                [&](size_t i, size_t j, size_t count, const float* values) {
                    int n = static_cast<int>(i / area), h = hs[i % area / ws.size()], v = ws[i % ws.size()];
                    for (size_t o = 0; o < count; o++)
                        blend(p.x, dx, p.x.at(n, static_cast<int>(j + o), h, v), values[o], alpha, beta);
                });
        }
    }
}

void backward_filter(const Problem& p, const void* x_data, const void* dy_data, void* dw, float alpha, float beta) {
    std::vector<float> x = unpack(p.x, x_data, p.tf32()), dy = unpack(p.y, dy_data, p.tf32());
    size_t inputs = static_cast<size_t>(p.x.c), outputs = static_cast<size_t>(p.y.c);
    Under under{p, x.data()};
    multiply(
        outputs, static_cast<size_t>(p.w.h) * p.w.w * inputs, static_cast<size_t>(p.y.n) * p.y.h * p.y.w,
        [&](size_t i, size_t k, size_t count, float* to, size_t step) {
            for (size_t q = 0; q < count; q++) to[q * step] = dy[(k + q) * outputs + i];
        },
        [&](size_t k, size_t j, size_t count, float* to) { gather(under, k, inputs, j, count, to, 1); },
        [&](size_t i, size_t j, size_t count, const float* values) {
            for (size_t q = 0; q < count; q++) {
                int tap = static_cast<int>((j + q) / inputs), c = static_cast<int>((j + q) % inputs);
                blend(p.w, dw, p.w.at(static_cast<int>(i), c, tap / p.w.w, tap % p.w.w), values[q], alpha, beta);
            }
        });
}

// ---- Checks ----

int output_extent(int in, int pad, int kernel, int dilation, int stride) { return (in + 2 * pad - ((kernel - 1) * dilation + 1)) / stride + 1; }

int check(const Tensor* x, const Filter* w, const Convolution* conv, const Tensor* y, Problem& problem) {
    if (!x || !w || !conv || !y) return refuse(BAD_NULL_POINTER, "a null descriptor");
    problem = Problem{*x, w->tensor(), *y, *conv};
    const Problem& p = problem;
    if (x->n <= 0 || w->k <= 0 || y->n <= 0 || conv->mode < 0) return refuse(BAD_PARAM, "a descriptor that was not set");
    if (conv->mode != CROSS_CORRELATION) return refuse(NOT_SUPPORTED, "only cross-correlation is emulated");
    if (conv->groups != 1) return refuse(NOT_SUPPORTED, "only one group is emulated");
    if (conv->compute != FLOAT) return refuse(NOT_SUPPORTED_TYPE, "only float sums are emulated");
    if (x->type != w->type || x->type != y->type) return refuse(BAD_PARAM, "types differ: x %d, w %d, y %d", x->type, w->type, y->type);
    if (w->c != x->c) return refuse(BAD_SHAPE, "the filter has %d input channels, x has %d", w->c, x->c);
    int h = output_extent(x->h, conv->pad_h, w->h, conv->dilation_h, conv->stride_h);
    int v = output_extent(x->w, conv->pad_w, w->w, conv->dilation_w, conv->stride_w);
    if (y->n != x->n || y->c != w->k || y->h != h || y->w != v)
        return refuse(BAD_SHAPE, "y is [n %d, c %d, h %d, w %d], must be [n %d, c %d, h %d, w %d]", y->n, y->c, y->h, y->w, x->n, w->k, h, v);
    bool last = w->format == NHWC;
    if ((p.x.c > 1 && (p.x.stride_c == 1) != last && p.x.h * p.x.w > 1) || (p.y.c > 1 && (p.y.stride_c == 1) != last && p.y.h * p.y.w > 1))
        return refuse(NOT_SUPPORTED_LAYOUT, "channels are last in some of x, w and y and not in others");
    return SUCCESS;
}

int check_pointer(const char* name, const void* data, size_t bytes) {
    if (!data) return refuse(BAD_NULL_POINTER, "%s is null", name);
    if (reinterpret_cast<uintptr_t>(data) % 16) return refuse(BAD_ALIGNMENT, "%s is not aligned to 16 bytes", name);
    if (is_accessible(data, bytes, true)) return SUCCESS;
    void* start;
    size_t size;
    if (find_allocation(data, &start, &size))
        return refuse(EXECUTION_FAILED, "%s needs %zu bytes from byte %td of an allocation of %zu", name, bytes,
                      static_cast<const char*>(data) - static_cast<char*>(start), size);
    return refuse(EXECUTION_FAILED, "%s is %p, in no device allocation", name, data);
}

// ---- Algorithms and workspaces ----

enum Direction { FORWARD, DATA, FILTER };

struct Algorithm {
    int number;
    bool deterministic;
    bool workspace;
};
// The best first.
const std::vector<Algorithm>& algorithms(Direction direction) {
    static const std::vector<Algorithm> all[] = {
        {{1, true, true}, {0, true, false}},
        {{1, true, true}, {0, false, false}},
        {{1, true, true}, {3, false, true}, {0, false, false}},
    };
    return all[direction];
}

size_t workspace_of(const Problem& p, bool wanted) { return wanted ? (p.y.count() + p.w.count() + 4096 + 255) / 256 * 256 : 0; }

int workspace_size(Direction direction, const Problem& p, int algorithm, size_t* bytes) {
    for (const Algorithm& a : algorithms(direction))
        if (a.number == algorithm) return *bytes = workspace_of(p, a.workspace), SUCCESS;
    *bytes = 0;
    return refuse(NOT_SUPPORTED, "algorithm %d is not emulated", algorithm);
}

int check_workspace(Direction direction, const Problem& p, int algorithm, void* workspace, size_t bytes, size_t& needed) {
    if (int status = workspace_size(direction, p, algorithm, &needed)) return status;
    if (bytes < needed) return refuse(BAD_SIZE, "algorithm %d needs a workspace of %zu bytes, not %zu", algorithm, needed, bytes);
    return needed ? check_pointer("the workspace", workspace, bytes) : SUCCESS;
}

// cudnnConvolution{Fwd,BwdData,BwdFilter}AlgoPerf_t
struct Performance {
    int algorithm, status;
    float time;
    size_t memory;
    int determinism, math, reserved[3];
};

int rank(Direction direction, const Problem& p, int wanted, int* given, Performance* results) {
    if (wanted < 1 || !given || !results) return refuse(BAD_PARAM, "no room for algorithms");
    int count = 0;
    for (const Algorithm& a : algorithms(direction)) {
        if (count == wanted) break;
        results[count] = Performance{a.number, SUCCESS, 0.01f * static_cast<float>(count + 1), workspace_of(p, a.workspace), a.deterministic, p.conv.math, {}};
        count++;
    }
    // One that cannot do it, as the real list has them.
    if (count < wanted) results[count++] = Performance{2, NOT_SUPPORTED, -1.0f, 0, 0, p.conv.math, {}};
    *given = count;
    return SUCCESS;
}

int queue(Handle* handle, const char* name, void* workspace, size_t needed, std::function<void()> work) {
    int error = submit(handle->stream, name, [=] {
        if (needed) std::memset(workspace, 0xFF, needed);
        work();
        return std::string();
    });
    return error ? refuse(EXECUTION_FAILED, "%s: CUDA error %d", name, error) : SUCCESS;
}

// The Find functions run their candidates on the caller's output.
int find(Handle* handle, Direction direction, const Problem& p, int wanted, int* given, Performance* results, void* output, size_t bytes,
         void* workspace, size_t workspace_bytes) {
    if (is_capturing(handle->stream)) return refuse(EXECUTION_FAILED, "algorithms cannot be searched for during a capture");
    if (int status = check_pointer("the output", output, bytes)) return status;
    if (workspace_bytes)
        if (int status = check_pointer("the workspace", workspace, workspace_bytes)) return status;
    if (int status = rank(direction, p, wanted, given, results)) return status;
    for (int i = 0; i < *given; i++)
        if (results[i].status == SUCCESS && results[i].memory > workspace_bytes) results[i].status = BAD_SIZE, results[i].time = -1.0f;
    std::stable_partition(results, results + *given, [](const Performance& r) { return r.status == SUCCESS; });
    if (finish()) return EXECUTION_FAILED;
    std::memset(output, 0xFF, bytes);
    return SUCCESS;
}

float scalar(const void* pointer) {
    float value;
    std::memcpy(&value, pointer, sizeof value);
    return value;
}

}  // namespace

// ---- The interface ----

#define API extern "C" __attribute__((visibility("default"))) int
#define TRY(expression) \
    if (int status = (expression)) return status
#define HANDLE \
    Hold hold; \
    if (!handle) return refuse(BAD_NULL_POINTER, "a null handle")

extern "C" __attribute__((visibility("default"))) size_t cudnnGetVersion() { return 91000; }
extern "C" __attribute__((visibility("default"))) size_t cudnnGetCudartVersion() { return 12090; }
extern "C" __attribute__((visibility("default"))) void cudnnGetLastErrorString(char* text, size_t size) {
    if (size) std::snprintf(text, size, "%s", last_error);
}
extern "C" __attribute__((visibility("default"))) const char* cudnnGetErrorString(int status) {
    switch (status) {
        case SUCCESS: return "CUDNN_STATUS_SUCCESS";
        case NOT_INITIALIZED: return "CUDNN_STATUS_NOT_INITIALIZED";
        case BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
        case BAD_NULL_POINTER: return "CUDNN_STATUS_BAD_PARAM_NULL_POINTER";
        case BAD_ALIGNMENT: return "CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER";
        case BAD_SIZE: return "CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT";
        case BAD_SHAPE: return "CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH";
        case NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
        case NOT_SUPPORTED_TYPE: return "CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE";
        case NOT_SUPPORTED_LAYOUT: return "CUDNN_STATUS_NOT_SUPPORTED_LAYOUT";
        case EXECUTION_FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
        default: return "CUDNN_UNKNOWN_STATUS";
    }
}
API cudnnGetProperty(int which, int* value) { return *value = which == 0 ? 9 : which == 1 ? 10 : 0, SUCCESS; }
API cudnnAdvVersionCheck() { return SUCCESS; }
API cudnnCnnVersionCheck() { return SUCCESS; }
API cudnnOpsVersionCheck() { return SUCCESS; }
API cudnnGraphVersionCheck() { return SUCCESS; }

API cudnnCreate(Handle** handle) {
    void* context = nullptr;
    if (cuCtxGetCurrent(&context) != 0 || !context) return refuse(NOT_INITIALIZED, "no CUDA context is current on this thread");
    *handle = new Handle;
    return SUCCESS;
}
API cudnnDestroy(Handle* handle) { return delete handle, SUCCESS; }
API cudnnSetStream(Handle* handle, void* stream) {
    HANDLE;
    handle->stream = stream;
    return SUCCESS;
}
API cudnnGetStream(Handle* handle, void** stream) {
    HANDLE;
    *stream = handle->stream;
    return SUCCESS;
}

// Descriptors

API cudnnCreateTensorDescriptor(Tensor** tensor) { return *tensor = new Tensor, SUCCESS; }
API cudnnDestroyTensorDescriptor(Tensor* tensor) { return delete tensor, SUCCESS; }
API cudnnCreateFilterDescriptor(Filter** filter) { return *filter = new Filter, SUCCESS; }
API cudnnDestroyFilterDescriptor(Filter* filter) { return delete filter, SUCCESS; }
API cudnnCreateConvolutionDescriptor(Convolution** conv) { return *conv = new Convolution, SUCCESS; }
API cudnnDestroyConvolutionDescriptor(Convolution* conv) { return delete conv, SUCCESS; }
API cudnnCreateActivationDescriptor(Activation** activation) { return *activation = new Activation, SUCCESS; }
API cudnnDestroyActivationDescriptor(Activation* activation) { return delete activation, SUCCESS; }

API cudnnSetTensor4dDescriptorEx(Tensor* t, int type, int n, int c, int h, int w, int sn, int sc, int sh, int sw) {
    if (!t) return BAD_NULL_POINTER;
    if (type != FLOAT && type != BFLOAT16) return refuse(NOT_SUPPORTED_TYPE, "tensors of type %d are not emulated", type);
    if (n < 1 || c < 1 || h < 1 || w < 1) return refuse(BAD_PARAM, "a tensor of extents %d, %d, %d, %d", n, c, h, w);
    *t = Tensor{type, n, c, h, w, sn, sc, sh, sw};
    return SUCCESS;
}
API cudnnSetTensor4dDescriptor(Tensor* t, int format, int type, int n, int c, int h, int w) {
    if (format == NHWC) return cudnnSetTensor4dDescriptorEx(t, type, n, c, h, w, h * w * c, 1, w * c, c);
    if (format == NCHW) return cudnnSetTensor4dDescriptorEx(t, type, n, c, h, w, c * h * w, h * w, w, 1);
    return refuse(NOT_SUPPORTED_LAYOUT, "tensor format %d is not emulated", format);
}
API cudnnSetTensorNdDescriptor(Tensor* t, int type, int rank, const int* d, const int* s) {
    if (rank != 4) return refuse(NOT_SUPPORTED, "only tensors of 4 dimensions are emulated");
    return cudnnSetTensor4dDescriptorEx(t, type, d[0], d[1], d[2], d[3], s[0], s[1], s[2], s[3]);
}
API cudnnSetTensorNdDescriptorEx(Tensor* t, int format, int type, int rank, const int* d) {
    if (rank != 4) return refuse(NOT_SUPPORTED, "only tensors of 4 dimensions are emulated");
    return cudnnSetTensor4dDescriptor(t, format, type, d[0], d[1], d[2], d[3]);
}
API cudnnGetTensor4dDescriptor(const Tensor* t, int* type, int* n, int* c, int* h, int* w, int* sn, int* sc, int* sh, int* sw) {
    if (!t) return BAD_NULL_POINTER;
    *type = t->type, *n = t->n, *c = t->c, *h = t->h, *w = t->w;
    *sn = t->stride_n, *sc = t->stride_c, *sh = t->stride_h, *sw = t->stride_w;
    return SUCCESS;
}
API cudnnGetTensorSizeInBytes(const Tensor* t, size_t* bytes) { return *bytes = t->bytes(), SUCCESS; }

API cudnnSetFilter4dDescriptor(Filter* f, int type, int format, int k, int c, int h, int w) {
    if (!f) return BAD_NULL_POINTER;
    if (type != FLOAT && type != BFLOAT16) return refuse(NOT_SUPPORTED_TYPE, "filters of type %d are not emulated", type);
    if (format != NCHW && format != NHWC) return refuse(NOT_SUPPORTED_LAYOUT, "filter format %d is not emulated", format);
    if (k < 1 || c < 1 || h < 1 || w < 1) return refuse(BAD_PARAM, "a filter of extents %d, %d, %d, %d", k, c, h, w);
    *f = Filter{type, format, k, c, h, w};
    return SUCCESS;
}
API cudnnSetFilterNdDescriptor(Filter* f, int type, int format, int rank, const int* d) {
    if (rank != 4) return refuse(NOT_SUPPORTED, "only filters of 4 dimensions are emulated");
    return cudnnSetFilter4dDescriptor(f, type, format, d[0], d[1], d[2], d[3]);
}
API cudnnGetFilterSizeInBytes(const Filter* f, size_t* bytes) { return *bytes = f->tensor().bytes(), SUCCESS; }

API cudnnSetConvolution2dDescriptor(Convolution* conv, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h, int dilation_w, int mode, int compute) {
    if (!conv) return BAD_NULL_POINTER;
    if (pad_h < 0 || pad_w < 0 || stride_h < 1 || stride_w < 1 || dilation_h < 1 || dilation_w < 1) return refuse(BAD_PARAM, "a convolution's padding, stride or dilation");
    // As in cuDNN, the math type and the groups stay as they were.
    conv->pad_h = pad_h, conv->pad_w = pad_w, conv->stride_h = stride_h, conv->stride_w = stride_w;
    conv->dilation_h = dilation_h, conv->dilation_w = dilation_w, conv->mode = mode, conv->compute = compute;
    return SUCCESS;
}
API cudnnSetConvolutionNdDescriptor(Convolution* conv, int rank, const int* pad, const int* stride, const int* dilation, int mode, int compute) {
    if (rank != 2) return refuse(NOT_SUPPORTED, "only convolutions of 2 dimensions are emulated");
    return cudnnSetConvolution2dDescriptor(conv, pad[0], pad[1], stride[0], stride[1], dilation[0], dilation[1], mode, compute);
}
API cudnnSetConvolutionMathType(Convolution* conv, int math) { return conv ? (conv->math = math, SUCCESS) : BAD_NULL_POINTER; }
API cudnnGetConvolutionMathType(const Convolution* conv, int* math) { return *math = conv->math, SUCCESS; }
API cudnnSetConvolutionGroupCount(Convolution* conv, int groups) { return conv ? (conv->groups = groups, SUCCESS) : BAD_NULL_POINTER; }
API cudnnSetConvolutionReorderType(Convolution*, int) { return SUCCESS; }
API cudnnSetActivationDescriptor(Activation* activation, int mode, int, double coefficient) {
    if (!activation) return BAD_NULL_POINTER;
    *activation = Activation{mode, coefficient};
    return SUCCESS;
}

API cudnnGetConvolution2dForwardOutputDim(const Convolution* conv, const Tensor* x, const Filter* w, int* n, int* c, int* h, int* v) {
    if (!conv || !x || !w) return BAD_NULL_POINTER;
    if (w->c != x->c) return refuse(BAD_SHAPE, "the filter has %d input channels, x has %d", w->c, x->c);
    *n = x->n, *c = w->k;
    *h = output_extent(x->h, conv->pad_h, w->h, conv->dilation_h, conv->stride_h);
    *v = output_extent(x->w, conv->pad_w, w->w, conv->dilation_w, conv->stride_w);
    return SUCCESS;
}

// Algorithms

API cudnnGetConvolutionForwardAlgorithmMaxCount(Handle*, int* count) { return *count = 8, SUCCESS; }
API cudnnGetConvolutionBackwardDataAlgorithmMaxCount(Handle*, int* count) { return *count = 6, SUCCESS; }
API cudnnGetConvolutionBackwardFilterAlgorithmMaxCount(Handle*, int* count) { return *count = 7, SUCCESS; }

API cudnnGetConvolutionForwardAlgorithm_v7(Handle* handle, Tensor* x, Filter* w, Convolution* conv, Tensor* y, int wanted, int* given, Performance* results) {
    HANDLE;
    Problem p;
    TRY(check(x, w, conv, y, p));
    return rank(FORWARD, p, wanted, given, results);
}
API cudnnGetConvolutionBackwardDataAlgorithm_v7(Handle* handle, Filter* w, Tensor* dy, Convolution* conv, Tensor* dx, int wanted, int* given, Performance* results) {
    HANDLE;
    Problem p;
    TRY(check(dx, w, conv, dy, p));
    return rank(DATA, p, wanted, given, results);
}
API cudnnGetConvolutionBackwardFilterAlgorithm_v7(Handle* handle, Tensor* x, Tensor* dy, Convolution* conv, Filter* dw, int wanted, int* given, Performance* results) {
    HANDLE;
    Problem p;
    TRY(check(x, dw, conv, dy, p));
    return rank(FILTER, p, wanted, given, results);
}

API cudnnFindConvolutionForwardAlgorithmEx(Handle* handle, Tensor* x, const void* x_data, Filter* w, const void* w_data, Convolution* conv, Tensor* y, void* y_data,
                                           int wanted, int* given, Performance* results, void* workspace, size_t workspace_bytes) {
    HANDLE;
    Problem p;
    TRY(check(x, w, conv, y, p));
    TRY(check_pointer("x", x_data, p.x.bytes()));
    TRY(check_pointer("w", w_data, p.w.bytes()));
    return find(handle, FORWARD, p, wanted, given, results, y_data, p.y.bytes(), workspace, workspace_bytes);
}
API cudnnFindConvolutionBackwardDataAlgorithmEx(Handle* handle, Filter* w, const void* w_data, Tensor* dy, const void* dy_data, Convolution* conv, Tensor* dx, void* dx_data,
                                                int wanted, int* given, Performance* results, void* workspace, size_t workspace_bytes) {
    HANDLE;
    Problem p;
    TRY(check(dx, w, conv, dy, p));
    TRY(check_pointer("w", w_data, p.w.bytes()));
    TRY(check_pointer("dy", dy_data, p.y.bytes()));
    return find(handle, DATA, p, wanted, given, results, dx_data, p.x.bytes(), workspace, workspace_bytes);
}
API cudnnFindConvolutionBackwardFilterAlgorithmEx(Handle* handle, Tensor* x, const void* x_data, Tensor* dy, const void* dy_data, Convolution* conv, Filter* dw, void* dw_data,
                                                  int wanted, int* given, Performance* results, void* workspace, size_t workspace_bytes) {
    HANDLE;
    Problem p;
    TRY(check(x, dw, conv, dy, p));
    TRY(check_pointer("x", x_data, p.x.bytes()));
    TRY(check_pointer("dy", dy_data, p.y.bytes()));
    return find(handle, FILTER, p, wanted, given, results, dw_data, p.w.bytes(), workspace, workspace_bytes);
}

API cudnnGetConvolutionForwardWorkspaceSize(Handle* handle, Tensor* x, Filter* w, Convolution* conv, Tensor* y, int algorithm, size_t* bytes) {
    HANDLE;
    Problem p;
    TRY(check(x, w, conv, y, p));
    return workspace_size(FORWARD, p, algorithm, bytes);
}
API cudnnGetConvolutionBackwardDataWorkspaceSize(Handle* handle, Filter* w, Tensor* dy, Convolution* conv, Tensor* dx, int algorithm, size_t* bytes) {
    HANDLE;
    Problem p;
    TRY(check(dx, w, conv, dy, p));
    return workspace_size(DATA, p, algorithm, bytes);
}
API cudnnGetConvolutionBackwardFilterWorkspaceSize(Handle* handle, Tensor* x, Tensor* dy, Convolution* conv, Filter* dw, int algorithm, size_t* bytes) {
    HANDLE;
    Problem p;
    TRY(check(x, dw, conv, dy, p));
    return workspace_size(FILTER, p, algorithm, bytes);
}

// Convolutions

API cudnnConvolutionForward(Handle* handle, const void* alpha, Tensor* x, const void* x_data, Filter* w, const void* w_data, Convolution* conv, int algorithm,
                            void* workspace, size_t workspace_bytes, const void* beta, Tensor* y, void* y_data) {
    HANDLE;
    Problem p;
    size_t needed;
    TRY(check(x, w, conv, y, p));
    TRY(check_pointer("x", x_data, p.x.bytes()));
    TRY(check_pointer("w", w_data, p.w.bytes()));
    TRY(check_pointer("y", y_data, p.y.bytes()));
    TRY(check_workspace(FORWARD, p, algorithm, workspace, workspace_bytes, needed));
    float a = scalar(alpha), b = scalar(beta);
    return queue(handle, "cudnnConvolutionForward", workspace, needed, [=] {
        forward(p, x_data, w_data, [&](int n, int c, int h, int v, float value) { blend(p.y, y_data, p.y.at(n, c, h, v), value, a, b); });
    });
}

API cudnnConvolutionBackwardData(Handle* handle, const void* alpha, Filter* w, const void* w_data, Tensor* dy, const void* dy_data, Convolution* conv, int algorithm,
                                 void* workspace, size_t workspace_bytes, const void* beta, Tensor* dx, void* dx_data) {
    HANDLE;
    Problem p;
    size_t needed;
    TRY(check(dx, w, conv, dy, p));
    TRY(check_pointer("w", w_data, p.w.bytes()));
    TRY(check_pointer("dy", dy_data, p.y.bytes()));
    TRY(check_pointer("dx", dx_data, p.x.bytes()));
    TRY(check_workspace(DATA, p, algorithm, workspace, workspace_bytes, needed));
    float a = scalar(alpha), b = scalar(beta);
    return queue(handle, "cudnnConvolutionBackwardData", workspace, needed, [=] { backward_data(p, w_data, dy_data, dx_data, a, b); });
}

API cudnnConvolutionBackwardFilter(Handle* handle, const void* alpha, Tensor* x, const void* x_data, Tensor* dy, const void* dy_data, Convolution* conv, int algorithm,
                                   void* workspace, size_t workspace_bytes, const void* beta, Filter* dw, void* dw_data) {
    HANDLE;
    Problem p;
    size_t needed;
    TRY(check(x, dw, conv, dy, p));
    TRY(check_pointer("x", x_data, p.x.bytes()));
    TRY(check_pointer("dy", dy_data, p.y.bytes()));
    TRY(check_pointer("dw", dw_data, p.w.bytes()));
    TRY(check_workspace(FILTER, p, algorithm, workspace, workspace_bytes, needed));
    float a = scalar(alpha), b = scalar(beta);
    return queue(handle, "cudnnConvolutionBackwardFilter", workspace, needed, [=] { backward_filter(p, x_data, dy_data, dw_data, a, b); });
}

API cudnnConvolutionBackwardBias(Handle* handle, const void* alpha, Tensor* dy, const void* dy_data, const void* beta, Tensor* db, void* db_data) {
    HANDLE;
    if (!dy || !db || db->n != 1 || db->h != 1 || db->w != 1 || db->c != dy->c) return refuse(BAD_SHAPE, "db is not [1, c, 1, 1]");
    TRY(check_pointer("dy", dy_data, dy->bytes()));
    TRY(check_pointer("db", db_data, db->bytes()));
    float a = scalar(alpha), b = scalar(beta);
    Tensor from = *dy, to = *db;
    return queue(handle, "cudnnConvolutionBackwardBias", nullptr, 0, [=] {
        parallel_for(static_cast<size_t>(from.c), [&](size_t c) {
            float sum = 0;
            for (int n = 0; n < from.n; n++)
                for (int h = 0; h < from.h; h++)
                    for (int w = 0; w < from.w; w++) sum += load(from, dy_data, from.at(n, static_cast<int>(c), h, w));
            blend(to, db_data, to.at(0, static_cast<int>(c), 0, 0), sum, a, b);
        });
    });
}

API cudnnConvolutionBiasActivationForward(Handle* handle, const void* alpha1, Tensor* x, const void* x_data, Filter* w, const void* w_data, Convolution* conv, int algorithm,
                                          void* workspace, size_t workspace_bytes, const void* alpha2, Tensor* z, const void* z_data, Tensor* bias, const void* bias_data,
                                          Activation* activation, Tensor* y, void* y_data) {
    HANDLE;
    Problem p;
    size_t needed;
    TRY(check(x, w, conv, y, p));
    if (!activation || (activation->mode != RELU && activation->mode != IDENTITY)) return refuse(NOT_SUPPORTED, "only relu and identity can follow a convolution");
    if (activation->mode == IDENTITY && algorithm != 1) return refuse(NOT_SUPPORTED, "identity needs algorithm 1 (implicit precomputed GEMM)");
    if (!bias || bias->n != 1 || bias->h != 1 || bias->w != 1 || bias->c != y->c) return refuse(BAD_SHAPE, "the bias is not [1, c, 1, 1]");
    float a1 = scalar(alpha1), a2 = scalar(alpha2);
    if (a2 != 0 && (!z || z->n != y->n || z->c != y->c || z->h != y->h || z->w != y->w)) return refuse(BAD_SHAPE, "z is not like y");
    TRY(check_pointer("x", x_data, p.x.bytes()));
    TRY(check_pointer("w", w_data, p.w.bytes()));
    TRY(check_pointer("y", y_data, p.y.bytes()));
    TRY(check_pointer("the bias", bias_data, bias->bytes()));
    if (a2 != 0) TRY(check_pointer("z", z_data, z->bytes()));
    TRY(check_workspace(FORWARD, p, algorithm, workspace, workspace_bytes, needed));
    Tensor zt = a2 != 0 ? *z : Tensor(), bt = *bias;
    bool relu = activation->mode == RELU;
    return queue(handle, "cudnnConvolutionBiasActivationForward", workspace, needed, [=] {
        forward(p, x_data, w_data, [&](int n, int c, int h, int v, float value) {
            value = a1 * value + load(bt, bias_data, bt.at(0, c, 0, 0));
            if (a2 != 0) value += a2 * load(zt, z_data, zt.at(n, c, h, v));
            store(p.y, y_data, p.y.at(n, c, h, v), relu && value < 0 ? 0.0f : value);
        });
    });
}
