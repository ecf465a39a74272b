// What im2col needs to be safe to run.
#pragma once
#include "core/check.h"
#include "ops/im2col/math.h"

namespace limbeck::checks {

// Windows must lie in the padded image; `image` and `columns` get the sizes of both sides.
inline bool windows(Context& ctx, Int images, const Windows& w, Int& image, Int& columns) {
  Int plane = 0, line = 0, lines = 0;
  if (!(extent(ctx, "images", images) && extent(ctx, "channels", w.channels, 1) && extent(ctx, "height", w.height, 1) && extent(ctx, "width", w.width, 1) &&
        extent(ctx, "kernel_height", w.kernel_height, 1) && extent(ctx, "kernel_width", w.kernel_width, 1) && extent(ctx, "stride", w.stride, 1) &&
        extent(ctx, "padding", w.padding)))
    return false;
  if (w.padding >= w.kernel_height || w.padding >= w.kernel_width || w.kernel_height > w.height + 2 * w.padding || w.kernel_width > w.width + 2 * w.padding)
    return ctx.refuse(Fail::value, "the window must fit the padded image, and the padding must be smaller than the window: window %lld × %lld, image %lld × %lld, padding %lld",
                      (long long)w.kernel_height, (long long)w.kernel_width, (long long)w.height, (long long)w.width, (long long)w.padding);
  return product(w.height, w.width, plane) && product(plane, w.channels, plane) && spread(ctx, "image", images, plane, plane, image) &&
         product(w.kernel_height, w.kernel_width, line) && product(line, w.channels, line) && product(w.out_height(), w.out_width(), lines) &&
         product(lines, images, lines) && spread(ctx, "columns", lines, line, line, columns);
}

inline bool im2col(Context& ctx, In x, Out columns, Int images, Int channels, Int height, Int width, Int kernel_height, Int kernel_width, Int stride, Int padding) {
  Int image = 0, size = 0;
  return windows(ctx, images, {channels, height, width, kernel_height, kernel_width, stride, padding}, image, size) && holds(ctx, "x", x, image) &&
         floating(ctx, "x", x) && is(ctx, "columns", columns, x.dtype, size);
}

}  // namespace limbeck::checks
