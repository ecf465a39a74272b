// What unary needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool unary(Context& ctx, In x, Out y, Int size, Int function, Float) {
  return extent(ctx, "size", size) && code(ctx, "function", function, 0 LIMBECK_UNARY(LIMBECK_COUNT_ENTRY)) && holds(ctx, "x", x, size) &&
         floating(ctx, "x", x) && is(ctx, "y", y, x.dtype, size);
}

}  // namespace limbeck::checks
