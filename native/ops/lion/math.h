// Lion (Chen et al. 2023, arXiv 2302.06675, algorithm 2): p −= η·(sign(β₁·m + (1 − β₁)·g) + λ·p), then m = β₂·m + (1 − β₂)·g.
#pragma once
#include "core/lanes.h"

namespace limbeck {

template <class V> struct Lion {
  V learning_rate, beta1, beta2, one_minus_beta1, one_minus_beta2, weight_decay, gradient_scale;

  // Returns the new parameter; the momentum is updated. A direction that is not finite makes both NaN: it must show.
  LIMBECK_FN V step(V parameter, V gradient, V& momentum) const {
    const V zero = splat<V>(0), one = splat<V>(1), g = gradient * gradient_scale;
    const V direction = fma_(beta1, momentum, one_minus_beta1 * g);
    const V sign = select_(lt_(zero, direction), one, select_(lt_(direction, zero), -one, zero)) + (direction - direction);
    momentum = fma_(beta2, momentum, one_minus_beta2 * g);
    return parameter - learning_rate * fma_(weight_decay, parameter, sign);
  }
};

template <class V> LIMBECK_FN Lion<V> lion_(double learning_rate, double beta1, double beta2, double weight_decay, double gradient_scale) {
  return {splat<V>(learning_rate), splat<V>(beta1),        splat<V>(beta2),         splat<V>(1 - beta1),
          splat<V>(1 - beta2),     splat<V>(weight_decay), splat<V>(gradient_scale)};
}

}  // namespace limbeck
