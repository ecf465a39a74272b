// What layer_norm needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

// mean absent: RMSNorm.
inline bool layer_norm(Context& ctx, In x, In weight, In bias, Out y, Out mean, Out inverse_deviation, Int rows, Int cols, Float epsilon) {
  Int size = 0;
  if (!(epsilon >= 0 && epsilon < __builtin_inf())) return ctx.refuse(Fail::value, "epsilon must be a finite number of at least 0: it is %g", epsilon);
  return extent(ctx, "rows", rows) && extent(ctx, "cols", cols, 1) && spread(ctx, "cols", rows, cols, cols, size) && holds(ctx, "x", x, size) &&
         floating(ctx, "x", x) && is(ctx, "weight", weight, x.dtype, cols) && maybe(ctx, "bias", bias, x.dtype, cols) && is(ctx, "y", y, x.dtype, size) &&
         maybe(ctx, "mean", mean, x.dtype, rows) && is(ctx, "inverse_deviation", inverse_deviation, x.dtype, rows);
}

}  // namespace limbeck::checks
