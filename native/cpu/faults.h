// What went wrong in which row, collected from several threads: the smallest row wins, so the message never depends on the threads.
#pragma once
#include <atomic>
#include <cstdint>

#include "core/context.h"

namespace limbeck::cpu {

class Faults {
 public:
  // For the data of one row: a label, an index, a temperature.
  __attribute__((format(printf, 3, 4))) void refuse(int64_t row, const char* format, ...);
  // No working memory: the call as a whole failed.
  void out_of_memory(size_t bytes);
  // A row behind the first offending one need not be computed.
  bool beyond(int64_t row) const { return row > first_.load(std::memory_order_relaxed); }
  // Puts what was collected into the context; true when there was nothing.
  bool report(Context& ctx) const;

 private:
  std::atomic_flag lock_ = ATOMIC_FLAG_INIT;
  std::atomic<int64_t> first_{INT64_MAX};
  size_t missing_bytes_ = 0;
  char message_[320] = "";
};

}  // namespace limbeck::cpu
