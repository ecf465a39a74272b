// What dropout needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool dropout(Context& ctx, In x, Out y, Int size, Float probability, Int, Int offset) {
  if (!(probability >= 0 && probability < 1))
    return ctx.refuse(Fail::value, "probability must be in [0, 1): it is %g", probability);
  return extent(ctx, "size", size) && extent(ctx, "offset", offset) && is(ctx, "x", x, DType::float32, size) &&
         is(ctx, "y", y, DType::float32, size);
}

}  // namespace limbeck::checks
