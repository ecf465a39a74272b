// What matmul needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool matmul(Context& ctx, In a, In b, Out c, Int m, Int n, Int k, Int, Int, Int) {
  Int size_a = 0, size_b = 0, size_c = 0;
  if (!(extent(ctx, "m", m) && extent(ctx, "n", n) && extent(ctx, "k", k))) return false;
  if (!(product(m, k, size_a) && product(k, n, size_b) && product(m, n, size_c)))
    return ctx.refuse(Fail::value, "the sizes must stay below 2^53: m is %lld, n is %lld, k is %lld", (long long)m, (long long)n, (long long)k);
  return holds(ctx, "a", a, size_a) && floating(ctx, "a", a) && is(ctx, "b", b, a.dtype, size_b) && is(ctx, "c", c, a.dtype, size_c);
}

}  // namespace limbeck::checks
