// A thread for each light. Ranges are least and greatest strength.

// (x, y, 1) / norm
__device__ __forceinline__ float3 direction(float x, float y, float& norm) {
    norm = sqrtf(x * x + y * y + 1.0f);
    return make_float3(x / norm, y / norm, 1.0f / norm);
}

extern "C" __global__ void forward(float* light, const float* raw, float2 ambient, float2 diffuse, int count) {
    int i = thread_number();
    if (i >= count) return;
    light += 5 * i;
    raw += 4 * i;
    float norm;
    float3 l = direction(raw[2], raw[3], norm);
    light[0] = ambient.x + (1.0f + raw[0]) / 2.0f * (ambient.y - ambient.x);
    light[1] = diffuse.x + (1.0f + raw[1]) / 2.0f * (diffuse.y - diffuse.x);
    light[2] = l.x;
    light[3] = l.y;
    light[4] = l.z;
}

extern "C" __global__ void backward(float* draw, const float* raw, const float* dy, float2 ambient, float2 diffuse,
                                    int count) {
    int i = thread_number();
    if (i >= count) return;
    draw += 4 * i;
    raw += 4 * i;
    dy += 5 * i;
    float norm;
    float3 l = direction(raw[2], raw[3], norm);
    float along = dot(l, make_float3(dy[2], dy[3], dy[4]));
    draw[0] = dy[0] * (ambient.y - ambient.x) / 2.0f;
    draw[1] = dy[1] * (diffuse.y - diffuse.x) / 2.0f;
    draw[2] = (dy[2] - l.x * along) / norm;
    draw[3] = (dy[3] - l.y * along) / norm;
}
