// What gather_rows needs to be safe to run; whether each index names a row is seen while gathering.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool gather_rows(Context& ctx, In x, In indices, Out y, Int rows, Int cols, Int count) {
  Int size = 0, gathered = 0;
  if (!(extent(ctx, "rows", rows) && extent(ctx, "cols", cols) && extent(ctx, "count", count) && spread(ctx, "cols", rows, cols, cols, size) &&
        spread(ctx, "cols", count, cols, cols, gathered)))
    return false;
  if (x.dtype != DType::float32 && x.dtype != DType::int32 && !(x.dtype == DType::float64 && ctx.device < 0))
    return ctx.refuse(Fail::kind, "x must be float32 or int32: it is %s", kDTypeNames[int(x.dtype)]);
  return holds(ctx, "x", x, size) && is(ctx, "indices", indices, DType::int32, count) && is(ctx, "y", y, x.dtype, gathered);
}

}  // namespace limbeck::checks
