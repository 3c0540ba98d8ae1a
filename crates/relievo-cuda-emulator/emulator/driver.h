// What libcudnn.so needs of the driver: streams to put work on, and the means to check pointers.
#pragma once
#include <functional>
#include <string>

namespace emulator {

// One thing for the device to do. Empty if it went well, else what went wrong.
using Work = std::function<std::string()>;

// Queues work on a stream, or records it if the stream is being captured. 0, or CUDA's number for the error.
int submit(void* stream, const char* name, Work work);
bool is_capturing(void* stream);
// Waits for all work, as a call that synchronises does; 0 or the error.
int finish();

// Holds the device: nothing else runs or changes.
void lock_device();
void unlock_device();
struct Hold {
    Hold() { lock_device(); }
    ~Hold() { unlock_device(); }
    Hold(const Hold&) = delete;
};

// A line on stderr about a mistake of the caller.
void complain(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace emulator
