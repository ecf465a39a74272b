// What scan_backward needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool scan_backward(Context& ctx, In y, In gradient_y, Out gradient_x, Int rows, Int cols, Int relative, Int reverse) {
  Int size = 0;
  return extent(ctx, "rows", rows) && extent(ctx, "cols", cols) && spread(ctx, "cols", rows, cols, cols, size) && code(ctx, "relative", relative, 2) &&
         code(ctx, "reverse", reverse, 2) && holds(ctx, "y", y, size) && floating(ctx, "y", y) && is(ctx, "gradient_y", gradient_y, y.dtype, size) &&
         is(ctx, "gradient_x", gradient_x, y.dtype, size);
}

}  // namespace limbeck::checks
