// Rows over a few persistent threads. Which thread takes which rows never changes a result.
#pragma once
#include <algorithm>
#include <atomic>
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

// What the threads of a call take from in turn: next() gives a piece while there is one. Some for each thread even out what a slower core leaves undone.
class Pieces {
 public:
  Pieces(int64_t count, int64_t grain, int64_t workers) : count_(count), piece_(std::max(grain, count / (workers * 8))) {}
  bool next(int64_t& begin, int64_t& end) {
    begin = next_.fetch_add(piece_, std::memory_order_relaxed);
    end = std::min(begin + piece_, count_);
    return begin < count_;
  }

 private:
  std::atomic<int64_t> next_{0};
  int64_t count_, piece_;
};

// Calls body(pieces) once or more on each thread: what a thread has at hand may stay from piece to piece.
template <class F> void parallel_pieces(int64_t count, int64_t grain, F body) {
  const int64_t workers = std::clamp<int64_t>(count / grain, 1, threads());
  Pieces pieces(count, grain, workers);
  auto run = [&](int64_t, int64_t) { body(pieces); };
  parallel(workers, 1, run);
}

// Bytes of the last cache: what is larger is written past it.
size_t last_cache();

// Asks for large pages behind fresh memory: fewer faults, and fewer walks through the page table. Where the system has none, nothing.
void prefer_large_pages(void* data, size_t bytes);

// Working memory of the calling thread, 64-byte aligned, kept from call to call; nullptr when memory is short.
// Slot 0 is for the pieces of a parallel loop, slot 1 for the caller of one, slot 2 for the caller of that.
void* scratch(size_t bytes, int slot = 0);

}  // namespace limbeck::cpu
