// What unary needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

// A copy may go from one of float32, float16 and bfloat16 to another: float64 would round twice.
inline bool converts(In x, Out y, Int function) {
  const auto is_floats = [](DType dtype) { return dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16; };
  return Unary(function) == Unary::copy && is_floats(x.dtype) && is_floats(y.dtype);
}

inline bool unary(Context& ctx, In x, Out y, Int size, Int function, Float) {
  return extent(ctx, "size", size) && code(ctx, "function", function, 0 LIMBECK_UNARY(LIMBECK_COUNT_ENTRY)) && holds(ctx, "x", x, size) &&
         stored(ctx, "x", x) && is(ctx, "y", y, converts(x, y, function) ? y.dtype : x.dtype, size);
}

}  // namespace limbeck::checks
