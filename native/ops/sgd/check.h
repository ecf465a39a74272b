// What sgd needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool sgd(Context& ctx, InOut parameter, In gradient, InOut momentum_buffer, In mask, Int size, Float, Float momentum, Float, Int, Float) {
  if (momentum != 0 && !momentum_buffer && size > 0)
    return ctx.refuse(Fail::kind, "momentum_buffer must be given: momentum is %g", momentum);
  return extent(ctx, "size", size) && is(ctx, "parameter", parameter, DType::float32, size) &&
         is(ctx, "gradient", gradient, DType::float32, size) && maybe(ctx, "momentum_buffer", momentum_buffer, DType::float32, size) &&
         maybe(ctx, "mask", mask, DType::float32, size);
}

}  // namespace limbeck::checks
