// The gradient of a running ln Σ e^x on the CPU: one walk the other way in double, with the exponentials of float32 rows in vectors before it.
#pragma once
#include "ops/scan/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

// share(c): what column c has of its sum.
template <class S, class Share> void walk_back(const S* g, S* out, Int cols, bool relative, bool reverse, Share share) {
  RunningGradient carried = RunningGradient::empty();
  for (Int i = 0; i < cols; ++i) {
    const Int c = reverse ? i : cols - 1 - i;
    const LseShare own = share(c);
    const double upstream = static_cast<double>(g[c]);
    out[c] = static_cast<S>(carried.gradient(own, upstream, relative));
    // The factor of the whole walk is not asked for, and could underflow slowly.
    carried = {0, RunningGradient::join(carried, RunningGradient::of(own, upstream)).term};
  }
}

}  // namespace

void scan_backward(Context& ctx, In y, In gradient_y, Out gradient_x, Int rows, Int cols, Int relative, Int reverse) {
  Faults faults;
  by_dtype(y.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    over_rows(rows, cols, [&](Int begin, Int end) {
      const size_t bytes = static_cast<size_t>(2 * cols) * sizeof(S);
      S* const own = static_cast<S*>(scratch(bytes + 64));
      if (!own) return faults.out_of_memory(bytes);
      S* const less_one = own + cols;
      for (Int r = begin; r < end; ++r) {
        const S *y_row = y.as<S>() + r * cols, *g_row = gradient_y.as<S>() + r * cols;
        S* out = gradient_x.as<S>() + r * cols;
        if constexpr (sizeof(S) == 8) {
          walk_back(g_row, out, cols, relative != 0, reverse != 0, [&](Int c) { return LseShare::of(y_row[c]); });
        } else {
          each<V>(cols, [&](Int i, auto span) LIMBECK_INLINE {
            const V v = -span.load(y_row + i, 0);
            span.store(own + i, exp_(v));
            span.store(less_one + i, expm1_(v));
          });
          walk_back(g_row, out, cols, relative != 0, reverse != 0, [&](Int c) {
            return LseShare::of(y_row[c], static_cast<double>(own[c]), static_cast<double>(less_one[c]));
          });
        }
      }
    });
  });
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
