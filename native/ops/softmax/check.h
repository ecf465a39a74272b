// What softmax needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool softmax(Context& ctx, In x, In row_temperature, Out y, Int rows, Int cols, Float temperature, Int) {
  Int size = 0;
  return extent(ctx, "rows", rows) && extent(ctx, "cols", cols) && spread(ctx, "cols", rows, cols, cols, size) &&
         holds(ctx, "x", x, size) && stored(ctx, "x", x) && is(ctx, "y", y, x.dtype, size) &&
         maybe(ctx, "row_temperature", row_temperature, DType::float32, rows) &&
         (row_temperature || positive(ctx, "temperature", temperature));
}

}  // namespace limbeck::checks
