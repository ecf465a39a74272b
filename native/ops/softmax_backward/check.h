// What softmax_backward needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool softmax_backward(Context& ctx, In y, In gradient_y, In row_temperature, Out gradient_x, Int rows, Int cols,
                             Float temperature, Int) {
  Int size = 0;
  return extent(ctx, "rows", rows) && extent(ctx, "cols", cols) && spread(ctx, "cols", rows, cols, cols, size) &&
         holds(ctx, "y", y, size) && stored(ctx, "y", y) && is(ctx, "gradient_y", gradient_y, y.dtype, size) &&
         is(ctx, "gradient_x", gradient_x, y.dtype, size) &&
         maybe(ctx, "row_temperature", row_temperature, DType::float32, rows) &&
         (row_temperature || positive(ctx, "temperature", temperature));
}

}  // namespace limbeck::checks
