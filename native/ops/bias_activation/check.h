// What bias_activation needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

// What both directions share.
inline bool bias_activation_call(Context& ctx, In x, In bias, Int rows, Int cols, Int function, Float probability, Int offset, Int& size) {
  if (!(probability >= 0 && probability < 1))
    return ctx.refuse(Fail::value, "probability must be in [0, 1): it is %g", probability);
  return extent(ctx, "rows", rows) && extent(ctx, "cols", cols) && extent(ctx, "offset", offset) && spread(ctx, "cols", rows, cols, cols, size) &&
         code(ctx, "function", function, 0 LIMBECK_ACTIVATIONS(LIMBECK_COUNT_ENTRY)) && holds(ctx, "x", x, size) && floating(ctx, "x", x) &&
         maybe(ctx, "bias", bias, x.dtype, cols);
}

inline bool bias_activation(Context& ctx, In x, In bias, Out y, Int rows, Int cols, Int function, Float probability, Int, Int offset) {
  Int size = 0;
  return bias_activation_call(ctx, x, bias, rows, cols, function, probability, offset, size) && is(ctx, "y", y, x.dtype, size);
}

}  // namespace limbeck::checks
