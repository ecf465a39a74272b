// What pool needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool pools(Context& ctx, Int planes, Int height, Int width, Int window, Int stride, Int function, Int& size, Int& pooled) {
  Int plane = 0, small = 0;
  if (!(extent(ctx, "planes", planes) && extent(ctx, "height", height, 1) && extent(ctx, "width", width, 1) && extent(ctx, "window", window, 1) &&
        extent(ctx, "stride", stride, 1) && code(ctx, "function", function, 0 LIMBECK_POOLS(LIMBECK_COUNT_ENTRY))))
    return false;
  if (window > height || window > width || height > INT32_MAX / width)
    return ctx.refuse(Fail::value, "the window must fit a plane of less than 2^31 elements: window %lld, plane %lld × %lld", (long long)window, (long long)height, (long long)width);
  return product(height, width, plane) && product((height - window) / stride + 1, (width - window) / stride + 1, small) &&
         spread(ctx, "plane", planes, plane, plane, size) && spread(ctx, "plane", planes, small, small, pooled);
}

// places: where in its plane each maximum was; only the maximum has them.
inline bool pool(Context& ctx, In x, Out y, Out places, Int planes, Int height, Int width, Int window, Int stride, Int function) {
  Int size = 0, pooled = 0;
  return pools(ctx, planes, height, width, window, stride, function, size, pooled) && holds(ctx, "x", x, size) && floating(ctx, "x", x) &&
         is(ctx, "y", y, x.dtype, pooled) && (Pool(function) == Pool::max ? is(ctx, "places", places, DType::int32, pooled) : true);
}

}  // namespace limbeck::checks
