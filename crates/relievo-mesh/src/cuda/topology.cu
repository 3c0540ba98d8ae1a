// Which sides of faces belong to one edge, and which edges are silhouettes: those of which all faces that are drawn lie on
// one side. Ends are compared by their places on the screen and not by their indices, so seams do not tear a surface.
//
// Two tables are filled by whoever comes first; what is read of them afterwards does not depend on who that was: the lowest
// number of a place, the number of sides of an edge and the first of them. Entries begin as zero, which is nothing.

// A number that is scattered evenly for numbers that are close (the finaliser of SplitMix64, Steele, Lea and Flood 2014).
__device__ __forceinline__ unsigned long long scattered(unsigned long long x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

// The part of a vertex among those of all images.
__device__ __forceinline__ int part_of_vertex(const Part* parts, int part_count, int vertex) {
    int low = 0, high = part_count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (parts[middle].vertex <= vertex) low = middle;
        else high = middle;
    }
    return low;
}

// The bits of a vertex's place on the screen, with one zero; and its image.
struct Place {
    unsigned x, y, z;
    int image;
};

__device__ __forceinline__ Place place_of(const Part* parts, int part_count, int vertex) {
    const Part& part = parts[part_of_vertex(parts, part_count, vertex)];
    float3 at = load3(part.screen, vertex - part.vertex);
    Place place;
    place.x = __float_as_uint(plus(at.x, 0.0f));
    place.y = __float_as_uint(plus(at.y, 0.0f));
    place.z = __float_as_uint(plus(at.z, 0.0f));
    place.image = part.image;
    return place;
}
__device__ __forceinline__ bool is_same(const Place& a, const Place& b) {
    return a.x == b.x && a.y == b.y && a.z == b.z && a.image == b.image;
}
__device__ __forceinline__ int slot_of(const Place& place, int mask) {
    unsigned long long bits = scattered(((unsigned long long)place.x << 32 | place.y) + 1);
    return (int)(scattered(bits ^ ((unsigned long long)place.z << 32 | (unsigned)place.image)) & (unsigned)mask);
}

// `table` has the lowest vertex of each place, plus one.
extern "C" __global__ void insert_vertices(int* table, const Part* parts, int part_count, int mask, int vertex_count) {
    int vertex = thread_number();
    if (vertex >= vertex_count) return;
    Place place = place_of(parts, part_count, vertex);
    for (int slot = slot_of(place, mask);; slot = (slot + 1) & mask) {
        int there = atomicCAS(table + slot, 0, vertex + 1);
        if (there == 0) return;
        if (is_same(place, place_of(parts, part_count, there - 1))) {
            atomicMin(table + slot, vertex + 1);
            return;
        }
    }
}

extern "C" __global__ void find_vertices(int* first, const int* table, const Part* parts, int part_count, int mask,
                                         int vertex_count) {
    int vertex = thread_number();
    if (vertex >= vertex_count) return;
    Place place = place_of(parts, part_count, vertex);
    int slot = slot_of(place, mask);
    while (!is_same(place, place_of(parts, part_count, table[slot] - 1))) slot = (slot + 1) & mask;
    first[vertex] = table[slot] - 1;
}

// For each face that is drawn the vertices at its corners, as they are seen, each the first of its place; and the edges of its
// sides. Of each edge `keys` has the ends, `owners` the complement of the first side, `counts` the sides that go from the
// higher end to the lower one and the others.
extern "C" __global__ void insert_sides(int* corners, int* edges, unsigned long long* keys, unsigned* owners, int* counts,
                                        const float4* faces, const Part* parts, const Image* images, const int* first,
                                        int part_count, int mask, int face_count) {
    int f = thread_number();
    if (f >= face_count) return;
    Face face = load_face(faces, f);
    if (face.number < 0) return;
    const Part& part = parts[entry_of(parts, part_count, f)];
    const int* indices = part.indices + 3ll * (f - part.first);
    bool back = face.number >= images[part.image].count;
    int own[3];
    for (int k = 0; k < 3; k++) {
        own[k] = first[part.vertex + indices[back ? 2 - k : k]];
        corners[3ll * f + k] = own[k];
    }
    for (int k = 0; k < 3; k++) {
        int from = own[k], to = own[(k + 1) % 3];
        unsigned long long key = ((unsigned long long)min(from, to) << 32 | (unsigned)max(from, to)) + 1;
        int slot = (int)(scattered(key) & (unsigned)mask);
        for (;; slot = (slot + 1) & mask) {
            unsigned long long there = atomicCAS(keys + slot, 0ull, key);
            if (there == 0 || there == key) break;
        }
        edges[3ll * f + k] = slot;
        atomicMax(owners + slot, ~(unsigned)(3 * f + k));
        atomicAdd(counts + 2ll * slot + (from < to ? 1 : 0), 1);
    }
}
