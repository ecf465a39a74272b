// What sgd needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool sgd(Context& ctx, InOuts parameters, Ins gradients, InOuts momentum_buffers, Ins masks, Ints sizes, Float, Float momentum, Float, Int,
                Float) {
  const Int count = sizes.count;
  if (!count_is(ctx, "parameters", parameters, count) || !count_is(ctx, "gradients", gradients, count) ||
      !count_is(ctx, "momentum_buffers", momentum_buffers, count) || !count_is(ctx, "masks", masks, count))
    return false;
  for (Int i = 0; i < count; i++) {
    const Int size = sizes.items[i];
    if (momentum != 0 && !momentum_buffers.items[i] && size > 0)
      return ctx.refuse(Fail::kind, "momentum_buffers must be given: momentum is %g", momentum);
    if (!extent(ctx, "a size", size) || !entry(ctx, "parameters", parameters, i, DType::float32, size) ||
        !entry(ctx, "gradients", gradients, i, DType::float32, size) ||
        !entry(ctx, "momentum_buffers", momentum_buffers, i, DType::float32, size, true) ||
        !entry(ctx, "masks", masks, i, DType::float32, size, true))
      return false;
  }
  return true;
}

}  // namespace limbeck::checks
