// What scan needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool scan(Context& ctx, In x, Out y, Int rows, Int cols, Int function, Int reverse) {
  Int size = 0;
  return extent(ctx, "rows", rows) && extent(ctx, "cols", cols) && spread(ctx, "cols", rows, cols, cols, size) &&
         code(ctx, "function", function, 0 LIMBECK_SCANS(LIMBECK_COUNT_ENTRY)) && code(ctx, "reverse", reverse, 2) && holds(ctx, "x", x, size) &&
         floating(ctx, "x", x) && is(ctx, "y", y, x.dtype, size);
}

}  // namespace limbeck::checks
