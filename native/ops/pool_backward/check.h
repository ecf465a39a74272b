// What pool_backward needs to be safe to run.
#pragma once
#include "core/check.h"
#include "ops/pool/check.h"

namespace limbeck::checks {

inline bool pool_backward(Context& ctx, In gradient_y, In places, Out gradient_x, Int planes, Int height, Int width, Int window, Int stride, Int function) {
  Int size = 0, pooled = 0;
  return pools(ctx, planes, height, width, window, stride, function, size, pooled) && holds(ctx, "gradient_y", gradient_y, pooled) &&
         floating(ctx, "gradient_y", gradient_y) && is(ctx, "gradient_x", gradient_x, gradient_y.dtype, size) &&
         (Pool(function) == Pool::max ? is(ctx, "places", places, DType::int32, pooled) : true);
}

}  // namespace limbeck::checks
