// Gradient of softmax and log softmax on the CPU: one sum per row, then the element formula.
#pragma once
#include "ops/softmax/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <class V, class S> void softmax_backward_row(const S* y, const S* g, S* dx, Int cols, double temperature, bool is_log) {
  const V inverse = splat<V>(1 / temperature);
  if (is_log) {
    const V sum = splat<V>(sum_each<V, 1>(cols, [&](Int i, auto span, V* part) LIMBECK_INLINE { part[0] = part[0] + span.load(g + i, 0); }).sum[0]);
    each<V>(cols, [&](Int i, auto span) LIMBECK_INLINE {
      span.store(dx + i, log_softmax_gradient_(span.load(y + i, 0), span.load(g + i, 0), sum, inverse));
    });
    return;
  }
  const V dot = splat<V>(sum_each<V, 1>(cols, [&](Int i, auto span, V* part) LIMBECK_INLINE {
                           part[0] = fma_(span.load(y + i, 0), span.load(g + i, 0), part[0]);
                         }).sum[0]);
  each<V>(cols, [&](Int i, auto span) LIMBECK_INLINE {
    span.store(dx + i, softmax_gradient_(span.load(y + i, 0), span.load(g + i, 0), dot, inverse));
  });
}

}  // namespace

void softmax_backward(Context& ctx, In y, In gradient_y, In row_temperature, Out gradient_x, Int rows, Int cols, Float temperature, Int is_log) {
  Faults faults;
  by_dtype(y.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    over_rows(rows, cols, [&](Int begin, Int end) {
      const RowRoom<S> room(faults, cols, is_half(y.dtype) ? 3 : 0);
      if (!room) return;
      for (Int r = begin; r < end && !faults.beyond(r); ++r) {
        const double t = temperature_of(faults, row_temperature, temperature, r);
        if (!(t == t)) continue;
        const Int at = r * cols;
        const S *row = widened<V>(y, at, cols, room.row(0)), *g = widened<V>(gradient_y, at, cols, room.row(1));
        S* out = is_half(gradient_x.dtype) ? room.row(2) : gradient_x.as<S>() + at;
        softmax_backward_row<V, S>(row, g, out, cols, t, is_log != 0);
        if (is_half(gradient_x.dtype)) narrowed<V>(out, gradient_x, at, cols);
      }
    });
  });
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
