// What surfaces look like at any point of a face. Comes behind common.cuh.

#define WHITE 0
#define CUBES 1
#define VERTICES 2
#define IMAGE 3

struct Surface {
    const float* light;    // of the fronts, then of the backs
    const float* colours;  // null if there are none
    const int* indices;
    const float* texture;  // coordinates of the corners of each face, and whether there are any
    const Piece* pieces;   // null if no face was cut
    int first;             // face among those of all images
    int faces;             // before any was cut
    int kind;
    int width, height;      // of the image; the side of cubes
    int wrap_u, wrap_v;
    int light_sums, colour_sums;  // where the sums of gradients begin; -1 if they are not asked for
    int unused;
};

// A point of a surface.
struct Shown {
    int part, face, side;  // side is where its light is
    float weights[3];
};

// The point of face `face`, of those of all images, with `weights` on what is drawn of it; `back` if it is seen from there.
__device__ __forceinline__ void show(Shown& shown, const Surface* surfaces, int surface_count, int face, bool back) {
    shown.part = entry_of(surfaces, surface_count, face);
    const Surface& surface = surfaces[shown.part];
    shown.face = on_face(surface.pieces, face - surface.first, back, shown.weights);
    shown.side = back ? shown.face + surface.faces : shown.face;
}

// A coordinate in [0, 1] at which an image is sampled; false for the black around it.
__device__ __forceinline__ bool wrapped(float& x, int wrap) {
    if (x >= 0.0f && x <= 1.0f) return true;
    if (!isfinite(x)) x = 0.0f;
    else if (wrap == 0) x = minus(x, floorf(x));
    else if (wrap == 1) {
        x = fmodf(x, 2.0f);
        if (x < 0.0f) x = plus(x, 2.0f);
        if (x > 1.0f) x = minus(2.0f, x);
    } else if (wrap == 2) x = x < 0.0f ? 0.0f : 1.0f;
    else return false;
    return true;
}

// The colours that a sample is mixed of: how many, their indices among all, and their weights. -1 if it is white.
struct Mixture {
    int count;
    int indices[8];
    float weights[8];
};

__device__ __forceinline__ void mix_cube(Mixture& m, const Surface& part, const Shown& shown) {
    int side = part.width, floors[3];
    float rest[3], most = minus((float)(side - 1), 1e-3f);
    for (int k = 0; k < 3; k++) {
        float along = fminf(fmaxf(times(shown.weights[k], (float)(side - 1)), 0.0f), most);
        floors[k] = (int)along;
        rest[k] = minus(along, (float)floors[k]);
    }
    m.count = 8;
    for (int corner = 0; corner < 8; corner++) {
        float weight = 1.0f;
        int index = 0;
        for (int k = 0; k < 3; k++) {
            int bit = corner >> k & 1;
            weight = times(weight, bit ? rest[k] : minus(1.0f, rest[k]));
            index = index * side + floors[k] + bit;
        }
        m.indices[corner] = shown.face * side * side * side + index;
        m.weights[corner] = weight;
    }
}

__device__ __forceinline__ void mix_image(Mixture& m, const Surface& part, const Shown& shown) {
    const float* corners = part.texture + 8ll * shown.face;
    m.count = -1;
    if (corners[6] == 0.0f) return;
    m.count = 0;
    int at[2][2];
    float shares[2][2];
    for (int axis = 0; axis < 2; axis++) {
        float place = 0.0f;
        for (int k = 0; k < 3; k++) place = plus(place, times(shown.weights[k], corners[2 * k + axis]));
        if (!wrapped(place, axis ? part.wrap_v : part.wrap_u)) return;
        int most = (axis ? part.height : part.width) - 1;
        place = times(axis ? minus(1.0f, place) : place, (float)most);
        int first = min((int)fmaxf(place, 0.0f), most);
        float rest = fminf(fmaxf(minus(place, (float)first), 0.0f), 1.0f);
        at[axis][0] = first;
        at[axis][1] = min(first + 1, most);
        shares[axis][0] = minus(1.0f, rest);
        shares[axis][1] = rest;
    }
    m.count = 4;
    for (int k = 0; k < 4; k++) {
        m.indices[k] = at[1][k / 2] * part.width + at[0][k % 2];
        m.weights[k] = times(shares[1][k / 2], shares[0][k % 2]);
    }
}

__device__ __forceinline__ void mixture_of(Mixture& m, const Surface& part, const Shown& shown) {
    m.count = -1;
    if (part.kind == CUBES) mix_cube(m, part, shown);
    else if (part.kind == IMAGE) mix_image(m, part, shown);
    else if (part.kind == VERTICES) {
        m.count = 3;
        for (int k = 0; k < 3; k++) {
            m.indices[k] = part.indices[3 * shown.face + k];
            m.weights[k] = shown.weights[k];
        }
    }
}

__device__ __forceinline__ float3 colour_of(const Mixture& m, const Surface& part) {
    if (m.count < 0) return make_float3(1.0f, 1.0f, 1.0f);
    float3 sum = make_float3(0.0f, 0.0f, 0.0f);
    for (int i = 0; i < m.count; i++) sum = plus(sum, times(load3(part.colours, m.indices[i]), m.weights[i]));
    return sum;
}

// The colour of a point under light.
__device__ __forceinline__ float3 lit_colour(const Surface* surfaces, const Shown& shown, Mixture& m) {
    const Surface& surface = surfaces[shown.part];
    mixture_of(m, surface, shown);
    return times(colour_of(m, surface), load3(surface.light, shown.side));
}
