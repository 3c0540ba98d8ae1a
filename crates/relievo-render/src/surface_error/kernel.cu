// y of the grid counts images. What is kept of an image: pixels that count, mean and standard deviation of the logarithm.

// The angle between two vectors, and its gradient in the first.
__device__ __forceinline__ float angle(float3 a, float3 b, float3& gradient) {
    float a_length = fmaxf(sqrtf(dot(a, a)), 1.17549435e-38f), b_length = fmaxf(sqrtf(dot(b, b)), 1.17549435e-38f);
    a = make_float3(a.x / a_length, a.y / a_length, a.z / a_length);
    b = make_float3(b.x / b_length, b.y / b_length, b.z / b_length);
    // Exact where the angle is small, and 0 for equal vectors.
    float3 axis = cross(a, b);
    float sine = sqrtf(dot(axis, axis));
    // a x (a x b) = cos a - b, as long as the sine.
    gradient = scaled(cross(a, axis), sine > 0.0f ? 1.0f / (sine * a_length) : 0.0f);
    return atan2f(sine, dot(a, b));
}

// Block (0, image), 256 threads.
extern "C" __global__ void of_images(float* kept, double* angles, const float* depth, const float* truth,
                                     const float* mask, Camera camera) {
    int pixels = camera.size * camera.size;
    long long image = (long long)blockIdx.y * pixels;
    depth += image, truth += image, mask += image;
    double count = 0.0, sum = 0.0, squares = 0.0, turned = 0.0;
    for (int p = threadIdx.x; p < pixels; p += blockDim.x) {
        if (mask[p] <= 0.0f) continue;
        int row = p / camera.size, column = p % camera.size;
        float3 unused;
        turned += angle(normal_at(depth, camera, row, column), normal_at(truth, camera, row, column), unused);
        count += 1.0;
        sum += (double)(logf(depth[p]) - logf(truth[p]));
    }
    count = block_sum(count);
    double mean = block_sum(sum) / fmax(count, 1.0);
    for (int p = threadIdx.x; p < pixels; p += blockDim.x) {
        double off = logf(depth[p]) - logf(truth[p]) - mean;
        if (mask[p] > 0.0f) squares += off * off;
    }
    squares = block_sum(squares);
    turned = block_sum(turned);
    if (threadIdx.x == 0) {
        kept[3 * blockIdx.y] = (float)count;
        kept[3 * blockIdx.y + 1] = (float)mean;
        kept[3 * blockIdx.y + 2] = (float)sqrt(squares / fmax(count, 1.0));
        angles[blockIdx.y] = turned;
    }
}

// Images with a pixel that counts, and all such pixels, in every thread. All threads must call.
__device__ __forceinline__ double2 counts(const float* kept, int batch) {
    double images = 0.0, pixels = 0.0;
    for (int i = threadIdx.x; i < batch; i += blockDim.x) {
        pixels += kept[3 * i];
        images += kept[3 * i] > 0.0f ? 1.0 : 0.0;
    }
    images = block_sum(images);
    pixels = block_sum(pixels);
    return make_double2(images, pixels);
}

// One block.
extern "C" __global__ void means(float* errors, const float* kept, const double* angles, int batch) {
    double deviations = 0.0, turned = 0.0;
    for (int i = threadIdx.x; i < batch; i += blockDim.x) {
        deviations += kept[3 * i + 2];
        turned += angles[i];
    }
    deviations = block_sum(deviations);
    turned = block_sum(turned);
    double2 all = counts(kept, batch);
    if (threadIdx.x == 0) {
        errors[0] = (float)(deviations / fmax(all.x, 1.0));
        errors[1] = (float)(turned / fmax(all.y, 1.0));
    }
}

// A thread for each pixel of all depths; only the first `batch` images have a truth.
extern "C" __global__ void backward(float* ddepth, const float* depth, const float* truth, const float* mask,
                                    const float* kept, const float* dy, Camera camera, int batch) {
    int p = thread_number(), pixels = camera.size * camera.size;
    long long image = (long long)blockIdx.y * pixels;
    double2 all = counts(kept, batch);
    if (p >= pixels) return;
    float gradient = 0.0f;
    if (blockIdx.y < batch) {
        depth += image, truth += image, mask += image;
        float of_angle = dy[1] / (float)fmax(all.y, 1.0);
        auto of_normal = [&](int p, float3 normal) {
            float3 slope = make_float3(0.0f, 0.0f, 0.0f);
            if (mask[p] > 0.0f) angle(normal, normal_at(truth, camera, p / camera.size, p % camera.size), slope);
            return scaled(slope, of_angle);
        };
        gradient = depth_gradient(depth, of_normal, camera, p);
        float count = kept[3 * blockIdx.y], mean = kept[3 * blockIdx.y + 1], deviation = kept[3 * blockIdx.y + 2];
        if (deviation != 0.0f && mask[p] > 0.0f) {
            float scale = dy[0] / (float)all.x / (count * deviation);
            gradient += scale * (logf(depth[p]) - logf(truth[p]) - mean) / depth[p];
        }
    }
    ddepth[image + p] = gradient;
}
