// The colours of samples: a thread for each, forward and backward. y of the grid counts images. Gradients are scatters, in
// fixed point: `look` finds the largest terms, `scatter` adds, `numbers_of_sums` makes numbers of the sums.

__device__ __forceinline__ bool shown_at(Shown& shown, const Surface* parts, int part_count, const float4* faces,
                                         const Image* images, const float* numbers, const Raster& raster, int sample) {
    bool is_there = sample < raster.columns * raster.rows;
    float number = is_there ? numbers[(long long)blockIdx.y * raster.columns * raster.rows + sample] : -1.0f;
    if (number < 0.0f) return false;
    Image image = images[blockIdx.y];
    int face = face_of(image, (int)number);
    Triangle t = triangle_of(load_face(faces, face).corners, raster);
    surface_weights(t, sample % raster.columns, sample / raster.columns, shown.weights);
    show(shown, parts, part_count, face, (int)number >= image.count);
    return true;
}

extern "C" __global__ void shade(float* colours, const Surface* parts, const Image* images, const float4* faces,
                                 const float* numbers, const float* background, Raster raster, int part_count,
                                 int backgrounds) {
    int sample = thread_number();
    if (sample >= raster.columns * raster.rows) return;
    Shown shown;
    float3 colour;
    if (shown_at(shown, parts, part_count, faces, images, numbers, raster, sample)) {
        Mixture m;
        colour = lit_colour(parts, shown, m);
    } else {
        colour = load3(background, blockIdx.y % backgrounds);
    }
    store3(colours, (long long)blockIdx.y * raster.columns * raster.rows + sample, colour);
}

// The largest of the terms of light, colours and background, in this order.
extern "C" __global__ void look(unsigned* largest, const Surface* parts, const Image* images, const float4* faces,
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
            const Surface& part = parts[shown.part];
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
extern "C" __global__ void scatter(unsigned long long* sums, const unsigned* largest, const Surface* parts, const Image* images,
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
        const Surface& part = parts[shown.part];
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
