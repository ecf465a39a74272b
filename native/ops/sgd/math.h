// Stochastic gradient descent with momentum, as PyTorch defines it: v = μ·v + g, p −= η·(nesterov ? g + μ·v : v).
#pragma once
#include "core/lanes.h"

namespace limbeck {

template <class V> struct Sgd {
  V learning_rate, momentum, weight_decay, gradient_scale;

  // Returns the new parameter; `velocity` is updated. momentum 0 makes velocity equal to the gradient.
  LIMBECK_FN V step(V parameter, V gradient, V& velocity, bool nesterov) const {
    const V g = fma_(weight_decay, parameter, gradient * gradient_scale);
    velocity = mul0_(momentum, velocity) + g;
    return parameter - learning_rate * (nesterov ? fma_(momentum, velocity, g) : velocity);
  }
};

}  // namespace limbeck
