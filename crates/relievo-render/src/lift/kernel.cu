// A thread for each pixel; y of the grid counts pictures.

extern "C" __global__ void forward(float* points, const float* depth, Camera camera) {
    int p = thread_number(), pixels = camera.size * camera.size;
    if (p >= pixels) return;
    long long picture = (long long)blockIdx.y * pixels;
    float d = depth[picture + p];
    store3(points + 3 * picture, p,
           make_float3(d * slope(camera, p % camera.size), d * slope(camera, p / camera.size), d));
}

extern "C" __global__ void backward(float* ddepth, const float* dy, Camera camera) {
    int p = thread_number(), pixels = camera.size * camera.size;
    if (p >= pixels) return;
    long long picture = (long long)blockIdx.y * pixels;
    float3 g = load3(dy + 3 * picture, p);
    ddepth[picture + p] = g.x * slope(camera, p % camera.size) + g.y * slope(camera, p / camera.size) + g.z;
}
