// A thread for each pixel; y of the grid counts images. `scale` is 1 / tan(field of view / 2).

// The grid, and the mask of the first `masks` images, each seen in `parts` of them.
extern "C" __global__ void forward(float2* grid, float* mask, const float* depth, const float* views, Camera camera,
                                   float scale, int view_count, float far, int masks, int parts) {
    const Motion& motion = block_motion(views + 6 * (blockIdx.y % view_count));
    int p = thread_number(), pixels = camera.size * camera.size;
    if (p >= pixels) return;
    long long at = (long long)blockIdx.y * pixels + p;
    float3 moved = move_back(motion, lift(camera, p, depth[at]));
    float factor = scale / moved.z;
    grid[at] = make_float2(moved.x * factor, moved.y * factor);
    if ((int)blockIdx.y >= masks) return;
    bool seen = true;
    for (int part = 0; part < parts; part++) seen = seen && depth[(long long)part * masks * pixels + at] < far;
    mask[at] = seen ? 1.0f : 0.0f;
}

// As the backward of move_surface: each of ddepth and parts may be null.
extern "C" __global__ void backward(float* ddepth, float* parts, const float* depth, const float* views, const float2* dy,
                                    Camera camera, float scale, int view_count) {
    const Motion& motion = block_motion(views + 6 * (blockIdx.y % view_count));
    int pixels = camera.size * camera.size;
    long long image = (long long)blockIdx.y * pixels;
    MotionSums sums = {};
    for (int p = thread_number(); p < pixels; p += gridDim.x * blockDim.x) {
        float x = slope(camera, p % camera.size), y = slope(camera, p / camera.size), d = depth[image + p];
        float3 point = lift(camera, p, d);
        float3 moved = move_back(motion, point);
        float factor = scale / moved.z;
        float2 g = dy[image + p];
        float gx = g.x * factor, gy = g.y * factor;
        float3 dmoved = make_float3(gx, gy, -(gx * moved.x + gy * moved.y) / moved.z);
        float3 dpoint = turn(motion, dmoved);
        if (ddepth) ddepth[image + p] = dpoint.x * x + dpoint.y * y + dpoint.z;
        if (parts) add_back(sums, motion, point, dmoved, dpoint);
    }
    if (parts) block_parts(parts + 12 * (blockIdx.y * gridDim.x + blockIdx.x), sums);
}
