// What fill needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool fill(Context& ctx, Out y, Int size, Float) {
  if (y.dtype != DType::float32 && y.dtype != DType::int32 && !(y.dtype == DType::float64 && ctx.device < 0))
    return ctx.refuse(Fail::kind, "y must be float32 or int32: it is %s", kDTypeNames[int(y.dtype)]);
  return extent(ctx, "size", size) && holds(ctx, "y", y, size);
}

}  // namespace limbeck::checks
