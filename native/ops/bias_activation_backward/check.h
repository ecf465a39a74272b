// What bias_activation_backward needs to be safe to run.
#pragma once
#include "ops/bias_activation/check.h"

namespace limbeck::checks {

inline bool bias_activation_backward(Context& ctx, In x, In bias, In gradient_y, Out gradient_x, Int rows, Int cols, Int function, Float probability,
                                     Int, Int offset) {
  Int size = 0;
  return bias_activation_call(ctx, x, bias, rows, cols, function, probability, offset, size) &&
         is(ctx, "gradient_y", gradient_y, x.dtype, size) && is(ctx, "gradient_x", gradient_x, x.dtype, size);
}

}  // namespace limbeck::checks
