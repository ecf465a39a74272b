// What argsort needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool argsort(Context& ctx, In x, Out indices, Int rows, Int cols, Int descending) {
  Int size = 0;
  if (!(extent(ctx, "rows", rows) && extent(ctx, "cols", cols) && spread(ctx, "cols", rows, cols, cols, size))) return false;
  if (cols > INT32_MAX) return ctx.refuse(Fail::value, "cols must fit an int32 index: it is %lld", (long long)cols);
  return code(ctx, "descending", descending, 2) && holds(ctx, "x", x, size) && floating(ctx, "x", x) &&
         is(ctx, "indices", indices, DType::int32, size);
}

}  // namespace limbeck::checks
