// x [rows, columns] and counted [rows]. One block; sums are in double, in a fixed order.

struct Prior {
    int column, has_mean;
    float mean, deviation;
};

struct Priors {
    Prior of[4];
};

struct Moments {
    double count, mean, deviation;
};

// Of a column's rows that count, in every thread. All threads must call.
__device__ __forceinline__ Moments moments(const float* x, const float* counted, int column, int rows, int columns) {
    double count = 0.0, sum = 0.0, squares = 0.0;
    for (int row = threadIdx.x; row < rows; row += blockDim.x) {
        count += counted[row];
        sum += (double)x[row * columns + column] * counted[row];
    }
    Moments found;
    found.count = block_sum(count);
    found.mean = block_sum(sum) / found.count;
    for (int row = threadIdx.x; row < rows; row += blockDim.x) {
        double off = x[row * columns + column] - found.mean;
        squares += off * off * counted[row];
    }
    found.deviation = sqrt(block_sum(squares) / found.count);
    return found;
}

extern "C" __global__ void forward(float* y, const float* x, const float* counted, Priors priors, int count, int rows,
                                   int columns) {
    double error = 0.0;
    for (int k = 0; k < count; k++) {
        Prior prior = priors.of[k];
        Moments found = moments(x, counted, prior.column, rows, columns);
        double spread = found.deviation / prior.deviation - 1.0;
        double off = prior.has_mean ? (found.mean - prior.mean) / prior.deviation : 0.0;
        if (found.count >= 2.0) error += spread * spread + off * off;
    }
    if (threadIdx.x == 0) *y = (float)error;
}

// dx is 0 before.
extern "C" __global__ void backward(float* dx, const float* x, const float* counted, const float* dy, Priors priors,
                                    int count, int rows, int columns) {
    for (int k = 0; k < count; k++) {
        Prior prior = priors.of[k];
        Moments found = moments(x, counted, prior.column, rows, columns);
        double expected = prior.deviation, spread = 0.0, off = 0.0;
        if (found.count < 2.0) continue;
        if (found.deviation > 0.0) {
            spread = 2.0 * (found.deviation / expected - 1.0) / expected / (found.count * found.deviation);
        }
        if (prior.has_mean) off = 2.0 * (found.mean - prior.mean) / (expected * expected * found.count);
        for (int row = threadIdx.x; row < rows; row += blockDim.x) {
            int at = row * columns + prior.column;
            dx[at] += (float)(*dy * counted[row] * (spread * (x[at] - found.mean) + off));
        }
    }
}
