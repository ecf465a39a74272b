// The gradient of layer normalisation on the CPU: two sums per row, then the element formula. `scaled` gets g·x̂, whose sum over rows is ∂w.
#pragma once
#include "ops/layer_norm/math.h"

namespace limbeck::cpu::LIMBECK_ISA {

void layer_norm_backward(Context&, In x, In weight, In mean, In inverse_deviation, In gradient_y, Out gradient_x, Out scaled, Int rows, Int cols) {
  by_dtype(x.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    const S* w = weight.as<S>();
    over_rows(rows, cols, [&](Int begin, Int end) {
      for (Int r = begin; r < end; ++r) {
        const Int at = r * cols;
        const S *from = x.as<S>() + at, *g = gradient_y.as<S>() + at;
        S *to = gradient_x.as<S>() + at, *product = scaled ? scaled.as<S>() + at : nullptr;
        const V m = splat<V>(mean ? mean.as<S>()[r] : S(0)), inverse = splat<V>(inverse_deviation.as<S>()[r]);
        const auto sums = sum_each<V, 2>(cols, [&](Int i, auto span, V* part) LIMBECK_INLINE {
          const V weighted = span.load(g + i, 0) * span.load(w + i, 0);
          part[0] = part[0] + weighted;
          part[1] = fma_(weighted, normalized_(span.load(from + i, 0), m, inverse), part[1]);
        });
        const V mean_weighted = splat<V>(mean ? sums.sum[0] / static_cast<double>(cols) : 0), mean_product = splat<V>(sums.sum[1] / static_cast<double>(cols));
        each<V>(cols, [&](Int i, auto span) LIMBECK_INLINE {
          const V upstream = span.load(g + i, 0), normalized = normalized_(span.load(from + i, 0), m, inverse);
          if (product) span.store(product + i, upstream * normalized);
          span.store(to + i, layer_norm_gradient_(upstream * span.load(w + i, 0), normalized, inverse, mean_weighted, mean_product));
        });
      }
    });
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
