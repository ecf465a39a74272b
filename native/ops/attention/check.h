// What attention needs to be safe to run.
#pragma once
#include "core/check.h"
#include "ops/attention/math.h"

namespace limbeck::checks {

// `size`: elements of the output; the queries, keys and values together are three times as many.
inline bool heads_of(Context& ctx, Int batch, Int tokens, Int heads, Int head_width, Float scale, Int& size, Int& sums) {
  Int width = 0, lines = 0;
  if (!(extent(ctx, "batch", batch) && extent(ctx, "tokens", tokens) && extent(ctx, "heads", heads, 1) && extent(ctx, "head_width", head_width, 1) &&
        positive(ctx, "scale", scale)))
    return false;
  if (head_width > kMostHeadWidth)
    return ctx.refuse(Fail::value, "head_width must be at most %lld: it is %lld", (long long)kMostHeadWidth, (long long)head_width);
  return product(heads, head_width, width) && product(3, width, width) && product(batch, tokens, lines) && product(lines, heads, sums) &&
         spread(ctx, "3 · width", lines, width, width, size) && (size /= 3, true);
}

inline bool attention(Context& ctx, In qkv, Out y, Out log_sums, Int batch, Int tokens, Int heads, Int head_width, Int, Float scale) {
  Int size = 0, sums = 0;
  return heads_of(ctx, batch, tokens, heads, head_width, scale, size, sums) && holds(ctx, "qkv", qkv, 3 * size) && floating(ctx, "qkv", qkv) &&
         is(ctx, "y", y, qkv.dtype, size) && is(ctx, "log_sums", log_sums, qkv.dtype, sums);
}

}  // namespace limbeck::checks
