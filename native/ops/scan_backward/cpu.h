// The gradient of a running ln Σ e^x on the CPU: one walk the other way, in double.
#pragma once
#include "ops/scan/math.h"

namespace limbeck::cpu::LIMBECK_ISA {

void scan_backward(Context&, In y, In gradient_y, Out gradient_x, Int rows, Int cols, Int relative, Int reverse) {
  by_dtype(y.dtype, [&](auto lanes) {
    using S = typename lane<typename decltype(lanes)::type>::scalar;
    over_rows(rows, cols, [&](Int begin, Int end) {
      for (Int r = begin; r < end; ++r) {
        const S *y_row = y.as<S>() + r * cols, *g_row = gradient_y.as<S>() + r * cols;
        S* out = gradient_x.as<S>() + r * cols;
        RunningGradient carried = RunningGradient::empty();
        for (Int i = 0; i < cols; ++i) {
          const Int c = reverse ? i : cols - 1 - i;
          const LseShare share = LseShare::of(static_cast<double>(y_row[c]));
          const double g = static_cast<double>(g_row[c]);
          out[c] = static_cast<S>(carried.gradient(share, g, relative != 0));
          carried = RunningGradient::join(carried, RunningGradient::of(share, g));
        }
      }
    });
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
