// The machine's inside, for the other parts of libcuda.so and for libcudnn.so. Implemented in machine.cpp.
#pragma once
#include "abi.h"
#include <functional>
#include <string>
#include <vector>

namespace emulator {

struct Module {
    void* handle = nullptr;  // of dlopen
    std::string path;
    const EmulatorKernel* kernels = nullptr;
    size_t shared_bytes = 0;  // __shared__ variables of all its kernels: its thread-local storage
    void* (*touch_shared)() = nullptr;
    size_t number = 0;
};

struct Function {
    Module* module = nullptr;
    const EmulatorKernel* kernel = nullptr;
    int dynamic_shared_limit = 48 * 1024;
    unsigned launches = 0;
};

// A kernel launch with its arguments copied, ready to run any number of times.
struct Launch {
    Function* function;
    dim3 grid, block;
    unsigned shared_bytes;
    std::vector<unsigned long long> storage;
    std::vector<void*> arguments;
};

// Runs a launch to its end. Empty if all went well, else what went wrong.
std::string run_launch(Launch& launch);

// Calls body(i) for every i below count, on all cores. Not reentrant; the caller holds the device.
void parallel_for(size_t count, const std::function<void(size_t)>& body);

// The number of cores that work.
size_t workers();

// A line about the kernel and thread that a signal interrupted; false if none was running.
bool describe_current(char* text, size_t size);

}  // namespace emulator
