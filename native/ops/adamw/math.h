// AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101): p −= η·(m̂/(√v̂ + ε) + λ·p), moments corrected for their start at 0.
#pragma once
#include "core/lanes.h"

namespace limbeck {

template <class V> struct AdamW {
  // correction = 1/(1 − βᵗ), computed in double by the caller: see adamw_correction_.
  V learning_rate, beta1, beta2, one_minus_beta1, one_minus_beta2, epsilon, weight_decay, gradient_scale, correction1, correction2;

  // Returns the new parameter; both moments are updated.
  LIMBECK_FN V step(V parameter, V gradient, V& first, V& second) const {
    const V g = gradient * gradient_scale;
    first = fma_(beta1, first, one_minus_beta1 * g);
    second = fma_(beta2, second, one_minus_beta2 * g * g);
    const V update = first * correction1 / (sqrt_(second * correction2) + epsilon);
    return parameter - learning_rate * fma_(weight_decay, parameter, update);
  }
};

// 1/(1 − βᵗ) for step t >= 1.
LIMBECK_FN double adamw_correction_(double beta, int64_t step) { return 1.0 / -expm1(static_cast<double>(step) * log(beta)); }

template <class V> LIMBECK_FN AdamW<V> adamw_(double learning_rate, double beta1, double beta2, double epsilon, double weight_decay,
                                              int64_t step, double gradient_scale) {
  return {splat<V>(learning_rate), splat<V>(beta1),   splat<V>(beta2),        splat<V>(1 - beta1),
          splat<V>(1 - beta2),     splat<V>(epsilon), splat<V>(weight_decay), splat<V>(gradient_scale),
          splat<V>(adamw_correction_(beta1, step)),   splat<V>(adamw_correction_(beta2, step))};
}

}  // namespace limbeck
