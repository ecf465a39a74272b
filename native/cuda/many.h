// Element-wise steps over many tensors in one launch: their addresses and sizes are parameters of the kernel, so nothing is copied before it.
#pragma once
#include "cuda/elements.h"

namespace limbeck::cuda {

// Elements that a block takes at a time, of one tensor.
inline constexpr int64_t kTaskElements = 4096;

// As many as fit a kernel's parameters beside a rule: N arrays each, a size and a first task.
template <int N> inline constexpr int kMostTensors = 3600 / (8 * N + 12);

template <int N> struct Many {
  void* data[kMostTensors<N>][N];  // null where absent
  int64_t size[kMostTensors<N>];
  int32_t first_task[kMostTensors<N> + 1];
  int32_t count;
};

// A run of elements of tensor `index`, of which each array is 16-byte aligned or not.
struct Task {
  int index;
  int64_t begin, end;
  bool aligned;
};

template <int N> LIMBECK_DEVICE Task task_of(const Many<N>& many, int task) {
  // The last tensor that begins at or before the task: empty ones have none.
  int low = 0, high = many.count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (many.first_task[middle] <= task) low = middle;
    else high = middle;
  }
  Task found{low, (task - many.first_task[low]) * kTaskElements, many.size[low], true};
  if (found.end > found.begin + kTaskElements) found.end = found.begin + kTaskElements;
  for (int j = 0; j < N; j++) found.aligned = found.aligned && aligned4(static_cast<const float*>(many.data[low][j]));
  return found;
}

// body(index, first, end, aligned): elements first..first+3 of a tensor, of which those below `end` exist.
template <int N, class Body> LIMBECK_DEVICE void each4(const Many<N>& many, Body body) {
  const int tasks = many.first_task[many.count];
  for (int task = block_index(); task < tasks; task += grid_size()) {
    const Task run = task_of(many, task);
    for (int64_t i = run.begin + thread_index() * 4; i < run.end; i += block_size() * 4) body(run.index, i, run.end, run.aligned);
  }
}

// f(many, first): the table of tensors `first` and on, for each launch there must be. arrays(i, data) gives the addresses of tensor i.
template <int N, class Arrays, class F> void over_many(const Ints& sizes, Arrays arrays, F f) {
  for (Int first = 0; first < sizes.count; first += kMostTensors<N>) {
    Many<N> many{};
    const Int left = sizes.count - first;
    many.count = int32_t(left < kMostTensors<N> ? left : kMostTensors<N>);
    for (int t = 0; t < many.count; t++) {
      arrays(first + t, many.data[t]);
      many.size[t] = sizes.items[first + t];
      many.first_task[t + 1] = many.first_task[t] + int32_t((many.size[t] + kTaskElements - 1) / kTaskElements);
    }
    f(many, first);
  }
}

template <int N> Launch plan_many(const Context& ctx, const Many<N>& many) {
  const int64_t tasks = many.first_task[many.count], most = int64_t(limits(ctx).multiprocessors) * 16;
  return {tasks < most ? tasks : most, 256};
}

}  // namespace limbeck::cuda
