// Faces at points between samples, in double precision: an image of 16,384 pixels has places that differ by less than a float
// can tell apart. Comes behind common.cuh.
//
// What decides whether a point is inside, and at which depth, is not fused: it is the CPU's to the bit.

__device__ __forceinline__ double minus(double a, double b) { return __dsub_rn(a, b); }
__device__ __forceinline__ double plus(double a, double b) { return __dadd_rn(a, b); }
__device__ __forceinline__ double times(double a, double b) { return __dmul_rn(a, b); }

// A face in pixels from the left border of the image and from the bottom, corners counter-clockwise.
struct Flat {
    double x[3], y[3];
    float z[3];
    int number;
};

__device__ __forceinline__ Flat flat_of(const Face& face, int width, int height) {
    Flat flat;
    for (int k = 0; k < 3; k++) {
        flat.x[k] = times(plus((double)face.corners[k].x, 1.0) / 2.0, (double)width);
        flat.y[k] = times(plus((double)face.corners[k].y, 1.0) / 2.0, (double)height);
        flat.z[k] = face.corners[k].z;
    }
    flat.number = face.number;
    return flat;
}

// Positive if c lies to the left of the way from a to b.
__device__ __forceinline__ double turn(double ax, double ay, double bx, double by, double cx, double cy) {
    return minus(times(minus(bx, ax), minus(cy, ay)), times(minus(by, ay), minus(cx, ax)));
}

// Twice the areas of the triangles that a point makes with the sides opposite to the corners; false if one is negative.
__device__ __forceinline__ bool areas_at(const Flat& flat, double x, double y, double (&areas)[3]) {
    bool inside = true;
    for (int k = 0; k < 3; k++) {
        int a = (k + 1) % 3, b = (k + 2) % 3;
        areas[k] = turn(flat.x[a], flat.y[a], flat.x[b], flat.y[b], x, y);
        inside = inside && areas[k] >= 0.0;
    }
    return inside;
}

__device__ __forceinline__ double depth_of(const Flat& flat, const double (&weights)[3]) {
    double over_z = plus(plus(weights[0] / (double)flat.z[0], weights[1] / (double)flat.z[1]), weights[2] / (double)flat.z[2]);
    return 1.0 / over_z;
}

// Weights on the surface rather than on the screen.
__device__ __forceinline__ void on_surface(const Flat& flat, const double (&weights)[3], double depth, float (&w)[3]) {
    for (int k = 0; k < 3; k++) w[k] = (float)(times(weights[k], depth) / (double)flat.z[k]);
}
