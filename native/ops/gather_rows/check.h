// What gather_rows needs to be safe to run; whether each index names a row is seen while gathering.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool gather_rows(Context& ctx, In x, In indices, Out y, Int rows, Int cols, Int count) {
  Int size = 0, gathered = 0;
  if (!(extent(ctx, "rows", rows) && extent(ctx, "cols", cols) && extent(ctx, "count", count) && spread(ctx, "cols", rows, cols, cols, size) &&
        spread(ctx, "cols", count, cols, cols, gathered)))
    return false;
  return holds(ctx, "x", x, size) && (x.dtype == DType::int32 || stored(ctx, "x", x)) && is(ctx, "indices", indices, DType::int32, count) && is(ctx, "y", y, x.dtype, gathered);
}

}  // namespace limbeck::checks
