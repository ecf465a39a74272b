// What scale_tensors needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool scale_tensors(Context& ctx, InOuts tensors, Ints sizes, Float) {
  if (!count_is(ctx, "tensors", tensors, sizes.count)) return false;
  for (Int i = 0; i < sizes.count; i++) {
    const DType wanted = tensors.items[i].dtype == DType::float64 && ctx.device < 0 ? DType::float64 : DType::float32;
    if (!extent(ctx, "a size", sizes.items[i]) || !entry(ctx, "tensors", tensors, i, wanted, sizes.items[i])) return false;
  }
  return true;
}

}  // namespace limbeck::checks
