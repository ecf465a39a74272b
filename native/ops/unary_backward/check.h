// What unary_backward needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool unary_backward(Context& ctx, In x, In y, In gradient_y, Out gradient_x, Int size, Int function, Float) {
  return extent(ctx, "size", size) && code(ctx, "function", function, 0 LIMBECK_UNARY(LIMBECK_COUNT_ENTRY)) && holds(ctx, "x", x, size) &&
         floating(ctx, "x", x) && is(ctx, "y", y, x.dtype, size) && is(ctx, "gradient_y", gradient_y, x.dtype, size) &&
         is(ctx, "gradient_x", gradient_x, x.dtype, size);
}

}  // namespace limbeck::checks
