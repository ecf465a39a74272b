// What top_k needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

// k best of cols: shared with capture_top_k.
inline bool selection(Context& ctx, Int rows, Int cols, Int k, Int& size, Int& kept) {
  if (!(extent(ctx, "rows", rows) && extent(ctx, "cols", cols) && extent(ctx, "k", k) && spread(ctx, "cols", rows, cols, cols, size)))
    return false;
  if (k > cols) return ctx.refuse(Fail::value, "k must be at most cols (%lld): it is %lld", (long long)cols, (long long)k);
  if (cols > INT32_MAX) return ctx.refuse(Fail::value, "cols must fit an int32 index: it is %lld", (long long)cols);
  return product(rows, k, kept);
}

inline bool top_k(Context& ctx, In x, Out values, Out indices, Int rows, Int cols, Int k) {
  Int size = 0, kept = 0;
  return selection(ctx, rows, cols, k, size, kept) && holds(ctx, "x", x, size) && narrow(ctx, "x", x) &&
         is(ctx, "values", values, x.dtype, kept) && is(ctx, "indices", indices, DType::int32, kept);
}

}  // namespace limbeck::checks
