// What sgd needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

// Every step with one buffer of momentum for each parameter.
inline bool momentum_step(Context& ctx, InOuts parameters, Ins gradients, InOuts momentum_buffers, Ins masks, Ints sizes, bool may_lack_momentum) {
  const Int count = sizes.count;
  if (!count_is(ctx, "parameters", parameters, count) || !count_is(ctx, "gradients", gradients, count) ||
      !count_is(ctx, "momentum_buffers", momentum_buffers, count) || !count_is(ctx, "masks", masks, count))
    return false;
  for (Int i = 0; i < count; i++) {
    const Int size = sizes.items[i];
    if (!extent(ctx, "a size", size) || !entry(ctx, "parameters", parameters, i, DType::float32, size) ||
        !entry(ctx, "gradients", gradients, i, DType::float32, size) ||
        !entry(ctx, "momentum_buffers", momentum_buffers, i, DType::float32, size, may_lack_momentum) ||
        !entry(ctx, "masks", masks, i, DType::float32, size, true))
      return false;
  }
  return true;
}

inline bool sgd(Context& ctx, InOuts parameters, Ins gradients, InOuts momentum_buffers, Ins masks, Ints sizes, Float, Float momentum, Float, Int,
                Float) {
  if (!momentum_step(ctx, parameters, gradients, momentum_buffers, masks, sizes, true)) return false;
  for (Int i = 0; i < sizes.count; i++)
    if (momentum != 0 && !momentum_buffers.items[i] && sizes.items[i] > 0)
      return ctx.refuse(Fail::kind, "momentum_buffers must be given: momentum is %g", momentum);
  return true;
}

}  // namespace limbeck::checks
