// A thread for each point; y of the grid counts pictures.

extern "C" __global__ void forward(float* moved, const float* points, const float* views, int pixels, int view_count,
                                   int inverse) {
    const Motion& motion = block_motion(views + 6 * (blockIdx.y % view_count));
    int p = thread_number();
    if (p >= pixels) return;
    long long picture = 3ll * blockIdx.y * pixels;
    float3 point = load3(points + picture, p);
    store3(moved + picture, p, inverse ? move_back(motion, point) : move(motion, point));
}

// The gradient of the points, and parts of the sums for those of the views, [pictures][blocks of a picture][12]. Each may
// be null.
extern "C" __global__ void backward(float* dpoints, float* parts, const float* points, const float* views, const float* dy,
                                    int pixels, int view_count, int inverse) {
    const Motion& motion = block_motion(views + 6 * (blockIdx.y % view_count));
    long long picture = 3ll * blockIdx.y * pixels;
    MotionSums sums = {};
    for (int p = thread_number(); p < pixels; p += gridDim.x * blockDim.x) {
        float3 g = load3(dy + picture, p);
        float3 turned = inverse ? turn(motion, g) : turn_back(motion, g);
        if (dpoints) store3(dpoints + picture, p, turned);
        if (parts) {
            float3 point = load3(points + picture, p);
            if (inverse) {
                add_back(sums, motion, point, g, turned);
            } else {
                add(sums, point, g);
            }
        }
    }
    if (parts) block_parts(parts + 12 * (blockIdx.y * gridDim.x + blockIdx.x), sums);
}

// The gradients of the views from the parts. A warp for each view.
extern "C" __global__ void view_gradient(float* dviews, const float* parts, const float* views, int count, int pictures,
                                         int view_count) {
    double sums[12];
    for (int k = 0; k < 12; k++) sums[k] = group_sum(parts, 12, k, count, pictures, view_count, blockIdx.x);
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
