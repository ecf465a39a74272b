// What adamw needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool adamw(Context& ctx, InOut parameter, In gradient, InOut first_moment, InOut second_moment, In mask, Int size, Float, Float,
                  Float, Float, Float, Int step, Float) {
  return extent(ctx, "size", size) && extent(ctx, "step", step, 1) && is(ctx, "parameter", parameter, DType::float32, size) &&
         is(ctx, "gradient", gradient, DType::float32, size) && is(ctx, "first_moment", first_moment, DType::float32, size) &&
         is(ctx, "second_moment", second_moment, DType::float32, size) && maybe(ctx, "mask", mask, DType::float32, size);
}

}  // namespace limbeck::checks
