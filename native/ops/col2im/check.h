// What col2im needs to be safe to run.
#pragma once
#include "core/check.h"
#include "ops/im2col/check.h"

namespace limbeck::checks {

inline bool col2im(Context& ctx, In columns, Out x, Int images, Int channels, Int height, Int width, Int kernel_height, Int kernel_width, Int stride, Int padding) {
  Int image = 0, size = 0;
  return windows(ctx, images, {channels, height, width, kernel_height, kernel_width, stride, padding}, image, size) && holds(ctx, "columns", columns, size) &&
         floating(ctx, "columns", columns) && is(ctx, "x", x, columns.dtype, image);
}

}  // namespace limbeck::checks
