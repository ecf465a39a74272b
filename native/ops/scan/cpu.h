// Running sums and running ln Σ e^x of each row on the CPU: one walk in double, with the functions of float32 rows in vectors around it.
#pragma once
#include "ops/scan/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <class S> void sum_row_so_far(const S* x, S* y, Int cols, bool reverse) {
  double sum = 0;
  for (Int i = 0; i < cols; ++i) {
    const Int c = reverse ? cols - 1 - i : i;
    y[c] = static_cast<S>(sum += static_cast<double>(x[c]));
  }
}

// Any row, element by element.
template <class S> void lse_row(const S* x, S* y, Int cols, bool relative, bool reverse) {
  RunningLse<double> lse = RunningLse<double>::empty();
  for (Int i = 0; i < cols; ++i) {
    const Int c = reverse ? cols - 1 - i : i;
    const double beyond = lse.step(static_cast<double>(x[c]));
    y[c] = static_cast<S>(relative ? beyond : lse.log());
  }
}

// A row of finite entries whose exponentials, relative to the largest, neither vanish nor overflow a ratio; false for any other.
template <class V, class S> bool narrow_lse_row(const S* x, S* y, Int cols, bool relative, bool reverse) {
  const S max = largest<V>(x, cols);
  const V top = splat<V>(max);
  each<V>(cols, [&](Int i, auto span) LIMBECK_INLINE {
    // What rounding takes from x − max goes back into the exponential.
    const V v = span.load(x + i, 0), centred = v - top, back = centred - v;
    const V lost = (v - (centred - back)) - (top + back), e = exp_(centred);
    span.store(y + i, fma_(e, lost, e));
  });
  double before = 0;
  bool narrow = true;
  for (Int i = 0; i < cols; ++i) {
    const Int c = reverse ? cols - 1 - i : i;
    const double own = static_cast<double>(y[c]);
    narrow &= own >= 1e-30 && own < 2;
    y[c] = static_cast<S>(relative ? before / own : before + own);
    before += own;
  }
  if (!narrow) return false;
  each<V>(cols, [&](Int i, auto span) LIMBECK_INLINE {
    const V v = span.load(y + i, 1);
    span.store(y + i, relative ? log1p_(v) : top + log_(v));
  });
  return true;
}

}  // namespace

void scan(Context&, In x, Out y, Int rows, Int cols, Int function, Int reverse) {
  by_dtype(x.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    const bool relative = Scan(function) == Scan::log_sum_exp_relative, turned = reverse != 0;
    over_rows(rows, cols, [&](Int begin, Int end) {
      for (Int r = begin; r < end; ++r) {
        const S* from = x.as<S>() + r * cols;
        S* to = y.as<S>() + r * cols;
        if (Scan(function) == Scan::sum) sum_row_so_far(from, to, cols, turned);
        else if (sizeof(S) == 8 || !narrow_lse_row<V>(from, to, cols, relative, turned)) lse_row(from, to, cols, relative, turned);
      }
    });
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
