// What layer_norm_backward needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool layer_norm_backward(Context& ctx, In x, In weight, In mean, In inverse_deviation, In gradient_y, Out gradient_x, Out scaled, Int rows, Int cols) {
  Int size = 0;
  return extent(ctx, "rows", rows) && extent(ctx, "cols", cols, 1) && spread(ctx, "cols", rows, cols, cols, size) && holds(ctx, "x", x, size) &&
         floating(ctx, "x", x) && is(ctx, "weight", weight, x.dtype, cols) && maybe(ctx, "mean", mean, x.dtype, rows) &&
         is(ctx, "inverse_deviation", inverse_deviation, x.dtype, rows) && is(ctx, "gradient_y", gradient_y, x.dtype, size) &&
         is(ctx, "gradient_x", gradient_x, x.dtype, size) && maybe(ctx, "scaled", scaled, x.dtype, size);
}

}  // namespace limbeck::checks
