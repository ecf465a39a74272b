// What ema needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool ema(Context& ctx, InOuts averages, Ins parameters, Ins masks, Ints sizes, Float share) {
  const Int count = sizes.count;
  if (!count_is(ctx, "averages", averages, count) || !count_is(ctx, "parameters", parameters, count) || !count_is(ctx, "masks", masks, count)) return false;
  if (!(share >= 0 && share <= 1)) return ctx.refuse(Fail::value, "share must be in [0, 1]: it is %g", share);
  for (Int i = 0; i < count; i++) {
    const Int size = sizes.items[i];
    if (!extent(ctx, "a size", size) || !entry(ctx, "averages", averages, i, DType::float32, size) ||
        !entry(ctx, "parameters", parameters, i, DType::float32, size) || !entry(ctx, "masks", masks, i, DType::float32, size, true))
      return false;
  }
  return true;
}

}  // namespace limbeck::checks
