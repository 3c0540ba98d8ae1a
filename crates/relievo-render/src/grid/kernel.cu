// A thread for each pixel; y of the grid counts pictures. `scale` is 1 / tan(field of view / 2).

extern "C" __global__ void forward(float2* grid, const float* depth, const float* views, Camera camera, float scale,
                                   int view_count) {
    const Motion& motion = block_motion(views + 6 * (blockIdx.y % view_count));
    int p = thread_number(), pixels = camera.size * camera.size;
    if (p >= pixels) return;
    long long picture = (long long)blockIdx.y * pixels;
    float x = slope(camera, p % camera.size), y = slope(camera, p / camera.size), d = depth[picture + p];
    float3 moved = move_back(motion, make_float3(d * x, d * y, d));
    float factor = scale / moved.z;
    grid[picture + p] = make_float2(moved.x * factor, moved.y * factor);
}

// As the backward of move_points: each of ddepth and parts may be null.
extern "C" __global__ void backward(float* ddepth, float* parts, const float* depth, const float* views, const float2* dy,
                                    Camera camera, float scale, int view_count) {
    const Motion& motion = block_motion(views + 6 * (blockIdx.y % view_count));
    int pixels = camera.size * camera.size;
    long long picture = (long long)blockIdx.y * pixels;
    MotionSums sums = {};
    for (int p = thread_number(); p < pixels; p += gridDim.x * blockDim.x) {
        float x = slope(camera, p % camera.size), y = slope(camera, p / camera.size), d = depth[picture + p];
        float3 point = make_float3(d * x, d * y, d);
        float3 moved = move_back(motion, point);
        float factor = scale / moved.z;
        float2 g = dy[picture + p];
        float gx = g.x * factor, gy = g.y * factor;
        float3 dmoved = make_float3(gx, gy, -(gx * moved.x + gy * moved.y) / moved.z);
        float3 dpoint = turn(motion, dmoved);
        if (ddepth) ddepth[picture + p] = dpoint.x * x + dpoint.y * y + dpoint.z;
        if (parts) add_back(sums, motion, point, dmoved, dpoint);
    }
    if (parts) block_parts(parts + 12 * (blockIdx.y * gridDim.x + blockIdx.x), sums);
}
