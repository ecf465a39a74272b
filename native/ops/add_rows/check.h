// What add_rows needs to be safe to run; whether each index names a row is seen while adding.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool add_rows(Context& ctx, In x, In indices, Out y, Int rows, Int cols, Int count) {
  Int size = 0, given = 0;
  return extent(ctx, "rows", rows) && extent(ctx, "cols", cols) && extent(ctx, "count", count) && spread(ctx, "cols", rows, cols, cols, size) &&
         spread(ctx, "cols", count, cols, cols, given) && holds(ctx, "x", x, given) && floating(ctx, "x", x) &&
         is(ctx, "indices", indices, DType::int32, count) && is(ctx, "y", y, x.dtype, size);
}

}  // namespace limbeck::checks
