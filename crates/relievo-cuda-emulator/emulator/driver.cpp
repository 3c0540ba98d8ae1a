// libcuda.so: the part of CUDA's driver interface that relievo uses.
//
// One device, its primary context, any number of host threads; a single lock makes every call a turn of its own. Work on streams
// is queued and happens when somebody waits for it (or a few hundred more calls later), and only that which the waiting call
// really waits for, with what streams and events put before it. Of what may happen next the latest happens first. So a host
// that forgets to wait, or a stream that does not wait for another one, finds what was there before, as it may on a GPU.
// RELIEVO_EMULATOR_QUEUE=0 makes all work happen at once, for debugging.
//
// Copies from pageable memory do no more than CUDA promises. A synchronous copy has read its source when it returns, but
// arrives with the legacy stream's work. An asynchronous copy reads its source when it arrives: whoever changes or frees
// that memory before the stream was waited for finds the wrong numbers. Copies to pageable memory happen during the call.
//
// A stream that is being captured executes nothing: launches, copies, fills and convolutions become nodes of a graph, with
// the dependencies that streams and events give them. Every second launch of a graph runs its nodes in another order that
// the dependencies allow, so that a missing one is likely to show. Calls that are not allowed during a capture fail as
// they do there and spoil it.
//
// An error in a kernel (__trap, assert, a damaged guard) sticks: every later call returns it. A kernel that touches memory
// outside all allocations, divides an integer by zero or leaves an array with a known extent ends the process with a message.
//
// Not here: contexts other than the primary one, textures, managed memory, peers, memory nodes in graphs, editing of graphs.
#include "driver.h"
#include "machine.h"
#include "memory.h"
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

using namespace emulator;

namespace {

enum Result : int {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    FILE_NOT_FOUND = 301,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_OUT_OF_RESOURCES = 701,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_MERGE = 902,
    CAPTURE_UNMATCHED = 903,
    CAPTURE_UNJOINED = 904,
    CAPTURE_ISOLATION = 905,
    CAPTURE_IMPLICIT = 906,
    CAPTURED_EVENT = 907,
    CAPTURE_WRONG_THREAD = 908,
};

struct Name {
    int code;
    const char *name, *text;
};
constexpr Name NAMES[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {FILE_NOT_FOUND, "CUDA_ERROR_FILE_NOT_FOUND", "file not found"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {CAPTURE_MERGE, "CUDA_ERROR_STREAM_CAPTURE_MERGE", "operation would result in a merge of separate capture sequences"},
    {CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began"},
    {CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"},
    {CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing blocking stream"},
    {CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
    {CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD", "attempt to terminate a thread-local capture sequence from another thread"},
};

// ---- What there is ----

struct Node {
    std::string name;
    Work work;
    std::vector<size_t> after;  // nodes that must have happened
};

struct Graph {
    std::vector<Node> nodes;
};

struct Executable {
    std::shared_ptr<const Graph> graph;
    unsigned launches = 0;
};

struct Stream;

struct Capture {
    std::shared_ptr<Graph> graph = std::make_shared<Graph>();
    Stream* origin = nullptr;
    int mode = 0;
    const void* thread = nullptr;
    bool spoiled = false;
    std::set<Stream*> members;
};

struct Stream {
    unsigned flags = 0;
    int priority = 0;
    size_t last = 0;               // the latest entry of the queue that is of this stream
    std::set<size_t> awaited;      // entries that the next one of this stream must wait for
    std::shared_ptr<Capture> capture;
    std::set<size_t> frontier;     // in a capture: the nodes that the next one comes after
};

struct Event {
    unsigned flags = 0;
    bool recorded = false;
    size_t entry = 0;    // of the queue: its latest record
    size_t pending = 0;  // records still in the queue
    std::chrono::steady_clock::time_point time;
    std::shared_ptr<Capture> capture;
    std::set<size_t> frontier;
};

struct Entry {
    std::string name;
    Work work;
    std::set<size_t> after;  // entries that must have happened
};

struct Driver {
    std::recursive_mutex mutex;
    bool initialized = false;
    int sticky = SUCCESS;
    bool queues = true;
    int retained = 0;
    std::map<size_t, Entry> queue;  // by number; what is not here any more has happened
    size_t next_entry = 1;
    bool draining = false;
    std::vector<std::string> since_check;  // kernels since the guards were last checked
    Stream legacy, per_thread;
    std::set<Stream*> streams;
    std::set<Event*> events;
    std::set<Module*> modules;
    std::set<Function*> functions;
    std::set<std::shared_ptr<Graph>*> graphs;
    std::set<Executable*> executables;
    std::set<std::shared_ptr<Capture>> captures;
    size_t next_module = 0;
    struct sigaction before[32];

    Driver() {
        const char* text = std::getenv("RELIEVO_EMULATOR_QUEUE");
        queues = !(text && std::strcmp(text, "0") == 0);
    }
};

// Never destroyed: other threads may still call at exit.
Driver& driver() {
    static Driver* only = new Driver;
    return *only;
}

char primary_context;  // its address is the handle
__thread void* current_context = nullptr;
__thread char this_thread;  // its address names the thread

constexpr size_t LONGEST_QUEUE = 512;
constexpr size_t FEW_ALLOCATIONS = 512;

}  // namespace

namespace emulator {

void lock_device() { driver().mutex.lock(); }
void unlock_device() { driver().mutex.unlock(); }

void complain(const char* format, ...) {
    char text[1024];
    va_list list;
    va_start(list, format);
    std::vsnprintf(text, sizeof text, format, list);
    va_end(list);
    std::fprintf(stderr, "CUDA emulator: %s\n", text);
}

}  // namespace emulator

namespace {

// ---- Running ----

void check_guards_now() {
    Driver& d = driver();
    std::string damage = check_guards();
    if (!damage.empty()) {
        std::string who = d.since_check.empty() ? "something on the host" : "";
        for (size_t i = 0; i < d.since_check.size() && i < 8; i++) who += (i ? " or " : "") + d.since_check[i];
        if (d.since_check.size() > 8) who += " or another one of " + std::to_string(d.since_check.size());
        complain("%s left its memory:%s", who.c_str(), damage.c_str());
        if (!d.sticky) d.sticky = ILLEGAL_ADDRESS;
    }
    d.since_check.clear();
}

void perform(const std::string& name, const Work& work) {
    Driver& d = driver();
    if (d.sticky) return;
    std::string failure = work();
    d.since_check.push_back(name);
    if (!failure.empty()) {
        complain("%s", failure.c_str());
        d.sticky = LAUNCH_FAILED;
        return;
    }
    if (allocations() <= FEW_ALLOCATIONS) check_guards_now();
}

// Does these entries of the queue and all that comes before them, always the latest that may happen.
int drain(const std::set<size_t>& wanted) {
    Driver& d = driver();
    if (d.draining) return d.sticky;  // a host function calls back
    std::vector<size_t> look(wanted.begin(), wanted.end());
    std::map<size_t, size_t> missing;  // how many entries each one of them still waits for
    std::map<size_t, std::vector<size_t>> then;
    std::set<size_t> ready;
    while (!look.empty()) {
        size_t number = look.back();
        look.pop_back();
        auto entry = d.queue.find(number);
        if (entry == d.queue.end() || missing.count(number)) continue;
        size_t& count = missing[number] = 0;
        for (size_t before : entry->second.after) {
            if (!d.queue.count(before)) continue;
            count++;
            then[before].push_back(number);
            look.push_back(before);
        }
        if (!count) ready.insert(number);
    }
    d.draining = true;
    while (!ready.empty()) {
        size_t number = *ready.rbegin();
        ready.erase(number);
        auto entry = d.queue.extract(number);
        perform(entry.mapped().name, entry.mapped().work);
        for (size_t next : then[number])
            if (--missing[next] == 0) ready.insert(next);
    }
    d.draining = false;
    return d.sticky;
}

std::set<size_t> everything() {
    std::set<size_t> all;
    for (const auto& [number, entry] : driver().queue) all.insert(number);
    return all;
}

int drain() { return drain(everything()); }

// As a call that waits for these entries.
int synchronise(const std::set<size_t>& wanted) {
    drain(wanted);
    check_guards_now();
    return driver().sticky;
}

// What must have happened before the next work on a stream: what it had, the events it waits for, and, between the legacy
// stream and those that are not non-blocking, what the other side had.
std::set<size_t> before_next(const Stream* stream) {
    Driver& d = driver();
    std::set<size_t> before = stream->awaited;
    before.insert(stream->last);
    if (stream == &d.legacy) {
        before.insert(d.per_thread.last);
        for (const Stream* other : d.streams)
            if (!(other->flags & 1)) before.insert(other->last);
    } else if (!(stream->flags & 1)) {
        before.insert(d.legacy.last);
    }
    return before;
}

void enqueue(Stream* stream, const char* name, Work work) {
    Driver& d = driver();
    size_t number = d.next_entry++;
    d.queue[number] = Entry{name, std::move(work), before_next(stream)};
    stream->awaited.clear();
    stream->last = number;
    if (!d.queues || d.queue.size() > LONGEST_QUEUE) drain();
}

// Runs the nodes of a graph: as recorded, or, every second time, always the latest one that may run.
std::string run_graph(const Graph& graph, bool other_order) {
    size_t count = graph.nodes.size();
    if (!other_order) {
        for (const Node& node : graph.nodes) {
            perform(node.name, node.work);
            if (driver().sticky) return "";
        }
        return "";
    }
    std::vector<size_t> missing(count);
    std::vector<std::vector<size_t>> then(count);
    std::set<size_t> ready;
    for (size_t i = 0; i < count; i++) {
        missing[i] = graph.nodes[i].after.size();
        for (size_t before : graph.nodes[i].after) then[before].push_back(i);
        if (!missing[i]) ready.insert(i);
    }
    while (!ready.empty()) {
        size_t i = *ready.rbegin();
        ready.erase(i);
        perform(graph.nodes[i].name, graph.nodes[i].work);
        if (driver().sticky) return "";
        for (size_t next : then[i])
            if (--missing[next] == 0) ready.insert(next);
    }
    return "";
}

// ---- Capturing ----

Stream* stream_of(void* handle) {
    auto number = reinterpret_cast<uintptr_t>(handle);
    if (number <= 1) return &driver().legacy;
    if (number == 2) return &driver().per_thread;
    auto* stream = static_cast<Stream*>(handle);
    return driver().streams.count(stream) ? stream : nullptr;
}

void spoil(const std::shared_ptr<Capture>& capture, const char* call) {
    if (!capture->spoiled) complain("%s is not permitted during a stream capture and spoils it", call);
    capture->spoiled = true;
}

// For calls that may synchronise or allocate: forbidden while another stream is captured in a mode that minds.
int unsafe_call(const char* call) {
    int result = SUCCESS;
    for (const auto& capture : driver().captures) {
        if (capture->mode == 2 || (capture->mode == 1 && capture->thread != &this_thread)) continue;
        spoil(capture, call);
        result = CAPTURE_UNSUPPORTED;
    }
    return result;
}

// For calls that use the legacy stream, which waits for all blocking streams.
int legacy_call(const char* call) {
    for (const auto& capture : driver().captures) {
        for (Stream* member : capture->members) {
            if (member->flags & 1) continue;
            spoil(capture, call);
            return CAPTURE_IMPLICIT;
        }
    }
    return SUCCESS;
}

int submit_to(Stream* stream, const char* name, Work work) {
    if (stream == &driver().legacy) {
        if (int error = legacy_call(name)) return error;
    }
    if (stream->capture) {
        Capture& capture = *stream->capture;
        if (capture.spoiled) return CAPTURE_INVALIDATED;
        size_t index = capture.graph->nodes.size();
        capture.graph->nodes.push_back(
            Node{name, std::move(work), std::vector<size_t>(stream->frontier.begin(), stream->frontier.end())});
        stream->frontier = {index};
        return SUCCESS;
    }
    enqueue(stream, name, std::move(work));
    return SUCCESS;
}

// ---- Signals ----

void on_signal(int number, siginfo_t* info, void* context) {
    char who[256], where[256];
    if (describe_current(who, sizeof who)) {
        const char* what = number == SIGFPE   ? "divides an integer by zero"
                           : number == SIGILL ? "leaves an array, uses an address that is not aligned to its type, or shifts by too much"
                                              : "touches memory that is not its own:";
        where[0] = 0;
        if (number == SIGSEGV || number == SIGBUS) describe_address(info->si_addr, where, sizeof where);
        char text[640];
        int length = std::snprintf(text, sizeof text, "CUDA emulator: %s %s %s\n", who, what, where);
        if (write(2, text, static_cast<size_t>(length)) < 0) {}
        std::signal(SIGABRT, SIG_DFL);
        std::abort();
    }
    struct sigaction& before = driver().before[number];
    if (before.sa_flags & SA_SIGINFO) before.sa_sigaction(number, info, context);
    else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) sigaction(number, &before, nullptr);
    else before.sa_handler(number);
}

void watch_signals() {
    for (int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) {
        struct sigaction action {};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        sigaction(number, &action, &driver().before[number]);
    }
}

// ---- Modules ----

std::string own_folder() {
    Dl_info info;
    dladdr(reinterpret_cast<void*>(&own_folder), &info);
    std::string path = info.dli_fname;
    return path.substr(0, path.rfind('/'));
}

struct Segment {
    uintptr_t base;
    size_t bytes;
};

int find_thread_storage(struct dl_phdr_info* info, size_t, void* data) {
    auto* segment = static_cast<Segment*>(data);
    if (info->dlpi_addr != segment->base) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_TLS) segment->bytes = info->dlpi_phdr[i].p_memsz;
    return 1;
}

int open_module(const std::string& path, void** handle) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        complain("cannot load the module %s: %s", path.c_str(), dlerror());
        return INVALID_IMAGE;
    }
    auto* abi = static_cast<const unsigned*>(dlsym(library, "emulator_abi"));
    if (!abi || *abi != EMULATOR_ABI) {
        complain("the module %s was compiled by another version of the emulator", path.c_str());
        dlclose(library);
        return NO_BINARY_FOR_GPU;
    }
    auto* module = new Module;
    module->handle = library;
    module->path = path;
    module->kernels = static_cast<const EmulatorKernel*>(dlsym(library, "emulator_kernels"));
    module->touch_shared = reinterpret_cast<void* (*)()>(dlsym(library, "emulator_touch_shared"));
    struct link_map* map = nullptr;
    dlinfo(library, RTLD_DI_LINKMAP, &map);
    Segment segment{map ? map->l_addr : 0, 0};
    dl_iterate_phdr(find_thread_storage, &segment);
    module->shared_bytes = segment.bytes;
    module->number = driver().next_module++;
    driver().modules.insert(module);
    *handle = module;
    return SUCCESS;
}

// An image is the text or the binary form that nvrtc.cpp writes; see there.
int load_image(const void* image, void** module) {
    constexpr const char TEXT[] = "// CUDA emulator module\n// ", BINARY[] = "CUDA emulator binary\n";
    auto* bytes = static_cast<const char*>(image);
    if (std::strncmp(bytes, TEXT, sizeof TEXT - 1) == 0) {
        const char* path = bytes + sizeof TEXT - 1;
        return open_module(std::string(path, std::strcspn(path, "\n")), module);
    }
    if (std::strncmp(bytes, BINARY, sizeof BINARY - 1) != 0) {
        complain("cuModuleLoadData: the image does not come from this emulator");
        return INVALID_IMAGE;
    }
    unsigned abi;
    unsigned long long hash;
    size_t size;
    int skip = 0;
    if (std::sscanf(bytes + sizeof BINARY - 1, "%u %llx %zu\n%n", &abi, &hash, &size, &skip) != 3 || abi != EMULATOR_ABI) {
        complain("cuModuleLoadData: the image was compiled by another version of the emulator");
        return NO_BINARY_FOR_GPU;
    }
    // %n stops before the library's first byte only if that is no white space; ELF begins with 0x7F.
    const char* library = bytes + sizeof BINARY - 1 + skip;
    char name[64];
    std::snprintf(name, sizeof name, "/kernels/%016llx.so", hash);
    std::string path = own_folder() + name;
    struct stat status;
    if (stat(path.c_str(), &status) != 0) {
        std::string part = path + "." + std::to_string(getpid());
        int file = open(part.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0755);
        if (file < 0) return FILE_NOT_FOUND;
        bool whole = write(file, library, size) == static_cast<ssize_t>(size);
        close(file);
        if (!whole || rename(part.c_str(), path.c_str()) != 0) return FILE_NOT_FOUND;
    }
    return open_module(path, module);
}

// ---- Copies ----

int check_device(const char* call, const void* pointer, size_t bytes) {
    if (bytes == 0 || is_accessible(pointer, bytes, false)) return SUCCESS;
    char where[256];
    describe_address(pointer, where, sizeof where);
    void* start = nullptr;
    size_t size = 0;
    if (find_allocation(pointer, &start, &size))
        complain("%s: %zu bytes at byte %td of an allocation of %zu bytes", call, bytes,
                 static_cast<const char*>(pointer) - static_cast<char*>(start), size);
    else
        complain("%s: %zu bytes at %s", call, bytes, where);
    return INVALID_VALUE;
}

int copy_now(const char* call, void* to, const void* from, size_t bytes) {
    if (int error = legacy_call(call)) return error;
    if (int error = unsafe_call(call)) return error;
    if (int error = synchronise(before_next(&driver().legacy))) return error;
    std::memcpy(to, from, bytes);
    return SUCCESS;
}

int copy_later(const char* name, void* to, const void* from, size_t bytes, Stream* stream) {
    return submit_to(stream, name, [=] {
        std::memmove(to, from, bytes);
        return std::string();
    });
}

template <class T>
int fill(const char* name, void* to, T value, size_t count, void* handle) {
    Stream* stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    if (reinterpret_cast<uintptr_t>(to) % sizeof(T)) return INVALID_VALUE;
    if (int error = check_device(name, to, count * sizeof(T))) return error;
    if (count == 0) return SUCCESS;
    return submit_to(stream, name, [=] {
        std::fill_n(static_cast<T*>(to), count, value);
        return std::string();
    });
}

}  // namespace

namespace emulator {

int submit(void* handle, const char* name, Work work) {
    Stream* stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    if (driver().sticky) return driver().sticky;
    return submit_to(stream, name, std::move(work));
}

bool is_capturing(void* handle) {
    Stream* stream = stream_of(handle);
    return stream && stream->capture;
}

int finish() { return synchronise(everything()); }

}  // namespace emulator

// ---- The interface ----
//
// Every call takes the lock; most want cuInit before them, the context current, and no sticky error.

#define API extern "C" __attribute__((visibility("default"))) int
#define HOLD Hold hold
#define READY                                            \
    Hold hold;                                           \
    if (!driver().initialized) return NOT_INITIALIZED;   \
    if (driver().sticky) return driver().sticky
#define CONTEXT \
    READY;      \
    if (!current_context) return INVALID_CONTEXT
#define WANT(condition, error) \
    if (!(condition)) return error

using Device = int;
using Pointer = unsigned long long;
static void* address(Pointer pointer) { return reinterpret_cast<void*>(pointer); }

API cuInit(unsigned flags) {
    HOLD;
    WANT(flags == 0, INVALID_VALUE);
    if (!driver().initialized) watch_signals();
    driver().initialized = true;
    return SUCCESS;
}

API cuDriverGetVersion(int* version) {
    WANT(version, INVALID_VALUE);
    *version = 13000;
    return SUCCESS;
}

API cuGetErrorName(int error, const char** text) {
    for (const Name& name : NAMES)
        if (name.code == error) return *text = name.name, SUCCESS;
    *text = "CUDA_ERROR_UNKNOWN";
    return SUCCESS;
}

API cuGetErrorString(int error, const char** text) {
    for (const Name& name : NAMES)
        if (name.code == error) return *text = name.text, SUCCESS;
    *text = "unknown error";
    return SUCCESS;
}

API cuGetProcAddress_v2(const char* symbol, void** function, int, unsigned long long, int* status) {
    std::string name = symbol;
    *function = nullptr;
    for (const char* version : {"_v3", "_v2", ""}) {
        if ((*function = dlsym(RTLD_DEFAULT, (name + version).c_str()))) break;
    }
    if (status) *status = *function ? 0 : 1;
    return *function ? SUCCESS : NOT_FOUND;
}

// Devices

API cuDeviceGetCount(int* count) {
    READY;
    *count = 1;
    return SUCCESS;
}

API cuDeviceGet(Device* device, int ordinal) {
    READY;
    WANT(ordinal == 0, INVALID_DEVICE);
    *device = 0;
    return SUCCESS;
}

API cuDeviceGetName(char* name, int size, Device device) {
    READY;
    WANT(device == 0, INVALID_DEVICE);
    std::snprintf(name, static_cast<size_t>(size), "CUDA emulator");
    return SUCCESS;
}

static int device_uuid(unsigned char* uuid, Device device) {
    READY;
    WANT(device == 0, INVALID_DEVICE);
    std::memcpy(uuid, "CUDA emulator\0\0\0", 16);
    return SUCCESS;
}
API cuDeviceGetUuid(unsigned char* uuid, Device device) { return device_uuid(uuid, device); }
API cuDeviceGetUuid_v2(unsigned char* uuid, Device device) { return device_uuid(uuid, device); }

API cuDeviceTotalMem_v2(size_t* bytes, Device device) {
    READY;
    WANT(device == 0, INVALID_DEVICE);
    *bytes = total_memory();
    return SUCCESS;
}

API cuDeviceGetAttribute(int* value, int attribute, Device device) {
    READY;
    WANT(device == 0, INVALID_DEVICE);
    // An H100's, as far as anybody asks.
    static const std::map<int, int> values = {
        {1, 1024}, {2, 1024}, {3, 1024}, {4, 64},             // threads of a block; its extents
        {5, 2147483647}, {6, 65535}, {7, 65535},              // extents of a grid
        {8, 49152}, {9, 65536}, {10, 32}, {11, 2147483647},   // shared and constant memory, warp, pitch
        {12, 65536}, {13, 1980000}, {15, 1}, {16, 132},       // registers, clock, copies beside kernels, multiprocessors
        {19, 1}, {31, 1}, {32, 1}, {36, 2619000}, {37, 5120}, // mapped host memory, concurrent kernels, ECC, memory
        {38, 50 * 1024 * 1024}, {39, 2048}, {40, 3}, {41, 1}, // L2, threads of a multiprocessor, copy engines, one address space
        {75, 9}, {76, 0},                                     // compute capability
        {78, 1}, {79, 1}, {80, 1}, {81, 233472}, {82, 65536}, // priorities, caches, shared memory and registers
        {90, 1}, {91, 1}, {95, 0}, {97, 232448}, {99, 1}, {102, 0}, {106, 32}, {111, 1024}, {115, 1},
    };
    auto found = values.find(attribute);
    *value = found == values.end() ? 0 : found->second;
    return SUCCESS;
}

API cuDeviceCanAccessPeer(int* can, Device, Device) { return *can = 0, SUCCESS; }

API cuDeviceGetDefaultMemPool(void** pool, Device) { return *pool = &primary_context, SUCCESS; }
API cuDeviceGetMemPool(void** pool, Device) { return *pool = &primary_context, SUCCESS; }
API cuMemPoolTrimTo(void*, size_t) { return SUCCESS; }
API cuMemPoolSetAttribute(void*, int, void*) { return SUCCESS; }
API cuMemPoolGetAttribute(void*, int, void* value) { return *static_cast<uint64_t*>(value) = 0, SUCCESS; }

// The primary context

API cuDevicePrimaryCtxRetain(void** context, Device device) {
    READY;
    WANT(device == 0, INVALID_DEVICE);
    driver().retained++;
    *context = &primary_context;
    return SUCCESS;
}

API cuDevicePrimaryCtxRelease_v2(Device device) {
    READY;
    WANT(device == 0, INVALID_DEVICE);
    WANT(driver().retained > 0, INVALID_CONTEXT);
    driver().retained--;
    return drain();
}

API cuDevicePrimaryCtxGetState(Device, unsigned* flags, int* active) {
    READY;
    *flags = 0;
    *active = driver().retained > 0;
    return SUCCESS;
}
API cuDevicePrimaryCtxSetFlags_v2(Device, unsigned) { return SUCCESS; }

API cuCtxSetCurrent(void* context) {
    HOLD;
    WANT(driver().initialized, NOT_INITIALIZED);
    WANT(!context || context == &primary_context, INVALID_CONTEXT);
    current_context = context;
    return SUCCESS;
}

API cuCtxGetCurrent(void** context) {
    HOLD;
    WANT(driver().initialized, NOT_INITIALIZED);
    *context = current_context;
    return SUCCESS;
}

static __thread int pushed = 0;
API cuCtxPushCurrent_v2(void* context) {
    WANT(context == &primary_context, INVALID_CONTEXT);
    pushed++;
    current_context = context;
    return SUCCESS;
}

API cuCtxPopCurrent_v2(void** context) {
    WANT(current_context, INVALID_CONTEXT);
    if (context) *context = current_context;
    if (--pushed <= 0) pushed = 0, current_context = nullptr;
    return SUCCESS;
}

API cuCtxGetDevice(Device* device) {
    CONTEXT;
    *device = 0;
    return SUCCESS;
}

API cuCtxSynchronize() {
    CONTEXT;
    if (!driver().captures.empty()) {
        for (const auto& capture : driver().captures) spoil(capture, "cuCtxSynchronize");
        return CAPTURE_UNSUPPORTED;
    }
    return synchronise(everything());
}

API cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    CONTEXT;
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return SUCCESS;
}
API cuCtxSetFlags(unsigned) { return SUCCESS; }
API cuCtxGetLimit(size_t* value, int) { return *value = 0, SUCCESS; }
API cuCtxSetLimit(int, size_t) { return SUCCESS; }

// Memory

API cuMemGetInfo_v2(size_t* free, size_t* total) {
    CONTEXT;
    *free = free_memory();
    *total = total_memory();
    return SUCCESS;
}

static int memory_error(int error, const char* call, size_t bytes) {
    if (error == OUT_OF_MEMORY)
        complain("%s: %zu bytes wanted, %zu of %zu free (RELIEVO_EMULATOR_MEMORY)", call, bytes, free_memory(), total_memory());
    return error;
}

API cuMemAlloc_v2(Pointer* pointer, size_t bytes) {
    CONTEXT;
    if (int error = unsafe_call("cuMemAlloc")) return error;
    void* data;
    if (int error = allocate(bytes, Memory::device, &data)) return memory_error(error, "cuMemAlloc", bytes);
    *pointer = reinterpret_cast<Pointer>(data);
    return SUCCESS;
}

static int free_memory_now(void* pointer, Memory kind, const char* call) {
    if (!pointer) return SUCCESS;
    if (int error = unsafe_call(call)) return error;
    if (int error = synchronise(everything())) return error;
    std::string damage;
    int error = release(pointer, kind, damage);
    if (error) complain("%s: %p is not the start of such an allocation", call, pointer);
    return error;
}
API cuMemFree_v2(Pointer pointer) {
    CONTEXT;
    return free_memory_now(address(pointer), Memory::device, "cuMemFree");
}

API cuMemAllocAsync(Pointer* pointer, size_t bytes, void* handle) {
    CONTEXT;
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    if (stream->capture) {
        spoil(stream->capture, "cuMemAllocAsync (memory nodes are not emulated)");
        return CAPTURE_UNSUPPORTED;
    }
    void* data;
    if (int error = allocate(bytes, Memory::device, &data)) return memory_error(error, "cuMemAllocAsync", bytes);
    *pointer = reinterpret_cast<Pointer>(data);
    return SUCCESS;
}

API cuMemFreeAsync(Pointer pointer, void* handle) {
    CONTEXT;
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    if (stream->capture) {
        spoil(stream->capture, "cuMemFreeAsync (memory nodes are not emulated)");
        return CAPTURE_UNSUPPORTED;
    }
    WANT(is_accessible(address(pointer), 1, true), INVALID_VALUE);
    return submit_to(stream, "cuMemFreeAsync", [=] {
        std::string damage;
        release(address(pointer), Memory::device, damage);
        return damage;
    });
}

static int allocate_pinned(void** pointer, size_t bytes, const char* call) {
    CONTEXT;
    if (int error = unsafe_call(call)) return error;
    return memory_error(allocate(bytes, Memory::pinned, pointer), call, bytes);
}
API cuMemAllocHost_v2(void** pointer, size_t bytes) { return allocate_pinned(pointer, bytes, "cuMemAllocHost"); }
API cuMemHostAlloc(void** pointer, size_t bytes, unsigned) { return allocate_pinned(pointer, bytes, "cuMemHostAlloc"); }
API cuMemFreeHost(void* pointer) {
    CONTEXT;
    return free_memory_now(pointer, Memory::pinned, "cuMemFreeHost");
}
API cuMemHostGetDevicePointer_v2(Pointer* device, void* pointer, unsigned) {
    CONTEXT;
    WANT(is_pinned(pointer), INVALID_VALUE);
    *device = reinterpret_cast<Pointer>(pointer);
    return SUCCESS;
}

API cuMemGetAddressRange_v2(Pointer* base, size_t* bytes, Pointer pointer) {
    CONTEXT;
    void* start;
    WANT(find_allocation(address(pointer), &start, bytes), INVALID_VALUE);
    if (base) *base = reinterpret_cast<Pointer>(start);
    return SUCCESS;
}

// Copies

API cuMemcpyHtoD_v2(Pointer to, const void* from, size_t bytes) {
    CONTEXT;
    const char* name = "cuMemcpyHtoD";
    if (int error = check_device(name, address(to), bytes)) return error;
    if (is_accessible(from, bytes, false)) return copy_now(name, address(to), from, bytes);
    if (int error = unsafe_call(name)) return error;
    // Out of pageable memory into a buffer of the driver's; the rest of the way is the stream's business.
    auto* start = static_cast<const char*>(from);
    auto staged = std::make_shared<std::vector<char>>(start, start + bytes);
    return submit_to(&driver().legacy, name, [=] {
        std::memcpy(address(to), staged->data(), bytes);
        return std::string();
    });
}

API cuMemcpyDtoH_v2(void* to, Pointer from, size_t bytes) {
    CONTEXT;
    if (int error = check_device("cuMemcpyDtoH", address(from), bytes)) return error;
    return copy_now("cuMemcpyDtoH", to, address(from), bytes);
}

API cuMemcpyDtoD_v2(Pointer to, Pointer from, size_t bytes) {
    CONTEXT;
    if (int error = check_device("cuMemcpyDtoD", address(to), bytes)) return error;
    if (int error = check_device("cuMemcpyDtoD", address(from), bytes)) return error;
    return copy_later("cuMemcpyDtoD", address(to), address(from), bytes, &driver().legacy);
}

API cuMemcpy(Pointer to, Pointer from, size_t bytes) {
    CONTEXT;
    return copy_now("cuMemcpy", address(to), address(from), bytes);
}

static int pageable_in_capture(Stream* stream, const char* call) {
    complain("%s: a graph would keep the address of pageable memory; use pinned memory", call);
    spoil(stream->capture, call);
    return CAPTURE_UNSUPPORTED;
}

static int copy_to_device_async(void* to, const void* from, size_t bytes, Stream* stream) {
    const char* name = "cuMemcpyHtoDAsync";
    if (!is_accessible(from, bytes, false) && stream->capture) return pageable_in_capture(stream, name);
    return copy_later(name, to, from, bytes, stream);
}

API cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t bytes, void* handle) {
    CONTEXT;
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    if (int error = check_device("cuMemcpyHtoDAsync", address(to), bytes)) return error;
    return bytes ? copy_to_device_async(address(to), from, bytes, stream) : SUCCESS;
}

static int copy_to_host_async(void* to, const void* from, size_t bytes, Stream* stream) {
    const char* name = "cuMemcpyDtoHAsync";
    if (!is_accessible(to, bytes, false) && stream->capture) return pageable_in_capture(stream, name);
    bool pinned = is_accessible(to, bytes, false);
    if (int error = copy_later(name, to, from, bytes, stream)) return error;
    return pinned ? SUCCESS : drain({stream->last});
}

API cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t bytes, void* handle) {
    CONTEXT;
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    if (int error = check_device("cuMemcpyDtoHAsync", address(from), bytes)) return error;
    return bytes ? copy_to_host_async(to, address(from), bytes, stream) : SUCCESS;
}

API cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, void* handle) {
    CONTEXT;
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    if (int error = check_device("cuMemcpyDtoDAsync", address(to), bytes)) return error;
    if (int error = check_device("cuMemcpyDtoDAsync", address(from), bytes)) return error;
    return bytes ? copy_later("cuMemcpyDtoDAsync", address(to), address(from), bytes, stream) : SUCCESS;
}

API cuMemcpyAsync(Pointer to, Pointer from, size_t bytes, void* handle) {
    CONTEXT;
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    if (!bytes) return SUCCESS;
    if (is_accessible(address(to), bytes, false)) return copy_to_device_async(address(to), address(from), bytes, stream);
    if (int error = check_device("cuMemcpyAsync", address(from), bytes)) return error;
    return copy_to_host_async(address(to), address(from), bytes, stream);
}

API cuMemsetD8_v2(Pointer to, unsigned char value, size_t count) {
    CONTEXT;
    return fill<uint8_t>("cuMemsetD8", address(to), value, count, nullptr);
}
API cuMemsetD16_v2(Pointer to, unsigned short value, size_t count) {
    CONTEXT;
    return fill<uint16_t>("cuMemsetD16", address(to), value, count, nullptr);
}
API cuMemsetD32_v2(Pointer to, unsigned value, size_t count) {
    CONTEXT;
    return fill<uint32_t>("cuMemsetD32", address(to), value, count, nullptr);
}
API cuMemsetD8Async(Pointer to, unsigned char value, size_t count, void* stream) {
    CONTEXT;
    return fill<uint8_t>("cuMemsetD8Async", address(to), value, count, stream);
}
API cuMemsetD16Async(Pointer to, unsigned short value, size_t count, void* stream) {
    CONTEXT;
    return fill<uint16_t>("cuMemsetD16Async", address(to), value, count, stream);
}
API cuMemsetD32Async(Pointer to, unsigned value, size_t count, void* stream) {
    CONTEXT;
    return fill<uint32_t>("cuMemsetD32Async", address(to), value, count, stream);
}

// Streams

API cuStreamCreateWithPriority(void** handle, unsigned flags, int priority) {
    CONTEXT;
    WANT(flags <= 1, INVALID_VALUE);
    auto* stream = new Stream;
    stream->flags = flags;
    stream->priority = std::clamp(priority, -5, 0);
    driver().streams.insert(stream);
    *handle = stream;
    return SUCCESS;
}
API cuStreamCreate(void** handle, unsigned flags) { return cuStreamCreateWithPriority(handle, flags, 0); }

API cuStreamDestroy_v2(void* handle) {
    CONTEXT;
    auto* stream = static_cast<Stream*>(handle);
    WANT(driver().streams.count(stream), INVALID_HANDLE);
    if (stream->capture) {
        spoil(stream->capture, "cuStreamDestroy");
        stream->capture->members.erase(stream);
        if (stream->capture->origin == stream) {
            for (Stream* member : stream->capture->members) member->capture.reset(), member->frontier.clear();
            driver().captures.erase(stream->capture);
        }
    }
    int error = drain({stream->last});
    driver().streams.erase(stream);
    delete stream;
    return error;
}

API cuStreamSynchronize(void* handle) {
    CONTEXT;
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    if (stream == &driver().legacy) {
        if (int error = legacy_call("cuStreamSynchronize")) return error;
    }
    if (stream->capture) {
        spoil(stream->capture, "cuStreamSynchronize");
        return CAPTURE_UNSUPPORTED;
    }
    return synchronise(before_next(stream));
}

// Not ready while there is work; the work is done then, so that who asks again gets on.
static int query(const std::set<size_t>& wanted) {
    auto waits = [](size_t number) { return driver().queue.count(number) > 0; };
    if (std::none_of(wanted.begin(), wanted.end(), waits)) return SUCCESS;
    int error = synchronise(wanted);
    return error ? error : NOT_READY;
}

API cuStreamQuery(void* handle) {
    CONTEXT;
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    if (stream->capture) {
        spoil(stream->capture, "cuStreamQuery");
        return CAPTURE_UNSUPPORTED;
    }
    return query(before_next(stream));
}

API cuStreamGetCtx(void* handle, void** context) {
    CONTEXT;
    WANT(stream_of(handle), INVALID_HANDLE);
    *context = &primary_context;
    return SUCCESS;
}
API cuStreamGetFlags(void* handle, unsigned* flags) {
    CONTEXT;
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    *flags = stream->flags;
    return SUCCESS;
}
API cuStreamGetPriority(void* handle, int* priority) {
    CONTEXT;
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    *priority = stream->priority;
    return SUCCESS;
}

API cuLaunchHostFunc(void* handle, void (*function)(void*), void* data) {
    CONTEXT;
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    return submit_to(stream, "cuLaunchHostFunc", [=] {
        function(data);
        return std::string();
    });
}

// Capture

API cuStreamBeginCapture_v2(void* handle, int mode) {
    CONTEXT;
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    WANT(mode >= 0 && mode <= 2, INVALID_VALUE);
    WANT(stream != &driver().legacy, CAPTURE_UNSUPPORTED);
    WANT(!stream->capture, 401);
    auto capture = std::make_shared<Capture>();
    capture->origin = stream;
    capture->mode = mode;
    capture->thread = &this_thread;
    capture->members = {stream};
    stream->capture = capture;
    stream->frontier.clear();
    driver().captures.insert(capture);
    return SUCCESS;
}

API cuStreamEndCapture(void* handle, void** graph) {
    CONTEXT;
    *graph = nullptr;
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    WANT(stream->capture, 401);
    std::shared_ptr<Capture> capture = stream->capture;
    WANT(capture->mode == 2 || capture->thread == &this_thread, CAPTURE_WRONG_THREAD);
    int error = SUCCESS;
    if (capture->spoiled) error = CAPTURE_INVALIDATED;
    else if (capture->origin != stream) error = CAPTURE_UNMATCHED;
    else {
        // Every node that no other one comes after must be one the origin has waited for.
        std::set<size_t> last;
        for (size_t i = 0; i < capture->graph->nodes.size(); i++) {
            last.insert(i);
            for (size_t before : capture->graph->nodes[i].after) last.erase(before);
        }
        for (size_t i : last) {
            if (stream->frontier.count(i)) continue;
            complain("cuStreamEndCapture: %s ran on a stream that was not joined again", capture->graph->nodes[i].name.c_str());
            error = CAPTURE_UNJOINED;
        }
    }
    for (Stream* member : capture->members) {
        member->capture.reset();
        member->frontier.clear();
    }
    driver().captures.erase(capture);
    if (error) return error;
    auto* handle_of_graph = new std::shared_ptr<Graph>(capture->graph);
    driver().graphs.insert(handle_of_graph);
    *graph = handle_of_graph;
    return SUCCESS;
}

API cuStreamIsCapturing(void* handle, int* status) {
    CONTEXT;
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    if (stream == &driver().legacy) {
        if (int error = legacy_call("cuStreamIsCapturing")) return error;
    }
    *status = !stream->capture ? 0 : stream->capture->spoiled ? 2 : 1;
    return SUCCESS;
}

API cuThreadExchangeStreamCaptureMode(int* mode) {
    static __thread int own = 0;
    std::swap(own, *mode);
    return SUCCESS;
}

// Graphs

static int instantiate(void** executable, void* graph) {
    CONTEXT;
    auto* shared = static_cast<std::shared_ptr<Graph>*>(graph);
    WANT(driver().graphs.count(shared), INVALID_VALUE);
    auto* made = new Executable;
    made->graph = *shared;
    driver().executables.insert(made);
    *executable = made;
    return SUCCESS;
}
API cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) { return instantiate(executable, graph); }
API cuGraphInstantiate_v2(void** executable, void* graph, void**, char*, size_t) { return instantiate(executable, graph); }

API cuGraphUpload(void* executable, void* handle) {
    CONTEXT;
    WANT(driver().executables.count(static_cast<Executable*>(executable)), INVALID_VALUE);
    WANT(stream_of(handle), INVALID_HANDLE);
    return SUCCESS;
}

API cuGraphLaunch(void* handle_of_executable, void* handle) {
    CONTEXT;
    auto* executable = static_cast<Executable*>(handle_of_executable);
    WANT(driver().executables.count(executable), INVALID_VALUE);
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    bool other_order = executable->launches++ % 2 == 1;
    std::shared_ptr<const Graph> graph = executable->graph;
    return submit_to(stream, "cuGraphLaunch", [=] { return run_graph(*graph, other_order); });
}

API cuGraphGetNodes(void* graph, void** nodes, size_t* count) {
    CONTEXT;
    auto* shared = static_cast<std::shared_ptr<Graph>*>(graph);
    WANT(driver().graphs.count(shared), INVALID_VALUE);
    size_t all = (*shared)->nodes.size();
    if (nodes)
        for (size_t i = 0; i < *count; i++) nodes[i] = i < all ? &(*shared)->nodes[i] : nullptr;
    *count = all;
    return SUCCESS;
}

API cuGraphDestroy(void* graph) {
    READY;
    auto* shared = static_cast<std::shared_ptr<Graph>*>(graph);
    WANT(driver().graphs.erase(shared), INVALID_VALUE);
    delete shared;
    return SUCCESS;
}

API cuGraphExecDestroy(void* handle) {
    READY;
    auto* executable = static_cast<Executable*>(handle);
    WANT(driver().executables.erase(executable), INVALID_VALUE);
    delete executable;
    return SUCCESS;
}

// Events

API cuEventCreate(void** handle, unsigned flags) {
    CONTEXT;
    auto* event = new Event;
    event->flags = flags;
    driver().events.insert(event);
    *handle = event;
    return SUCCESS;
}

API cuEventDestroy_v2(void* handle) {
    CONTEXT;
    auto* event = static_cast<Event*>(handle);
    WANT(driver().events.count(event), INVALID_HANDLE);
    if (event->pending) drain({event->entry});
    driver().events.erase(event);
    delete event;
    return driver().sticky;
}

API cuEventRecord(void* handle_of_event, void* handle) {
    CONTEXT;
    auto* event = static_cast<Event*>(handle_of_event);
    WANT(driver().events.count(event), INVALID_HANDLE);
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    if (stream->capture) {
        if (stream->capture->spoiled) return CAPTURE_INVALIDATED;
        event->capture = stream->capture;
        event->frontier = stream->frontier;
        return SUCCESS;
    }
    event->capture.reset();
    event->pending++;
    int error = submit_to(stream, "cuEventRecord", [=] {
        event->time = std::chrono::steady_clock::now();
        event->recorded = true;
        event->pending--;
        return std::string();
    });
    if (error) event->pending--;
    else event->entry = stream->last;
    return error;
}
API cuEventRecordWithFlags(void* handle_of_event, void* handle, unsigned flags) {
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    WANT(flags <= 1, INVALID_VALUE);
    if (flags == 0 || !stream->capture) return cuEventRecord(handle_of_event, handle);
    // External to the capture: no dependency, but a node that records the event at every launch.
    CONTEXT;
    auto* event = static_cast<Event*>(handle_of_event);
    WANT(driver().events.count(event), INVALID_HANDLE);
    return submit_to(stream, "cuEventRecordWithFlags", [=] {
        if (!driver().events.count(event)) return std::string("an event that a graph records was destroyed");
        event->time = std::chrono::steady_clock::now();
        event->recorded = true;
        return std::string();
    });
}

API cuStreamWaitEvent(void* handle, void* handle_of_event, unsigned) {
    CONTEXT;
    auto* event = static_cast<Event*>(handle_of_event);
    WANT(driver().events.count(event), INVALID_HANDLE);
    Stream* stream = stream_of(handle);
    WANT(stream, INVALID_HANDLE);
    bool captured_event = event->capture && driver().captures.count(event->capture);
    if (!captured_event) {
        if (event->capture) return CAPTURED_EVENT;  // of a capture that has ended
        if (!stream->capture) return stream->awaited.insert(event->entry), SUCCESS;
        spoil(stream->capture, "waiting for an event recorded outside");
        return CAPTURE_ISOLATION;
    }
    if (stream == &driver().legacy) return CAPTURE_IMPLICIT;
    if (stream->capture && stream->capture != event->capture) return CAPTURE_MERGE;
    if (!stream->capture) {
        stream->capture = event->capture;
        stream->frontier.clear();
        event->capture->members.insert(stream);
    }
    stream->frontier.insert(event->frontier.begin(), event->frontier.end());
    return SUCCESS;
}

static int captured(Event* event, const char* call) {
    if (!event->capture) return SUCCESS;
    if (driver().captures.count(event->capture)) spoil(event->capture, call);
    return CAPTURED_EVENT;
}

API cuEventQuery(void* handle) {
    CONTEXT;
    auto* event = static_cast<Event*>(handle);
    WANT(driver().events.count(event), INVALID_HANDLE);
    if (int error = captured(event, "cuEventQuery")) return error;
    return query({event->entry});
}

API cuEventSynchronize(void* handle) {
    CONTEXT;
    auto* event = static_cast<Event*>(handle);
    WANT(driver().events.count(event), INVALID_HANDLE);
    if (int error = captured(event, "cuEventSynchronize")) return error;
    if (int error = unsafe_call("cuEventSynchronize")) return error;
    return synchronise({event->entry});
}

static int elapsed(float* milliseconds, void* start, void* end) {
    CONTEXT;
    auto *a = static_cast<Event*>(start), *b = static_cast<Event*>(end);
    WANT(driver().events.count(a) && driver().events.count(b), INVALID_HANDLE);
    WANT(!((a->flags | b->flags) & 2), INVALID_HANDLE);  // made without timing
    if (a->pending || b->pending) return NOT_READY;
    WANT(a->recorded && b->recorded, INVALID_HANDLE);
    *milliseconds = std::chrono::duration<float, std::milli>(b->time - a->time).count();
    return SUCCESS;
}
API cuEventElapsedTime(float* milliseconds, void* start, void* end) { return elapsed(milliseconds, start, end); }
API cuEventElapsedTime_v2(float* milliseconds, void* start, void* end) { return elapsed(milliseconds, start, end); }

// Modules and kernels

API cuModuleLoadData(void** module, const void* image) {
    CONTEXT;
    WANT(image, INVALID_VALUE);
    return load_image(image, module);
}
API cuModuleLoadDataEx(void** module, const void* image, unsigned, int*, void**) { return cuModuleLoadData(module, image); }

API cuModuleLoad(void** module, const char* path) {
    CONTEXT;
    FILE* file = std::fopen(path, "rb");
    WANT(file, FILE_NOT_FOUND);
    std::vector<char> bytes;
    char part[65536];
    for (size_t n; (n = std::fread(part, 1, sizeof part, file)) > 0;) bytes.insert(bytes.end(), part, part + n);
    std::fclose(file);
    bytes.push_back(0);
    return load_image(bytes.data(), module);
}

API cuModuleUnload(void* handle) {
    CONTEXT;
    auto* module = static_cast<Module*>(handle);
    WANT(driver().modules.count(module), INVALID_HANDLE);
    if (int error = drain()) return error;
    // The library, the module and its functions stay in memory: a graph may still hold them.
    for (auto i = driver().functions.begin(); i != driver().functions.end();)
        i = (*i)->module == module ? driver().functions.erase(i) : std::next(i);
    driver().modules.erase(module);
    return SUCCESS;
}

API cuModuleGetFunction(void** handle, void* handle_of_module, const char* name) {
    CONTEXT;
    auto* module = static_cast<Module*>(handle_of_module);
    WANT(driver().modules.count(module), INVALID_HANDLE);
    const EmulatorKernel* kernel = module->kernels;
    while (kernel->name && std::strcmp(kernel->name, name) != 0) kernel++;
    if (!kernel->name) return NOT_FOUND;
    if (!dlsym(module->handle, name)) {
        complain("cuModuleGetFunction: kernel %s is not extern \"C\", so NVRTC would mangle its name", name);
        return NOT_FOUND;
    }
    for (Function* known : driver().functions)
        if (known->module == module && known->kernel == kernel) return *handle = known, SUCCESS;
    auto* function = new Function;
    function->module = module;
    function->kernel = kernel;
    driver().functions.insert(function);
    *handle = function;
    return SUCCESS;
}

API cuModuleGetGlobal_v2(Pointer* pointer, size_t* bytes, void* handle, const char* name) {
    CONTEXT;
    auto* module = static_cast<Module*>(handle);
    WANT(driver().modules.count(module), INVALID_HANDLE);
    void* variable = dlsym(module->handle, name);
    WANT(variable, NOT_FOUND);
    Dl_info info;
    ElfW(Sym)* symbol = nullptr;
    WANT(dladdr1(variable, &info, reinterpret_cast<void**>(&symbol), RTLD_DL_SYMENT) && symbol, NOT_FOUND);
    adopt_variable(variable, symbol->st_size);
    if (pointer) *pointer = reinterpret_cast<Pointer>(variable);
    if (bytes) *bytes = symbol->st_size;
    return SUCCESS;
}

API cuFuncGetAttribute(int* value, int attribute, void* handle) {
    CONTEXT;
    auto* function = static_cast<Function*>(handle);
    WANT(driver().functions.count(function), INVALID_HANDLE);
    switch (attribute) {
        case 0: *value = function->kernel->launch_bound ? static_cast<int>(function->kernel->launch_bound) : 1024; break;
        case 1: *value = static_cast<int>(function->module->shared_bytes); break;
        case 4: *value = 32; break;
        case 5: case 6: *value = 90; break;
        case 8: *value = function->dynamic_shared_limit; break;
        default: *value = 0;
    }
    return SUCCESS;
}

API cuFuncSetAttribute(void* handle, int attribute, int value) {
    CONTEXT;
    auto* function = static_cast<Function*>(handle);
    WANT(driver().functions.count(function), INVALID_HANDLE);
    if (attribute == 8) {
        WANT(value >= 0 && value <= 227 * 1024, INVALID_VALUE);
        function->dynamic_shared_limit = value;
    }
    return SUCCESS;
}
API cuFuncGetParamInfo(void* handle, size_t index, size_t* offset, size_t* size) {
    CONTEXT;
    auto* function = static_cast<Function*>(handle);
    WANT(driver().functions.count(function), INVALID_HANDLE);
    WANT(offset && index < function->kernel->count, INVALID_VALUE);
    // As if every parameter were aligned to 8 bytes: nobody here looks at where they lie.
    *offset = 0;
    for (size_t i = 0; i < index; i++) *offset += (function->kernel->sizes[i] + 7) / 8 * 8;
    if (size) *size = function->kernel->sizes[index];
    return SUCCESS;
}
API cuFuncSetCacheConfig(void*, int) { return SUCCESS; }
API cuFuncGetName(const char** name, void* handle) {
    CONTEXT;
    auto* function = static_cast<Function*>(handle);
    WANT(driver().functions.count(function), INVALID_HANDLE);
    *name = function->kernel->name;
    return SUCCESS;
}

static int occupancy(int* blocks, void* handle, int threads) {
    CONTEXT;
    WANT(driver().functions.count(static_cast<Function*>(handle)) && threads > 0, INVALID_VALUE);
    *blocks = std::min(32, 2048 / ((threads + 31) / 32 * 32));
    return SUCCESS;
}
API cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* function, int threads, size_t) {
    return occupancy(blocks, function, threads);
}
API cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, void* function, int threads, size_t, unsigned) {
    return occupancy(blocks, function, threads);
}

API cuLaunchKernel(void* handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared_bytes, void* handle_of_stream, void** parameters, void** extra) {
    CONTEXT;
    auto* function = static_cast<Function*>(handle);
    WANT(driver().functions.count(function), INVALID_HANDLE);
    Stream* stream = stream_of(handle_of_stream);
    WANT(stream, INVALID_HANDLE);
    const EmulatorKernel& kernel = *function->kernel;
    unsigned long long threads = 1ull * block_x * block_y * block_z;
    bool fits = grid_x && grid_y && grid_z && grid_x <= 2147483647u && grid_y <= 65535 && grid_z <= 65535 && block_x &&
                block_y && block_z && block_x <= 1024 && block_y <= 1024 && block_z <= 64 && threads <= 1024;
    if (!fits || static_cast<int>(shared_bytes) > function->dynamic_shared_limit || extra) {
        complain("kernel %s: cannot launch a grid of (%u, %u, %u) blocks of (%u, %u, %u) threads with %u bytes of dynamic "
                 "shared memory (%d allowed)%s",
                 kernel.name, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, function->dynamic_shared_limit,
                 extra ? " and arguments in `extra`" : "");
        return INVALID_VALUE;
    }
    if (kernel.launch_bound && threads > kernel.launch_bound) {
        complain("kernel %s: %llu threads, but its __launch_bounds__ say %u", kernel.name, threads, kernel.launch_bound);
        return LAUNCH_OUT_OF_RESOURCES;
    }
    WANT(parameters || kernel.count == 0, INVALID_VALUE);
    auto launch = std::make_shared<Launch>();
    launch->function = function;
    launch->grid = dim3(grid_x, grid_y, grid_z);
    launch->block = dim3(block_x, block_y, block_z);
    launch->shared_bytes = shared_bytes;
    size_t words = 0;
    for (unsigned i = 0; i < kernel.count; i++) words += (kernel.sizes[i] + 15) / 16 * 2;
    launch->storage.resize(words + 1);
    char* place = reinterpret_cast<char*>(launch->storage.data());
    place += reinterpret_cast<uintptr_t>(place) % 16;
    for (unsigned i = 0; i < kernel.count; i++) {
        WANT(parameters[i], INVALID_VALUE);
        std::memcpy(place, parameters[i], kernel.sizes[i]);
        launch->arguments.push_back(place);
        place += (kernel.sizes[i] + 15) / 16 * 16;
    }
    return submit_to(stream, kernel.name, [=] { return run_launch(*launch); });
}

API cuLaunchKernelEx(const unsigned* config, void* function, void** parameters, void** extra) {
    // Six extents, the shared memory, then the stream; attributes change nothing here.
    void* stream;
    std::memcpy(&stream, config + 8, sizeof stream);
    return cuLaunchKernel(function, config[0], config[1], config[2], config[3], config[4], config[5], config[6], stream,
                          parameters, extra);
}

API cuLaunchCooperativeKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**) {
    complain("cooperative launches are not emulated: blocks do not run side by side");
    return NOT_SUPPORTED;
}

API cuProfilerStart() { return SUCCESS; }
API cuProfilerStop() { return SUCCESS; }
