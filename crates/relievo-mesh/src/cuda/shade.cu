// The colours of samples: a thread for each, forward and backward. y of the grid counts images. Gradients are scatters, in
// fixed point: `look` finds the largest terms, `scatter` adds, `numbers_of_sums` makes numbers of the sums.

#define WHITE 0
#define CUBES 1
#define VERTICES 2
#define IMAGE 3

struct Part {
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

// What a sample shows.
struct Shown {
    int part, face, side;  // side is where its light is
    float weights[3];
};

__device__ __forceinline__ bool shown_at(Shown& shown, const Part* parts, int part_count, const float4* faces,
                                         const Image* images, const float* numbers, const Raster& raster, int sample) {
    bool is_there = sample < raster.columns * raster.rows;
    float number = is_there ? numbers[(long long)blockIdx.y * raster.columns * raster.rows + sample] : -1.0f;
    if (number < 0.0f) return false;
    Image image = images[blockIdx.y];
    int face = face_of(image, (int)number);
    bool back = (int)number >= image.count;
    shown.part = entry_of(parts, part_count, face);
    const Part& part = parts[shown.part];
    Triangle t = triangle_of(load_face(faces, face).corners, raster);
    surface_weights(t, sample % raster.columns, sample / raster.columns, shown.weights);
    shown.face = on_face(part.pieces, face - part.first, back, shown.weights);
    shown.side = back ? shown.face + part.faces : shown.face;
    return true;
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

__device__ __forceinline__ void mix_cube(Mixture& m, const Part& part, const Shown& shown) {
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

__device__ __forceinline__ void mix_image(Mixture& m, const Part& part, const Shown& shown) {
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

__device__ __forceinline__ void mixture_of(Mixture& m, const Part& part, const Shown& shown) {
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

__device__ __forceinline__ float3 colour_of(const Mixture& m, const Part& part) {
    if (m.count < 0) return make_float3(1.0f, 1.0f, 1.0f);
    float3 sum = make_float3(0.0f, 0.0f, 0.0f);
    for (int i = 0; i < m.count; i++) sum = plus(sum, times(load3(part.colours, m.indices[i]), m.weights[i]));
    return sum;
}

extern "C" __global__ void shade(float* colours, const Part* parts, const Image* images, const float4* faces,
                                 const float* numbers, const float* background, Raster raster, int part_count,
                                 int backgrounds) {
    int sample = thread_number();
    if (sample >= raster.columns * raster.rows) return;
    Shown shown;
    float3 colour;
    if (shown_at(shown, parts, part_count, faces, images, numbers, raster, sample)) {
        const Part& part = parts[shown.part];
        Mixture m;
        mixture_of(m, part, shown);
        colour = times(colour_of(m, part), load3(part.light, shown.side));
    } else {
        colour = load3(background, blockIdx.y % backgrounds);
    }
    store3(colours, (long long)blockIdx.y * raster.columns * raster.rows + sample, colour);
}

// The largest of the terms of light, colours and background, in this order.
extern "C" __global__ void look(unsigned* largest, const Part* parts, const Image* images, const float4* faces,
                                const float* numbers, const float* dy, Raster raster, int part_count) {
    int sample = thread_number(), samples = raster.columns * raster.rows;
    Shown shown;
    float of_light = 0.0f, of_colours = 0.0f, of_background = 0.0f;
    auto longest = [](float3 v) {
        // Bits, so that a NaN is longer than all others.
        unsigned a = __float_as_uint(fabsf(v.x)), b = __float_as_uint(fabsf(v.y)), c = __float_as_uint(fabsf(v.z));
        return __uint_as_float(max(a, max(b, c)));
    };
    if (sample < samples) {
        float3 g = load3(dy, (long long)blockIdx.y * samples + sample);
        if (shown_at(shown, parts, part_count, faces, images, numbers, raster, sample)) {
            const Part& part = parts[shown.part];
            Mixture m;
            mixture_of(m, part, shown);
            if (part.light_sums >= 0) of_light = longest(times(g, colour_of(m, part)));
            if (part.colour_sums >= 0) of_colours = longest(times(g, load3(part.light, shown.side)));
        } else {
            of_background = longest(g);
        }
    }
    note_largest(largest, of_light);
    note_largest(largest + 1, of_colours);
    note_largest(largest + 2, of_background);
}

// `background_sums` is one more than where those of the background begin, or 0.
extern "C" __global__ void scatter(unsigned long long* sums, const unsigned* largest, const Part* parts, const Image* images,
                                   const float4* faces, const float* numbers, const float* dy, Raster raster, Rooms rooms,
                                   int part_count, int background_sums, int backgrounds) {
    int sample = thread_number(), samples = raster.columns * raster.rows;
    bool is_there = sample < samples;
    double units[3];
    for (int k = 0; k < 3; k++) units[k] = units_of(largest[k], rooms.of[k]);
    float3 g = make_float3(0.0f, 0.0f, 0.0f), lit = g, own = g;
    if (is_there) g = load3(dy, (long long)blockIdx.y * samples + sample);
    Shown shown;
    Mixture m;
    m.count = 0;
    bool has_face = shown_at(shown, parts, part_count, faces, images, numbers, raster, sample);
    int light_at = 0, colours_at = 0;
    bool of_light = false, of_colours = false;
    if (has_face) {
        const Part& part = parts[shown.part];
        mixture_of(m, part, shown);
        of_light = part.light_sums >= 0;
        of_colours = part.colour_sums >= 0;
        // Sums are three to an index.
        light_at = part.light_sums / 3 + shown.side;
        colours_at = part.colour_sums / 3;
        if (of_light) own = times(g, colour_of(m, part));
        lit = times(g, load3(part.light, shown.side));
    }
    scatter3(sums, of_light, light_at, own, units[0]);
    for (int i = 0; i < 8; i++) {
        bool adds = of_colours && i < m.count;
        float3 term = adds ? times(lit, m.weights[i]) : lit;
        scatter3(sums, adds, adds ? colours_at + m.indices[i] : 0, term, units[1]);
    }
    if (background_sums > 0) {
        scatter3(sums, is_there && !has_face, (background_sums - 1) / 3 + blockIdx.y % backgrounds, g, units[2]);
    }
}

extern "C" __global__ void numbers_of_sums(const Output* outputs, const unsigned long long* sums, const unsigned* largest, Rooms rooms,
                                 int output_count, int count) {
    write_sums(outputs, output_count, sums, largest, rooms, count);
}
