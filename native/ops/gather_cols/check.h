// What gather_cols and scatter_cols need to be safe to run; whether each index names a column is seen on the way.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

// `count` entries picked from each row; index_stride 0: the same ones from every row.
inline bool picking(Context& ctx, In indices, Int rows, Int cols, Int count, Int index_stride, Int& size, Int& picked) {
  if (!(extent(ctx, "rows", rows) && extent(ctx, "cols", cols) && extent(ctx, "count", count) && spread(ctx, "cols", rows, cols, cols, size) &&
        spread(ctx, "count", rows, count, count, picked)))
    return false;
  if (index_stride != 0 && index_stride != count)
    return ctx.refuse(Fail::value, "index_stride must be 0 or count (%lld): it is %lld", (long long)count, (long long)index_stride);
  return is(ctx, "indices", indices, DType::int32, index_stride == 0 ? count : picked);
}

inline bool gather_cols(Context& ctx, In x, In indices, Out y, Int rows, Int cols, Int count, Int index_stride) {
  Int size = 0, picked = 0;
  if (!picking(ctx, indices, rows, cols, count, index_stride, size, picked)) return false;
  if (x.dtype != DType::float32 && x.dtype != DType::int32 && !(x.dtype == DType::float64 && ctx.device < 0))
    return ctx.refuse(Fail::kind, "x must be float32 or int32: it is %s", kDTypeNames[int(x.dtype)]);
  return holds(ctx, "x", x, size) && is(ctx, "y", y, x.dtype, picked);
}

}  // namespace limbeck::checks
