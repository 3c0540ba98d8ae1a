// What is drawn, part by part.

struct Part {
    const float* screen;
    const int* indices;
    int first;  // face among those of all images
    int image;
    int vertex;        // first vertex among those of all images
    int image_vertex;  // that of the image
};
