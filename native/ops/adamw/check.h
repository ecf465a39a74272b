// What adamw needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool adamw(Context& ctx, InOuts parameters, Ins gradients, InOuts first_moments, InOuts second_moments, Ins masks, Ints sizes, Float,
                  Float, Float, Float, Float, Int step, Float) {
  const Int count = sizes.count;
  if (!extent(ctx, "step", step, 1) || !count_is(ctx, "parameters", parameters, count) || !count_is(ctx, "gradients", gradients, count) ||
      !count_is(ctx, "first_moments", first_moments, count) || !count_is(ctx, "second_moments", second_moments, count) ||
      !count_is(ctx, "masks", masks, count))
    return false;
  for (Int i = 0; i < count; i++) {
    const Int size = sizes.items[i];
    if (!extent(ctx, "a size", size) || !entry(ctx, "parameters", parameters, i, DType::float32, size) ||
        !entry(ctx, "gradients", gradients, i, DType::float32, size) || !entry(ctx, "first_moments", first_moments, i, DType::float32, size) ||
        !entry(ctx, "second_moments", second_moments, i, DType::float32, size) || !entry(ctx, "masks", masks, i, DType::float32, size, true))
      return false;
  }
  return true;
}

}  // namespace limbeck::checks
