// What matmul needs to be safe to run.
#pragma once
#include <cmath>

#include "core/check.h"

namespace limbeck::checks {

// Strides: elements from one line in memory to the next. float64 goes with float64, on the CPU and unscaled; each of the three may be any other floating dtype, whatever the others are.
inline bool matmul(Context& ctx, In a, In b, Out c, Int m, Int n, Int k, Int a_stride, Int b_stride, Int c_stride, Int transpose_a, Int transpose_b, Int, Float scale) {
  Int size_a = 0, size_b = 0, size_c = 0;
  if (!(extent(ctx, "m", m) && extent(ctx, "n", n) && extent(ctx, "k", k))) return false;
  if (!(product(m, k, size_a) && product(k, n, size_b) && product(m, n, size_c)))
    return ctx.refuse(Fail::value, "the sizes must stay below 2^53: m is %lld, n is %lld, k is %lld", (long long)m, (long long)n, (long long)k);
  if (!(spread(ctx, "a_stride", transpose_a ? k : m, transpose_a ? m : k, a_stride, size_a) &&
        spread(ctx, "b_stride", transpose_b ? n : k, transpose_b ? k : n, b_stride, size_b) && spread(ctx, "c_stride", m, n, c_stride, size_c)))
    return false;
  if (!(holds(ctx, "a", a, size_a) && stored(ctx, "a", a))) return false;
  if (!(scale > -INFINITY && scale < INFINITY && (scale == 1 || a.dtype != DType::float64)))
    return ctx.refuse(Fail::value, "scale must be finite%s: it is %g", a.dtype == DType::float64 ? ", and 1 with float64" : "", scale);
  if (a.dtype == DType::float64) return is(ctx, "b", b, a.dtype, size_b) && is(ctx, "c", c, a.dtype, size_c);
  return holds(ctx, "b", b, size_b) && narrow(ctx, "b", b) && holds(ctx, "c", c, size_c) && narrow(ctx, "c", c);
}

}  // namespace limbeck::checks
