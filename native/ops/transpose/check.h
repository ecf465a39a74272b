// What transpose needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool transpose(Context& ctx, In x, Out y, Int batch, Int rows, Int cols) {
  Int plane = 0, size = 0;
  return extent(ctx, "batch", batch) && extent(ctx, "rows", rows) && extent(ctx, "cols", cols) && spread(ctx, "cols", rows, cols, cols, plane) &&
         spread(ctx, "rows · cols", batch, plane, plane, size) && holds(ctx, "x", x, size) && floating(ctx, "x", x) && is(ctx, "y", y, x.dtype, size);
}

}  // namespace limbeck::checks
