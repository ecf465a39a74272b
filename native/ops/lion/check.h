// What lion needs to be safe to run.
#pragma once
#include "ops/sgd/check.h"

namespace limbeck::checks {

inline bool lion(Context& ctx, InOuts parameters, Ins gradients, InOuts momentum_buffers, Ins masks, Ints sizes, Float, Float, Float, Float, Float) {
  return momentum_step(ctx, parameters, gradients, momentum_buffers, masks, sizes, false);
}

}  // namespace limbeck::checks
