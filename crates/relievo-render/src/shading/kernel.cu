// A thread for each pixel; y of the grid counts images. A light is ambient and diffuse strength and a direction.

__device__ __forceinline__ const float* light_of(const float* lights, int light_count) {
    return lights + 5 * (blockIdx.y % light_count);
}

// n and max(0, n.l)
extern "C" __global__ void diffuse(float* normals, float* shading, const float* depth, const float* lights, Camera camera,
                                   int light_count) {
    int p = thread_number(), pixels = camera.size * camera.size;
    if (p >= pixels) return;
    const float* light = light_of(lights, light_count);
    long long image = (long long)blockIdx.y * pixels;
    float3 normal = normal_at(depth + image, camera, p / camera.size, p % camera.size);
    store3(normals + 3 * image, p, normal);
    shading[image + p] = fmaxf(dot(normal, make_float3(light[2], light[3], light[4])), 0.0f);
}

// The gradient of the depth, and parts of the sums for the lights' directions, [images][blocks of an image][3]. Each may
// be null, and so may the gradients of the two outputs.
extern "C" __global__ void diffuse_backward(float* ddepth, float* parts, const float* depth, const float* normals,
                                            const float* lights, const float* dnormals, const float* dshading,
                                            Camera camera, int light_count) {
    const float* light = light_of(lights, light_count);
    int pixels = camera.size * camera.size;
    long long image = (long long)blockIdx.y * pixels;
    float3 direction = make_float3(light[2], light[3], light[4]);
    // dy where the light falls on the surface.
    auto lit = [&](int p, float3 normal) {
        return dshading && dot(normal, direction) > 0.0f ? dshading[image + p] : 0.0f;
    };
    auto of_normal = [&](int p, float3 normal) {
        float3 own = dnormals ? load3(dnormals + 3 * image, p) : make_float3(0.0f, 0.0f, 0.0f);
        float g = lit(p, normal);
        return make_float3(own.x + g * direction.x, own.y + g * direction.y, own.z + g * direction.z);
    };
    float sums[3] = {};
    for (int p = thread_number(); p < pixels; p += gridDim.x * blockDim.x) {
        if (ddepth) ddepth[image + p] = depth_gradient(depth + image, of_normal, camera, p);
        float3 normal = load3(normals + 3 * image, p);
        float g = lit(p, normal);
        sums[0] += g * normal.x;
        sums[1] += g * normal.y;
        sums[2] += g * normal.z;
    }
    if (parts) block_parts(parts + 3 * (blockIdx.y * gridDim.x + blockIdx.x), sums);
}

// (albedo / 2 + 0.5) (a + b diffuse) 2 - 1
extern "C" __global__ void shade(float* image, const float* albedo, const float* shading, const float* lights,
                                 int pixels, int light_count) {
    int p = thread_number();
    if (p >= pixels) return;
    const float* light = light_of(lights, light_count);
    long long first = (long long)blockIdx.y * pixels;
    float bright = light[0] + light[1] * shading[first + p];
    float3 c = load3(albedo + 3 * first, p);
    store3(image + 3 * first, p,
           make_float3((c.x / 2.0f + 0.5f) * bright * 2.0f - 1.0f, (c.y / 2.0f + 0.5f) * bright * 2.0f - 1.0f,
                       (c.z / 2.0f + 0.5f) * bright * 2.0f - 1.0f));
}

// The gradients of albedo and shading, and parts of the sums for the lights' strengths, [images][blocks of an
// image][2]. Each may be null.
extern "C" __global__ void shade_backward(float* dalbedo, float* dshading, float* parts, const float* albedo,
                                          const float* shading, const float* lights, const float* dy, int pixels,
                                          int light_count) {
    const float* light = light_of(lights, light_count);
    long long first = (long long)blockIdx.y * pixels;
    float sums[2] = {};
    for (int p = thread_number(); p < pixels; p += gridDim.x * blockDim.x) {
        float s = shading[first + p];
        float3 c = load3(albedo + 3 * first, p), g = load3(dy + 3 * first, p);
        float h = g.x * (c.x + 1.0f) + g.y * (c.y + 1.0f) + g.z * (c.z + 1.0f);
        if (dalbedo) store3(dalbedo + 3 * first, p, scaled(g, light[0] + light[1] * s));
        if (dshading) dshading[first + p] = light[1] * h;
        sums[0] += h;
        sums[1] += h * s;
    }
    if (parts) block_parts(parts + 2 * (blockIdx.y * gridDim.x + blockIdx.x), sums);
}

// The gradients of the lights from parts of `elements` sums, which are for the light's numbers from `first` on. A warp for
// each light.
extern "C" __global__ void light_gradient(float* dlights, const float* parts, int elements, int first, int count,
                                          int images, int light_count) {
    for (int k = 0; k < 5; k++) {
        bool has = first <= k && k < first + elements;
        double sum = has ? group_sum(parts, elements, k - first, count, images, light_count, blockIdx.x) : 0.0;
        if (threadIdx.x == 0) dlights[5 * blockIdx.x + k] = (float)sum;
    }
}
