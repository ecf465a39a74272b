// What attention_backward needs to be safe to run.
#pragma once
#include "core/check.h"
#include "ops/attention/check.h"

namespace limbeck::checks {

inline bool attention_backward(Context& ctx, In qkv, In y, In log_sums, In gradient_y, Out gradient_qkv, Int batch, Int tokens, Int heads, Int head_width, Int,
                               Float scale) {
  Int size = 0, sums = 0;
  return heads_of(ctx, batch, tokens, heads, head_width, scale, size, sums) && holds(ctx, "qkv", qkv, 3 * size) && floating(ctx, "qkv", qkv) &&
         is(ctx, "y", y, qkv.dtype, size) && is(ctx, "log_sums", log_sums, qkv.dtype, sums) && is(ctx, "gradient_y", gradient_y, qkv.dtype, size) &&
         is(ctx, "gradient_qkv", gradient_qkv, qkv.dtype, 3 * size);
}

}  // namespace limbeck::checks
