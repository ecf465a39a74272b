// Rows over a few persistent threads. Which thread takes which rows never changes a result.
#pragma once
#include <cstddef>
#include <cstdint>

namespace limbeck::cpu {

int threads();
void set_threads(int count);

// Calls body(context, begin, end) until all of [0, count) is done, in pieces of at least `grain`. Never throws, callable from any thread:
// a caller that finds the pool busy does all of its work itself.
void parallel(int64_t count, int64_t grain, void (*body)(void* context, int64_t begin, int64_t end), void* context);

template <class F> void parallel(int64_t count, int64_t grain, F& body) {
  parallel(count, grain, [](void* context, int64_t begin, int64_t end) { (*static_cast<F*>(context))(begin, end); }, &body);
}

// Bytes of the last cache: what is larger is written past it.
size_t last_cache();

// Asks for large pages behind fresh memory: fewer faults, and fewer walks through the page table. Where the system has none, nothing.
void prefer_large_pages(void* data, size_t bytes);

// Working memory of the calling thread, 64-byte aligned, kept from call to call; nullptr when memory is short.
// Slot 0 is for the pieces of a parallel loop, slot 1 for the caller of one, slot 2 for the caller of that.
void* scratch(size_t bytes, int slot = 0);

}  // namespace limbeck::cpu
