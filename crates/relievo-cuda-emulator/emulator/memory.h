// Device and pinned memory with guards around it. Implemented in memory.cpp; the caller holds the device.
#pragma once
#include <cstddef>
#include <string>

namespace emulator {

enum class Memory { device, pinned, module_variable };

// 0, or CUDA's number for the error.
int allocate(size_t bytes, Memory kind, void** pointer);
int release(void* pointer, Memory kind, std::string& damage);
// Makes a variable of a module known as a place to copy to and from.
void adopt_variable(void* pointer, size_t bytes);
void forget_variable(void* pointer);

// Whether all of [pointer, pointer + bytes) lies in one live allocation; `device` excludes pinned memory.
bool is_accessible(const void* pointer, size_t bytes, bool device);
bool is_pinned(const void* pointer);
bool find_allocation(const void* pointer, void** start, size_t* bytes);

// What a stray write has damaged since the last call; empty if nothing.
std::string check_guards();
size_t allocations();

size_t total_memory();
size_t free_memory();

// A few words about where an address lies; may be called from a signal handler while the device is held.
void describe_address(const void* address, char* text, size_t size);

}  // namespace emulator
