// Element-wise kernels: four elements at a time where the addresses allow it, any size.
#pragma once
#include "cuda/rows.h"

namespace limbeck::cuda {

// body(first, count, aligned): elements first..first+3, of which `count` exist. All pointers are given, so that one misaligned
// tensor sends all of them the scalar way.
template <class Body, class... Pointers> LIMBECK_DEVICE void each4(int64_t size, Body body, Pointers... pointers) {
  const bool aligned = (aligned4(pointers) && ...);
  for (int64_t i = first_element() * 4; i < size; i += element_step() * 4) body(i, aligned);
}

}  // namespace limbeck::cuda
