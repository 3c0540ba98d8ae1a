// A thread for each pixel; y of the grid counts images.

extern "C" __global__ void forward(float* moved, const float* depth, const float* views, Camera camera, int view_count) {
    const Motion& motion = block_motion(views + 6 * (blockIdx.y % view_count));
    int p = thread_number(), pixels = camera.size * camera.size;
    if (p >= pixels) return;
    long long image = (long long)blockIdx.y * pixels;
    store3(moved + 3 * image, p, move(motion, lift(camera, p, depth[image + p])));
}

// The gradient of the depth, and parts of the sums for those of the views, [images][blocks of an image][12]. Each may
// be null.
extern "C" __global__ void backward(float* ddepth, float* parts, const float* depth, const float* views, const float* dy,
                                    Camera camera, int view_count) {
    const Motion& motion = block_motion(views + 6 * (blockIdx.y % view_count));
    int pixels = camera.size * camera.size;
    long long image = (long long)blockIdx.y * pixels;
    MotionSums sums = {};
    for (int p = thread_number(); p < pixels; p += gridDim.x * blockDim.x) {
        float3 g = load3(dy + 3 * image, p), turned = turn_back(motion, g);
        if (ddepth) {
            ddepth[image + p] =
                turned.x * slope(camera, p % camera.size) + turned.y * slope(camera, p / camera.size) + turned.z;
        }
        if (parts) add(sums, lift(camera, p, depth[image + p]), g);
    }
    if (parts) block_parts(parts + 12 * (blockIdx.y * gridDim.x + blockIdx.x), sums);
}

// The gradients of the views from the parts. A warp for each view.
extern "C" __global__ void view_gradient(float* dviews, const float* parts, const float* views, int count, int images,
                                         int view_count) {
    double sums[12];
    for (int k = 0; k < 12; k++) sums[k] = group_sum(parts, 12, k, count, images, view_count, blockIdx.x);
    const float* view = views + 6 * blockIdx.x;
    float* gradient = dviews + 6 * blockIdx.x;
    int axis = threadIdx.x;
    if (axis < 3) {
        Turn turns[3];
        for (int i = 0; i < 3; i++) {
            Turn turn = turn_by(view[i]);
            turns[i] = i == axis ? derivative(turn) : turn;
        }
        double rotation[9], along = 0.0;
        compose(turns[0], turns[1], turns[2], rotation);
        for (int i = 0; i < 9; i++) along += sums[i] * rotation[i];
        gradient[axis] = (float)along;
    } else if (axis < 6) {
        gradient[axis] = (float)(axis == 3 ? sums[9] : axis == 4 ? sums[10] : sums[11]);
    }
}
