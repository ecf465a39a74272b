// softmax and log softmax on the CPU: maximum, exponentials into y, then one scaling; the row stays in cache.
#pragma once
#include "ops/softmax/row.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <class V, class S> void softmax_row(const S* x, S* y, Int cols, double temperature, bool is_log) {
  const Range<S> range = range_of<V>(x, cols);
  const S max = range.max;
  if (is_log) {
    const auto inverse = InverseTemperature<S>::of(temperature);
    const V log_sum = splat<V>(log(exp_row<V>(x, max, RowExp<V>::of(temperature), static_cast<S*>(nullptr), cols)));
    const V m = splat<V>(max), hi = splat<V>(inverse.hi), lo = splat<V>(inverse.lo);
    each<V>(cols, [&](Int i, auto span) LIMBECK_INLINE { span.store(y + i, log_softmax_(span.load(x + i, 0), m, hi, lo, log_sum)); });
    return;
  }
  const V scale = splat<V>(1 / exp_row<V>(x, max, RowExp<V>::of(temperature), y, cols, range.span()));
  each<V>(cols, [&](Int i, auto span) LIMBECK_INLINE { span.store(y + i, span.load(y + i, 0) * scale); });
}

}  // namespace

void softmax(Context& ctx, In x, In row_temperature, Out y, Int rows, Int cols, Float temperature, Int is_log) {
  Faults faults;
  by_dtype(x.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    over_rows(rows, cols, [&](Int begin, Int end) {
      const RowRoom<S> room(faults, cols, is_half(x.dtype) ? 2 : 0);
      if (!room) return;
      for (Int r = begin; r < end && !faults.beyond(r); ++r) {
        const double t = temperature_of(faults, row_temperature, temperature, r);
        if (!(t == t)) continue;
        const S* from = widened<V>(x, r * cols, cols, room.row(0));
        S* to = is_half(y.dtype) ? room.row(1) : y.as<S>() + r * cols;
        softmax_row<V, S>(from, to, cols, t, is_log != 0);
        if (is_half(y.dtype)) narrowed<V>(to, y, r * cols, cols);
      }
    });
  });
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
