// Running sums and running ln Σ e^x of each row on the CPU: one walk, in double.
#pragma once
#include "ops/scan/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <class S> void scan_row(const S* x, S* y, Int cols, Scan function, bool reverse) {
  double sum = 0;
  RunningLse<double> lse = RunningLse<double>::empty();
  for (Int i = 0; i < cols; ++i) {
    const Int c = reverse ? cols - 1 - i : i;
    const double value = static_cast<double>(x[c]);
    if (function == Scan::sum) {
      sum += value;
      y[c] = static_cast<S>(sum);
      continue;
    }
    const double beyond = lse.step(value);
    y[c] = static_cast<S>(function == Scan::log_sum_exp ? lse.log() : beyond);
  }
}

}  // namespace

void scan(Context&, In x, Out y, Int rows, Int cols, Int function, Int reverse) {
  by_dtype(x.dtype, [&](auto lanes) {
    using S = typename lane<typename decltype(lanes)::type>::scalar;
    over_rows(rows, cols, [&](Int begin, Int end) {
      for (Int r = begin; r < end; ++r) scan_row(x.as<S>() + r * cols, y.as<S>() + r * cols, cols, Scan(function), reverse != 0);
    });
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
