// Device and pinned memory.
//
// An allocation ends right before a page that cannot be touched, as closely as its alignment of 256 bytes allows; the bytes
// between are a guard with a known content, and so are 256 bytes before it. A kernel that leaves its memory by more is
// stopped at once, with a message (see driver.cpp); one that writes into a guard is found after it has run. New memory
// is all 0xFF, a NaN in every format, so that what was never written shows. Freed memory cannot be touched either, until
// a few thousand allocations later.
//
// Limits: what lies between two parts of one allocation is not guarded, so an arena hides strays from one buffer to the next.
// A device pointer is a real address: a host that dereferences one by mistake does not crash.
#include "memory.h"
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace emulator {
namespace {

constexpr int OUT_OF_MEMORY = 2, INVALID_VALUE = 1;
constexpr size_t ALIGNMENT = 256, GUARD_BYTES = 256, GRANULE = 512, QUARANTINE = 4096;
constexpr size_t MUCH = 4 << 20, SHEET = 16 << 20;
constexpr unsigned char GUARD = 0xA5, UNWRITTEN = 0xFF;

struct Allocation {
    char* mapping;
    size_t mapped;
    char* data;
    size_t bytes;
    Memory kind;
};

struct Heap {
    size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    size_t total = 0, used = 0;
    std::map<const char*, Allocation> live;  // by data
    std::deque<Allocation> freed;

    Heap() {
        const char* text = std::getenv("RELIEVO_EMULATOR_MEMORY");
        total = text ? std::strtoull(text, nullptr, 10) : 0;
        if (!total) total = 16ull << 30;
    }
};

Heap& heap() {
    static Heap* only = new Heap;
    return *only;
}

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

char* front_guard(const Allocation& a) { return std::max(a.mapping + heap().page, a.data - GUARD_BYTES); }
char* back_end(const Allocation& a) { return a.mapping + a.mapped - heap().page; }

void set_guards(const Allocation& a) {
    std::memset(front_guard(a), GUARD, static_cast<size_t>(a.data - front_guard(a)));
    std::memset(a.data + a.bytes, GUARD, static_cast<size_t>(back_end(a) - a.data) - a.bytes);
}

// A file in memory that is UNWRITTEN throughout, or -1.
int unwritten_sheet() {
    int file = memfd_create("unwritten", MFD_CLOEXEC);
    if (file < 0) return -1;
    std::vector<unsigned char> sheet(SHEET, UNWRITTEN);
    if (write(file, sheet.data(), SHEET) == static_cast<ssize_t>(SHEET)) return file;
    close(file);
    return -1;
}

// Makes new memory look unwritten. Of much memory only the pages that somebody writes to cost anything: the rest are copies, on
// write, of one sheet.
void make_unwritten(const Allocation& a) {
    static int sheet = unwritten_sheet();
    char* begin = a.data;
    char* end = a.data + a.bytes;
    size_t page = heap().page;
    if (a.bytes >= MUCH && sheet >= 0) {
        char* first = reinterpret_cast<char*>(round_up(reinterpret_cast<uintptr_t>(begin), page));
        char* last = end - reinterpret_cast<uintptr_t>(end) % page;
        std::memset(begin, UNWRITTEN, static_cast<size_t>(first - begin));
        for (begin = first; begin < last;) {
            size_t part = std::min(SHEET, static_cast<size_t>(last - begin));
            if (mmap(begin, part, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, sheet, 0) == MAP_FAILED) break;
            begin += part;
        }
    }
    std::memset(begin, UNWRITTEN, static_cast<size_t>(end - begin));
}

const char* kind_name(Memory kind) {
    return kind == Memory::device ? "device allocation" : kind == Memory::pinned ? "pinned allocation" : "module variable";
}

bool is_intact(const char* guard, const char* end) {
    size_t bytes = static_cast<size_t>(end - guard);
    return bytes == 0 || (static_cast<unsigned char>(*guard) == GUARD && std::memcmp(guard, guard + 1, bytes - 1) == 0);
}

std::string damage_of(const Allocation& a) {
    if (a.kind == Memory::module_variable) return "";
    if (is_intact(front_guard(a), a.data) && is_intact(a.data + a.bytes, back_end(a))) return "";
    std::string what = std::string(" a ") + kind_name(a.kind) + " of " + std::to_string(a.bytes) + " bytes was written ";
    for (const char* p = a.data - 1; p >= front_guard(a); p--)
        if (static_cast<unsigned char>(*p) != GUARD) return what + std::to_string(a.data - p) + " bytes before its start";
    const char* p = a.data + a.bytes;
    while (static_cast<unsigned char>(*p) == GUARD) p++;
    return what + std::to_string(p - a.data - static_cast<ptrdiff_t>(a.bytes)) + " bytes past its end";
}

// The live allocation that holds the address, or null.
const Allocation* holder(const void* pointer) {
    const char* p = static_cast<const char*>(pointer);
    auto after = heap().live.upper_bound(p);
    if (after == heap().live.begin()) return nullptr;
    const Allocation& a = std::prev(after)->second;
    return p < a.data + a.bytes ? &a : nullptr;
}

}  // namespace

size_t total_memory() { return heap().total; }
size_t free_memory() { return heap().total - heap().used; }
size_t allocations() { return heap().live.size(); }

int allocate(size_t bytes, Memory kind, void** pointer) {
    Heap& h = heap();
    if (bytes == 0) return INVALID_VALUE;
    if (bytes > (1ull << 46)) return OUT_OF_MEMORY;
    size_t charge = kind == Memory::device ? round_up(bytes, GRANULE) : 0;
    if (charge > h.total - h.used) return OUT_OF_MEMORY;
    size_t body = round_up(bytes, ALIGNMENT), mapped = round_up(body, h.page) + 2 * h.page;
    void* mapping = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) return OUT_OF_MEMORY;
    Allocation a;
    a.mapping = static_cast<char*>(mapping);
    a.mapped = mapped;
    a.data = a.mapping + mapped - h.page - body;
    a.bytes = bytes;
    a.kind = kind;
    mprotect(a.mapping, h.page, PROT_NONE);
    mprotect(a.mapping + mapped - h.page, h.page, PROT_NONE);
    make_unwritten(a);
    set_guards(a);
    h.used += charge;
    h.live[a.data] = a;
    *pointer = a.data;
    return 0;
}

int release(void* pointer, Memory kind, std::string& damage) {
    Heap& h = heap();
    auto found = h.live.find(static_cast<const char*>(pointer));
    if (found == h.live.end() || found->second.kind != kind) return INVALID_VALUE;
    Allocation a = found->second;
    damage = damage_of(a);
    h.live.erase(found);
    if (kind == Memory::device) h.used -= round_up(a.bytes, GRANULE);
    madvise(a.mapping, a.mapped, MADV_DONTNEED);
    mprotect(a.mapping, a.mapped, PROT_NONE);
    h.freed.push_back(a);
    if (h.freed.size() > QUARANTINE) {
        munmap(h.freed.front().mapping, h.freed.front().mapped);
        h.freed.pop_front();
    }
    return 0;
}

void adopt_variable(void* pointer, size_t bytes) {
    char* data = static_cast<char*>(pointer);
    heap().live[data] = Allocation{nullptr, 0, data, bytes, Memory::module_variable};
}

void forget_variable(void* pointer) { heap().live.erase(static_cast<const char*>(pointer)); }

bool is_accessible(const void* pointer, size_t bytes, bool device) {
    const Allocation* a = holder(pointer);
    if (!a || (device && a->kind == Memory::pinned)) return false;
    return bytes <= static_cast<size_t>(a->data + a->bytes - static_cast<const char*>(pointer));
}

bool is_pinned(const void* pointer) {
    const Allocation* a = holder(pointer);
    return a && a->kind == Memory::pinned;
}

bool find_allocation(const void* pointer, void** start, size_t* bytes) {
    const Allocation* a = holder(pointer);
    if (!a) return false;
    if (start) *start = a->data;
    if (bytes) *bytes = a->bytes;
    return true;
}

std::string check_guards() {
    for (auto& [data, a] : heap().live) {
        std::string damage = damage_of(a);
        if (damage.empty()) continue;
        set_guards(a);
        return damage;
    }
    return "";
}

void describe_address(const void* address, char* text, size_t size) {
    const char* p = static_cast<const char*>(address);
    for (const auto& [data, a] : heap().live) {
        if (!a.mapping || p < a.mapping || p >= a.mapping + a.mapped) continue;
        if (p < a.data)
            std::snprintf(text, size, "%td bytes before the start of a %s of %zu bytes", a.data - p, kind_name(a.kind), a.bytes);
        else
            std::snprintf(text, size, "%td bytes past the end of a %s of %zu bytes", p - a.data - static_cast<ptrdiff_t>(a.bytes),
                          kind_name(a.kind), a.bytes);
        return;
    }
    for (auto a = heap().freed.rbegin(); a != heap().freed.rend(); ++a) {
        if (p < a->mapping || p >= a->mapping + a->mapped) continue;
        std::snprintf(text, size, "byte %td of a %s of %zu bytes that has been freed", p - a->data, kind_name(a->kind), a->bytes);
        return;
    }
    std::snprintf(text, size, "%p, in no allocation", address);
}

}  // namespace emulator
