// What the nearest sample of each pixel shows. A thread for each pixel; y of the grid counts images.

struct Part {
    const float* attributes;  // of vertices or of faces
    const int* indices;       // of the faces before any was cut
    const Piece* pieces;      // null if no face was cut
    int first;                // face among those of all images
    int before;               // faces of the image before those of the part, before any was cut
    int sums;                 // where the sums of gradients begin
    int unused;
};

struct Shown {
    int part, face;
    bool back;
    float weights[3];
};

struct Size {
    int width, height, per_pixel;
};

// The nearest sample of each pixel, of equals the first; -1 where there is no face.
extern "C" __global__ void nearest(int* samples, const float* numbers, const float* depths, Raster raster, Size size) {
    int p = thread_number();
    if (p >= size.width * size.height) return;
    long long image = (long long)blockIdx.y * raster.columns * raster.rows;
    int corner = (size.height - 1 - p / size.width) * size.per_pixel * raster.columns + p % size.width * size.per_pixel;
    int best = -1;
    float least = 0.0f;
    for (int i = 0; i < size.per_pixel * size.per_pixel; i++) {
        int sample = corner + i / size.per_pixel * raster.columns + i % size.per_pixel;
        float depth = depths[image + sample];
        if (numbers[image + sample] >= 0.0f && (best < 0 || depth < least)) {
            best = sample;
            least = depth;
        }
    }
    samples[(long long)blockIdx.y * size.width * size.height + p] = best;
}

__device__ __forceinline__ bool shown_at(Shown& shown, const Part* parts, int part_count, const float4* faces,
                                         const Image* images, const float* numbers, const int* samples, const Raster& raster,
                                         const Size& size, int p) {
    if (p >= size.width * size.height) return false;
    int sample = samples[(long long)blockIdx.y * size.width * size.height + p];
    if (sample < 0) return false;
    int number = (int)numbers[(long long)blockIdx.y * raster.columns * raster.rows + sample];
    Image image = images[blockIdx.y];
    int face = face_of(image, number);
    shown.back = number >= image.count;
    shown.part = entry_of(parts, part_count, face);
    const Part& part = parts[shown.part];
    Triangle t = triangle_of(load_face(faces, face).corners, raster);
    surface_weights(t, sample % raster.columns, sample / raster.columns, shown.weights);
    shown.face = on_face(part.pieces, face - part.first, shown.back, shown.weights);
    return true;
}

// The face, counted through all of the image, and the barycentric coordinates.
extern "C" __global__ void identify(float* index, float* barycentrics, const Part* parts, const Image* images,
                                    const float4* faces, const float* numbers, const int* samples, Raster raster, Size size,
                                    int part_count) {
    int p = thread_number();
    if (p >= size.width * size.height) return;
    Shown shown;
    bool has_face = shown_at(shown, parts, part_count, faces, images, numbers, samples, raster, size, p);
    long long pixel = (long long)blockIdx.y * size.width * size.height + p;
    index[pixel] = has_face ? (float)(parts[shown.part].before + shown.face) : -1.0f;
    for (int k = 0; k < 3; k++) barycentrics[3 * pixel + k] = has_face ? shown.weights[k] : 0.0f;
}

// The attributes of vertices interpolated, or those of faces. Signed ones change their sign on backs.
extern "C" __global__ void interpolate(float* to, const Part* parts, const Image* images, const float4* faces,
                                       const float* numbers, const int* samples, Raster raster, Size size, int part_count,
                                       int per_vertex, int is_signed) {
    int p = thread_number();
    if (p >= size.width * size.height) return;
    Shown shown;
    float3 sum = make_float3(0.0f, 0.0f, 0.0f);
    if (shown_at(shown, parts, part_count, faces, images, numbers, samples, raster, size, p)) {
        const Part& part = parts[shown.part];
        float sign = is_signed && shown.back ? -1.0f : 1.0f;
        if (per_vertex) {
            for (int k = 0; k < 3; k++) {
                int vertex = part.indices[3 * shown.face + k];
                sum = plus(sum, times(load3(part.attributes, vertex), times(sign, shown.weights[k])));
            }
        } else {
            sum = times(load3(part.attributes, shown.face), sign);
        }
    }
    store3(to, (long long)blockIdx.y * size.width * size.height + p, sum);
}

extern "C" __global__ void look(unsigned* largest, const int* samples, const float* dy, Size size) {
    int p = thread_number();
    long long pixel = (long long)blockIdx.y * size.width * size.height + p;
    bool has_face = p < size.width * size.height && samples[pixel] >= 0;
    for (int k = 0; k < 3; k++) note_largest(largest, has_face ? dy[3 * pixel + k] : 0.0f);
}

extern "C" __global__ void scatter(unsigned long long* sums, const unsigned* largest, const Part* parts, const Image* images,
                                   const float4* faces, const float* numbers, const int* samples, const float* dy,
                                   Raster raster, Size size, Rooms rooms, int part_count, int per_vertex, int is_signed) {
    int p = thread_number();
    Shown shown;
    bool has_face = shown_at(shown, parts, part_count, faces, images, numbers, samples, raster, size, p);
    double units = units_of(*largest, rooms.of[0]);
    float3 g = make_float3(0.0f, 0.0f, 0.0f);
    int first = 0;
    const int* corners = nullptr;
    if (has_face) {
        const Part& part = parts[shown.part];
        g = load3(dy, (long long)blockIdx.y * size.width * size.height + p);
        if (is_signed && shown.back) g = times(g, -1.0f);
        first = part.sums / 3;
        corners = part.indices + 3ll * shown.face;
    }
    if (!per_vertex) {
        scatter3(sums, has_face, has_face ? first + shown.face : 0, g, units);
        return;
    }
    for (int k = 0; k < 3; k++) {
        scatter3(sums, has_face, has_face ? first + corners[k] : 0, has_face ? times(g, shown.weights[k]) : g, units);
    }
}

extern "C" __global__ void numbers_of_sums(const Output* outputs, const unsigned long long* sums, const unsigned* largest, Rooms rooms,
                                 int output_count, int count) {
    write_sums(outputs, output_count, sums, largest, rooms, count);
}
