// The machine: runs the blocks of a launch on all cores, and the threads of a block on one.
//
// Every CUDA thread that has to wait (at __syncthreads, for the other lanes of its warp) needs a stack of its own: a
// fiber. Threads that never wait share one: a fiber runs thread after thread until one of them waits; then the scheduler
// goes on with the next thread on a fresh fiber. So nobody has to know beforehand which kernels synchronise, and a kernel
// that does not is a plain loop.
//
// A block barrier opens when all threads of the block that have not returned stand at it, wherever in the code that is;
// a warp primitive when all lanes of its mask that have not returned stand at the same primitive with the same
// mask. Where neither can happen any more, the launch ends with a message that says who waits for whom.
//
// Threads begin in rising order in one block, falling in the next, and the order in which they go on after a barrier changes
// too, so that a missing barrier is likely to show. Shared memory is filled with 0xFF before each block, for the same reason.
//
// It is no model of the hardware: threads change only where they wait, memory is sequentially consistent within a block,
// and nothing is said about speed. What fails here is wrong; what passes here may still be.
#include "machine.h"
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <mutex>
#include <sys/mman.h>
#include <thread>
#include <vector>
#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

extern "C" {
__thread EmulatorThread* emulator_current = nullptr;
}

namespace emulator {
namespace {

constexpr size_t STACK_BYTES = 256 * 1024;  // reserved; only touched pages cost memory
constexpr unsigned long long STACK_MARK = 0xC0DAFACEDEADBEEFull;
constexpr unsigned WARP = 32;
constexpr unsigned MOST_THREADS = 1024;
constexpr size_t MOST_SHARED = 227 * 1024;
constexpr size_t SHARED_GUARD = 256;
constexpr unsigned char POISON = 0xFF;
constexpr unsigned char GUARD = 0xA5;

struct Worker;
[[noreturn]] void fiber_main();

// ---- Contexts: the registers a function call must preserve, and the stack. ----

#if defined(__x86_64__)
using Context = void*;  // the stack pointer
extern "C" void emulator_switch(Context* from, Context to);
asm(R"(
.text
.hidden emulator_switch
.globl emulator_switch
.type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulator_switch, . - emulator_switch
)");
void make_context(Context& context, char* stack) {
    void** top = reinterpret_cast<void**>(stack + STACK_BYTES);
    *--top = nullptr;  // the return address fiber_main must never use; aligns the stack as a call would
    *--top = reinterpret_cast<void*>(&fiber_main);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    context = top;
}
void switch_context(Context& from, Context& to) { emulator_switch(&from, to); }
#elif defined(__aarch64__)
using Context = void*;
extern "C" void emulator_switch(Context* from, Context to);
asm(R"(
.text
.hidden emulator_switch
.globl emulator_switch
.type emulator_switch, %function
emulator_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size emulator_switch, . - emulator_switch
)");
void make_context(Context& context, char* stack) {
    void** top = reinterpret_cast<void**>(stack + STACK_BYTES) - 20;
    std::memset(top, 0, 160);
    top[11] = reinterpret_cast<void*>(&fiber_main);  // x30
    context = top;
}
void switch_context(Context& from, Context& to) { emulator_switch(&from, to); }
#else
using Context = ucontext_t;
void make_context(Context& context, char* stack) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = STACK_BYTES;
    context.uc_link = nullptr;
    makecontext(&context, reinterpret_cast<void (*)()>(&fiber_main), 0);
}
void switch_context(Context& from, Context& to) { swapcontext(&from, &to); }
#endif

// ---- Fibers and warps ----

struct Fiber : EmulatorThread {
    Context context;
    char* stack = nullptr;
    unsigned index;  // of its thread in the block
    bool finished;   // no thread left for it
    // The warp primitive it waits in, and what came out of it.
    EmulatorWarpOperation operation;
    unsigned mask;
    unsigned long long value, result;
    int parameter, width;
};

struct Warp {
    unsigned present;  // lanes the block has
    unsigned returned;
    unsigned ready;    // may go on
    unsigned waiting;  // in a warp primitive
    unsigned at_barrier;
};

// One core and the block it runs. Everything a block needs is kept from block to block.
struct Worker {
    std::vector<Fiber*> pool;  // all fibers ever made
    size_t used = 0;           // of the pool, in this block
    std::vector<Fiber*> spare; // fibers of this block that ran out of threads
    Fiber* fiber_of[MOST_THREADS];
    Warp warps[MOST_THREADS / WARP];
    Context home;
    Fiber* running = nullptr;

    Launch* launch = nullptr;
    const char* name = "";
    uint3 block;
    unsigned size, started, live, arrived, phase;
    bool falling;
    EmulatorVotes votes, outcome;
    std::string failure;

    std::vector<char> dynamic_shared;
    std::vector<char*> shared_of_module;  // where each module's __shared__ variables are on this core

    unsigned warp_count() const { return (size + WARP - 1) / WARP; }
    Fiber* obtain();
    void begin(Fiber* fiber, unsigned index);
    void enter(Fiber* fiber);
    void wait();
    [[noreturn]] void fail(std::string what);
    bool complete(unsigned warp, unsigned mask, EmulatorWarpOperation operation);
    void deliver(unsigned warp, unsigned lanes, EmulatorWarpOperation operation);
    void returned(Fiber* fiber);
    bool open_barrier(Fiber* except);
    std::string who_waits() const;
    void poison_shared();
    std::string check_shared();
    std::string run_block(Launch& launch, uint3 block, bool falling);
};

__thread Worker* worker __attribute__((tls_model("initial-exec"))) = nullptr;

std::string at(uint3 v) {
    return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
}

[[noreturn]] void fiber_main() {
    Worker& w = *worker;
    Fiber* fiber = w.running;
    w.launch->function->kernel->run(w.launch->arguments.data());
    // Another fiber may stand where this one began, but never on its stack.
    fiber->finished = true;
    for (;;) w.wait();
}

Fiber* Worker::obtain() {
    Fiber* fiber;
    if (!spare.empty()) {
        fiber = spare.back();
        spare.pop_back();
    } else {
        if (used == pool.size()) {
            auto* fresh = new Fiber;
            void* stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (stack == MAP_FAILED) {
                std::fprintf(stderr, "CUDA emulator: no memory for the stacks of a block's threads\n");
                std::abort();
            }
            fresh->stack = static_cast<char*>(stack);
            std::memcpy(fresh->stack, &STACK_MARK, sizeof STACK_MARK);
            pool.push_back(fresh);
        }
        fiber = pool[used++];
    }
    make_context(fiber->context, fiber->stack);
    fiber->finished = false;
    return fiber;
}

// Gives a fiber the thread number `index` of the block.
void Worker::begin(Fiber* fiber, unsigned index) {
    dim3 size = launch->block;
    fiber->index = index;
    fiber->thread = uint3{index % size.x, index / size.x % size.y, index / (size.x * size.y)};
    fiber->block = block;
    fiber->block_size = size;
    fiber->grid_size = launch->grid;
    fiber->dynamic_shared = dynamic_shared.data();
    fiber_of[index] = fiber;
}

void Worker::enter(Fiber* fiber) {
    running = fiber;
    emulator_current = fiber;
    switch_context(home, fiber->context);
    running = nullptr;
    emulator_current = nullptr;
    if (std::memcmp(fiber->stack, &STACK_MARK, sizeof STACK_MARK) != 0) {
        std::fprintf(stderr, "CUDA emulator: kernel %s needs more stack than the %zu KiB a thread has here\n", name,
                     STACK_BYTES / 1024);
        std::abort();
    }
    if (fiber->finished) spare.push_back(fiber);
}

// Leaves the current fiber until the scheduler enters it again.
void Worker::wait() {
    Fiber* fiber = running;
    switch_context(fiber->context, home);
}

void Worker::fail(std::string what) {
    failure = "kernel " + std::string(name) + ", block " + at(block) + ", thread " + at(running->thread) + ": " + what;
    for (;;) wait();
}

std::string Worker::who_waits() const {
    std::string text;
    unsigned barrier = 0;
    for (unsigned w = 0; w < warp_count(); w++) {
        barrier += __builtin_popcount(warps[w].at_barrier);
        if (!warps[w].waiting) continue;
        for (unsigned lane = 0; lane < WARP; lane++) {
            if (!(warps[w].waiting >> lane & 1)) continue;
            const Fiber* fiber = fiber_of[w * WARP + lane];
            char line[160];
            std::snprintf(line, sizeof line,
                          "\n  warp %u: lanes %08x wait in a warp primitive; lane %u there with mask %08x; returned %08x", w,
                          warps[w].waiting, lane, fiber->mask, warps[w].returned);
            text += line;
            break;
        }
    }
    return std::to_string(barrier) + " of " + std::to_string(size) + " threads stand at __syncthreads, " +
           std::to_string(size - live) + " have returned" + text;
}

// ---- Warp primitives ----

// Gives each of `lanes` its result and lets it go on.
void Worker::deliver(unsigned w, unsigned lanes, EmulatorWarpOperation operation) {
    Fiber** fibers = fiber_of + w * WARP;
    unsigned ballot = 0;
    bool first = true;
    unsigned folded = 0;
    if (operation >= EMULATOR_BALLOT) {
        for (unsigned lane = 0; lane < WARP; lane++) {
            if (!(lanes >> lane & 1)) continue;
            unsigned value = static_cast<unsigned>(fibers[lane]->value);
            int number = static_cast<int>(value);
            if (fibers[lane]->value) ballot |= 1u << lane;
            if (first) folded = value;
            else switch (operation) {
                case EMULATOR_REDUCE_ADD: folded += value; break;
                case EMULATOR_REDUCE_MIN_SIGNED: folded = std::min(static_cast<int>(folded), number); break;
                case EMULATOR_REDUCE_MAX_SIGNED: folded = std::max(static_cast<int>(folded), number); break;
                case EMULATOR_REDUCE_MIN_UNSIGNED: folded = std::min(folded, value); break;
                case EMULATOR_REDUCE_MAX_UNSIGNED: folded = std::max(folded, value); break;
                case EMULATOR_REDUCE_AND: folded &= value; break;
                case EMULATOR_REDUCE_OR: folded |= value; break;
                case EMULATOR_REDUCE_XOR: folded ^= value; break;
                default: break;
            }
            first = false;
        }
    }
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!(lanes >> lane & 1)) continue;
        Fiber& fiber = *fibers[lane];
        int width = fiber.width, base = static_cast<int>(lane) & ~(width - 1), source = static_cast<int>(lane);
        switch (operation) {
            case EMULATOR_SYNC: break;
            case EMULATOR_SHUFFLE: source = base + (fiber.parameter & (width - 1)); break;
            case EMULATOR_SHUFFLE_UP:
                source = static_cast<int>(lane) - fiber.parameter;
                if (source < base) source = static_cast<int>(lane);
                break;
            case EMULATOR_SHUFFLE_DOWN:
                source = static_cast<int>(lane) + fiber.parameter;
                if (source >= base + width) source = static_cast<int>(lane);
                break;
            case EMULATOR_SHUFFLE_XOR:
                source = static_cast<int>(lane) ^ fiber.parameter;
                if (source >= base + width) source = static_cast<int>(lane);
                break;
            case EMULATOR_BALLOT: fiber.result = ballot; continue;
            case EMULATOR_ANY: fiber.result = ballot != 0; continue;
            case EMULATOR_ALL: fiber.result = ballot == lanes; continue;
            case EMULATOR_MATCH_ANY:
                fiber.result = 0;
                for (unsigned other = 0; other < WARP; other++)
                    if ((lanes >> other & 1) && fibers[other]->value == fiber.value) fiber.result |= 1u << other;
                continue;
            default: fiber.result = folded; continue;
        }
        // A lane that takes no part has nothing to give: what is read from it is undefined, here a NaN.
        bool takes_part = source >= 0 && source < static_cast<int>(WARP) && (lanes >> source & 1);
        fiber.result = takes_part ? fibers[source]->value : ~0ull;
    }
    warps[w].waiting &= ~lanes;
    warps[w].ready |= lanes;
}

// If all lanes that a primitive waits for have come, it happens.
bool Worker::complete(unsigned w, unsigned mask, EmulatorWarpOperation operation) {
    Warp& warp = warps[w];
    unsigned lanes = mask & warp.present & ~warp.returned;
    if ((warp.waiting & lanes) != lanes || !lanes) return false;
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!(lanes >> lane & 1)) continue;
        const Fiber& fiber = *fiber_of[w * WARP + lane];
        if (fiber.mask != mask || fiber.operation != operation) return false;
    }
    deliver(w, lanes, operation);
    return true;
}

// ---- The block ----

// If all live threads stand at the barrier, lets them go on; `except` is the one that runs already.
bool Worker::open_barrier(Fiber* except) {
    if (arrived == 0 || arrived < live || started < size) return false;
    outcome = EmulatorVotes{votes.count, votes.any, votes.count == static_cast<int>(arrived)};
    votes = EmulatorVotes{};
    arrived = 0;
    phase++;
    for (unsigned w = 0; w < warp_count(); w++) {
        warps[w].ready |= warps[w].at_barrier;
        warps[w].at_barrier = 0;
    }
    if (except) warps[except->index / WARP].ready &= ~(1u << except->index % WARP);
    return true;
}

// A thread has ended: those who wait for it need not any more.
void Worker::returned(Fiber* fiber) {
    unsigned w = fiber->index / WARP;
    warps[w].returned |= 1u << fiber->index % WARP;
    live--;
    if (warps[w].waiting) {
        for (unsigned lane = 0; lane < WARP; lane++) {
            if (!(warps[w].waiting >> lane & 1)) continue;
            const Fiber& other = *fiber_of[w * WARP + lane];
            complete(w, other.mask, other.operation);
        }
    }
    open_barrier(nullptr);
}

void Worker::poison_shared() {
    Module& module = *launch->function->module;
    if (shared_of_module.size() <= module.number) shared_of_module.resize(module.number + 1, nullptr);
    char*& shared = shared_of_module[module.number];
    if (!shared) {
        module.touch_shared();  // gives this core its copy
        void* data = nullptr;
        if (dlinfo(module.handle, RTLD_DI_TLS_DATA, &data) == 0) shared = static_cast<char*>(data);
    }
    if (shared) std::memset(shared, POISON, module.shared_bytes);
    if (dynamic_shared.empty()) dynamic_shared.resize(MOST_SHARED + SHARED_GUARD);
    if (launch->shared_bytes) std::memset(dynamic_shared.data(), POISON, launch->shared_bytes);
    std::memset(dynamic_shared.data() + launch->shared_bytes, GUARD, SHARED_GUARD);
}

std::string Worker::check_shared() {
    for (size_t i = 0; i < SHARED_GUARD; i++) {
        if (static_cast<unsigned char>(dynamic_shared[launch->shared_bytes + i]) != GUARD) {
            return "kernel " + std::string(name) + ", block " + at(block) +
                   ": wrote past the end of its dynamic shared memory of " + std::to_string(launch->shared_bytes) + " bytes";
        }
    }
    return "";
}

std::string Worker::run_block(Launch& of, uint3 where, bool down) {
    launch = &of;
    name = of.function->kernel->name;
    block = where;
    falling = down;
    size = of.block.x * of.block.y * of.block.z;
    started = arrived = phase = 0;
    live = size;
    votes = outcome = EmulatorVotes{};
    failure.clear();
    used = 0;
    spare.clear();
    for (unsigned w = 0; w < warp_count(); w++) {
        unsigned lanes = std::min(WARP, size - w * WARP);
        warps[w] = Warp{lanes == WARP ? ~0u : (1u << lanes) - 1, 0, 0, 0, 0};
    }
    poison_shared();
    while (started < size && failure.empty()) {
        Fiber* fiber = obtain();
        unsigned index = started++;
        begin(fiber, falling ? size - 1 - index : index);
        enter(fiber);
    }
    while (live > 0 && failure.empty()) {
        bool went_on = false;
        bool down_now = falling != (phase % 2 == 1);
        for (unsigned i = 0; i < warp_count() && failure.empty(); i++) {
            unsigned w = down_now ? warp_count() - 1 - i : i;
            while (warps[w].ready && failure.empty()) {
                unsigned lane = down_now ? 31 - __builtin_clz(warps[w].ready) : __builtin_ctz(warps[w].ready);
                warps[w].ready &= ~(1u << lane);
                went_on = true;
                enter(fiber_of[w * WARP + lane]);
            }
        }
        if (!went_on && live > 0 && failure.empty()) {
            failure = "kernel " + std::string(name) + ", block " + at(block) + " can never end: " + who_waits();
        }
    }
    if (failure.empty()) failure = check_shared();
    return failure;
}

// ---- The cores ----

struct Pool {
    std::mutex mutex;
    std::condition_variable begin, end;
    const std::function<void(size_t)>* body = nullptr;
    std::atomic<size_t> next{0};
    size_t count = 0, chunk = 1, busy = 0, size = 0;
    unsigned long long job = 0;

    Pool() {
        const char* text = std::getenv("RELIEVO_EMULATOR_THREADS");
        long wanted = text ? std::atol(text) : 0;
        size = wanted > 0 ? static_cast<size_t>(wanted) : std::max(1u, std::thread::hardware_concurrency());
        for (size_t i = 0; i < size; i++) std::thread([this] { work(); }).detach();
    }

    void work() {
        worker = new Worker;
        unsigned long long seen = 0;
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            begin.wait(lock, [&] { return job != seen; });
            seen = job;
            lock.unlock();
            for (;;) {
                size_t first = next.fetch_add(chunk);
                if (first >= count) break;
                for (size_t i = first; i < std::min(count, first + chunk); i++) (*body)(i);
            }
            lock.lock();
            if (--busy == 0) end.notify_one();
        }
    }

    void run(size_t items, const std::function<void(size_t)>& what) {
        if (items == 0) return;
        std::unique_lock<std::mutex> lock(mutex);
        body = &what;
        count = items;
        chunk = std::max<size_t>(1, items / (size * 16));
        next = 0;
        busy = size;
        job++;
        begin.notify_all();
        end.wait(lock, [&] { return busy == 0; });
        body = nullptr;
    }
};

// Never destroyed: its threads may outlive main.
Pool& pool() {
    static Pool* only = new Pool;
    return *only;
}

}  // namespace

void parallel_for(size_t count, const std::function<void(size_t)>& body) { pool().run(count, body); }

size_t workers() { return pool().size; }

std::string run_launch(Launch& launch) {
    std::mutex mutex;
    std::string failure;
    std::atomic<bool> failed{false};
    dim3 grid = launch.grid;
    unsigned turn = launch.function->launches++;
    size_t blocks = static_cast<size_t>(grid.x) * grid.y * grid.z;
    parallel_for(blocks, [&](size_t i) {
        if (failed) return;
        uint3 block{static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                    static_cast<unsigned>(i / grid.x / grid.y)};
        std::string what = worker->run_block(launch, block, (i + turn) % 2 == 1);
        if (what.empty()) return;
        std::lock_guard<std::mutex> lock(mutex);
        if (!failed.exchange(true)) failure = what;
    });
    return failure;
}

bool describe_current(char* text, size_t size) {
    if (!worker || !worker->running) return false;
    const Fiber& f = *worker->running;
    std::snprintf(text, size, "kernel %s, block (%u, %u, %u), thread (%u, %u, %u)", worker->name, f.block.x, f.block.y,
                  f.block.z, f.thread.x, f.thread.y, f.thread.z);
    return true;
}

}  // namespace emulator

// ---- What kernels call ----

using emulator::worker;

extern "C" int emulator_next_thread() {
    emulator::Worker& w = *worker;
    emulator::Fiber* fiber = w.running;
    w.returned(fiber);
    if (w.started == w.size) return 0;
    unsigned index = w.started++;
    w.begin(fiber, w.falling ? w.size - 1 - index : index);
    return 1;
}

extern "C" EmulatorVotes emulator_block_barrier(int predicate) {
    emulator::Worker& w = *worker;
    emulator::Fiber* fiber = w.running;
    w.votes.count += predicate != 0;
    w.votes.any |= predicate != 0;
    w.arrived++;
    emulator::Warp& warp = w.warps[fiber->index / 32];
    warp.at_barrier |= 1u << fiber->index % 32;
    if (!w.open_barrier(fiber)) w.wait();
    return w.outcome;
}

extern "C" unsigned long long emulator_warp(EmulatorWarpOperation operation, unsigned mask, unsigned long long value,
                                            int parameter, int width) {
    emulator::Worker& w = *worker;
    emulator::Fiber* fiber = w.running;
    unsigned index = fiber->index / 32, lane = fiber->index % 32;
    if (!(mask >> lane & 1)) {
        char what[120];
        std::snprintf(what, sizeof what, "lane %u calls a warp primitive with mask %08x, which does not name it", lane, mask);
        w.fail(what);
    }
    if (width < 1 || width > 32 || (width & (width - 1))) {
        w.fail("shuffles with width " + std::to_string(width) + ", which is no power of two up to 32");
    }
    fiber->operation = operation;
    fiber->mask = mask;
    fiber->value = value;
    fiber->parameter = parameter;
    fiber->width = width;
    w.warps[index].waiting |= 1u << lane;
    if (w.complete(index, mask, operation)) w.warps[index].ready &= ~(1u << lane);
    else w.wait();
    return fiber->result;
}

extern "C" unsigned emulator_active_lanes() {
    emulator::Worker& w = *worker;
    const emulator::Warp& warp = w.warps[w.running->index / 32];
    return warp.present & ~warp.returned;
}

extern "C" void emulator_trap(const char* what, const char* file, unsigned line) {
    std::string text = what;
    if (file) text += std::string(" at ") + file + ":" + std::to_string(line);
    worker->fail(text);
}
