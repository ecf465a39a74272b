// Layer normalisation on the CPU: the row stays in cache through its three walks; mean and variance in double.
#pragma once
#include "ops/layer_norm/math.h"

namespace limbeck::cpu::LIMBECK_ISA {

void layer_norm(Context&, In x, In weight, In bias, Out y, Out mean, Out inverse_deviation, Int rows, Int cols, Float epsilon) {
  by_dtype(x.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    const S *w = weight.as<S>(), *b = bias.as<S>();
    over_rows(rows, cols, [&](Int begin, Int end) {
      for (Int r = begin; r < end; ++r) {
        const S* from = x.as<S>() + r * cols;
        S* to = y.as<S>() + r * cols;
        S centre = 0;
        if (mean) {
          centre = static_cast<S>(sum_each<V, 1>(cols, [&](Int i, auto span, V* part) LIMBECK_INLINE { part[0] = part[0] + span.load(from + i, 0); }).sum[0] /
                                  static_cast<double>(cols));
          mean.as<S>()[r] = centre;
        }
        const V m = splat<V>(centre);
        const double squares = sum_each<V, 1>(cols, [&](Int i, auto span, V* part) LIMBECK_INLINE {
                                 const V d = span.load(from + i, static_cast<double>(centre)) - m;
                                 part[0] = fma_(d, d, part[0]);
                               }).sum[0];
        const S scale = static_cast<S>(1 / sqrt(squares / static_cast<double>(cols) + epsilon));
        inverse_deviation.as<S>()[r] = scale;
        const V inverse = splat<V>(scale);
        if (b) each<V>(cols, [&](Int i, auto span) LIMBECK_INLINE {
          span.store(to + i, fma_(normalized_(span.load(from + i, 0), m, inverse), span.load(w + i, 0), span.load(b + i, 0)));
        });
        else each<V>(cols, [&](Int i, auto span) LIMBECK_INLINE { span.store(to + i, normalized_(span.load(from + i, 0), m, inverse) * span.load(w + i, 0)); });
      }
    });
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
