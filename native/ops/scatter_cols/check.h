// What scatter_cols needs to be safe to run.
#pragma once
#include "ops/gather_cols/check.h"

namespace limbeck::checks {

inline bool scatter_cols(Context& ctx, In x, In indices, Out y, Int rows, Int cols, Int count, Int index_stride, Int distinct) {
  Int size = 0, picked = 0;
  return picking(ctx, indices, rows, cols, count, index_stride, size, picked) && code(ctx, "distinct", distinct, 2) &&
         holds(ctx, "x", x, picked) && floating(ctx, "x", x) && is(ctx, "y", y, x.dtype, size);
}

}  // namespace limbeck::checks
