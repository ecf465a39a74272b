// What label_target needs to be safe to run; whether each label names a column is seen row by row.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool label_target(Context& ctx, In x, In labels, Out y, Int rows, Int cols, Int function, Float, Int, Int) {
  Int size = 0;
  if (!(extent(ctx, "rows", rows) && extent(ctx, "cols", cols, 1) && spread(ctx, "cols", rows, cols, cols, size) &&
        code(ctx, "function", function, 0 LIMBECK_LABEL_TARGETS(LIMBECK_COUNT_ENTRY))))
    return false;
  if (cols > INT32_MAX) return ctx.refuse(Fail::value, "cols must fit an int32 index: it is %lld", (long long)cols);
  // Columns trade places, so the rows must not be written where they are read.
  if (rows > 0 && x.data == y.data) return ctx.refuse(Fail::value, "y must not be x: it is");
  return holds(ctx, "x", x, size) && floating(ctx, "x", x) && is(ctx, "labels", labels, DType::int32, rows) && is(ctx, "y", y, x.dtype, size);
}

}  // namespace limbeck::checks
