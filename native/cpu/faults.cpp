// Keeping the first offending row of a call.
#include "cpu/faults.h"

#include <cstdarg>
#include <cstdio>

namespace limbeck::cpu {

void Faults::refuse(int64_t row, const char* format, ...) {
  while (lock_.test_and_set(std::memory_order_acquire)) {
  }
  if (row < first_.load(std::memory_order_relaxed)) {
    first_.store(row, std::memory_order_relaxed);
    va_list args;
    va_start(args, format);
    vsnprintf(message_, sizeof message_, format, args);
    va_end(args);
  }
  lock_.clear(std::memory_order_release);
}

void Faults::out_of_memory(size_t bytes) {
  while (lock_.test_and_set(std::memory_order_acquire)) {
  }
  missing_bytes_ = bytes;
  first_.store(-1, std::memory_order_relaxed);
  lock_.clear(std::memory_order_release);
}

bool Faults::report(Context& ctx) const {
  if (first_.load(std::memory_order_relaxed) == INT64_MAX) return true;
  if (missing_bytes_) return ctx.refuse_device("out_of_memory", "working memory must be available: %zu bytes are not", missing_bytes_);
  return ctx.refuse(Fail::value, "%s", message_);
}

}  // namespace limbeck::cpu
