// What compiled kernels, the machine that runs them, the driver and the other libraries agree on.
//
// Kernels include this through device.h, so it uses no standard header: NVRTC has none either, and a kernel that
// leans on one must fail to compile here too.
#pragma once

// Bumped whenever the layout below changes: a module built for another number is refused when it is loaded.
#define EMULATOR_ABI 1

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator uint3() const { return uint3{x, y, z}; }
};

// What one CUDA thread knows about itself.
struct EmulatorThread {
    uint3 thread;        // threadIdx
    uint3 block;         // blockIdx
    dim3 block_size;     // blockDim
    dim3 grid_size;      // gridDim
    void* dynamic_shared;
};

// One __global__ function of a module; the module's table of them ends with a null name.
struct EmulatorKernel {
    const char* name;
    void (*run)(void** arguments);  // runs threads until emulator_next_thread says there are no more
    const unsigned* sizes;          // of the arguments, in bytes
    unsigned count;
    unsigned launch_bound;          // of __launch_bounds__, or 0
};

enum EmulatorWarpOperation : int {
    EMULATOR_SYNC,
    EMULATOR_SHUFFLE,
    EMULATOR_SHUFFLE_UP,
    EMULATOR_SHUFFLE_DOWN,
    EMULATOR_SHUFFLE_XOR,
    EMULATOR_BALLOT,
    EMULATOR_ANY,
    EMULATOR_ALL,
    EMULATOR_MATCH_ANY,
    EMULATOR_REDUCE_ADD,
    EMULATOR_REDUCE_MIN_SIGNED,
    EMULATOR_REDUCE_MAX_SIGNED,
    EMULATOR_REDUCE_MIN_UNSIGNED,
    EMULATOR_REDUCE_MAX_UNSIGNED,
    EMULATOR_REDUCE_AND,
    EMULATOR_REDUCE_OR,
    EMULATOR_REDUCE_XOR,
};

struct EmulatorVotes {
    int count, any, all;
};

extern "C" {
// The thread that runs now on this core. One pointer in static thread storage: reading it costs one load.
extern __thread EmulatorThread* emulator_current __attribute__((tls_model("initial-exec")));
// Ends the current thread and begins another one in its place, if the block still has one to begin.
int emulator_next_thread();
// __syncthreads and its voting variants.
EmulatorVotes emulator_block_barrier(int predicate);
// Every primitive of a warp: waits for the lanes of `mask`, then returns what this lane gets.
unsigned long long emulator_warp(EmulatorWarpOperation operation, unsigned mask, unsigned long long value,
                                 int parameter, int width);
unsigned emulator_active_lanes();
// Ends the launch with an error that sticks to the context.
void emulator_trap(const char* what, const char* file, unsigned line) __attribute__((noreturn));
}
