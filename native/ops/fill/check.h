// What fill needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool fill(Context& ctx, Out y, Int size, Float) {
  return extent(ctx, "size", size) && holds(ctx, "y", y, size) && (y.dtype == DType::int32 || stored(ctx, "y", y));
}

}  // namespace limbeck::checks
