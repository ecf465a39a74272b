// The activations behind a linear layer: y = dropout(f(x + b)), and the gradient of x + b.
#pragma once
#include "ops/dropout/math.h"
#include "ops/unary/math.h"

namespace limbeck {

constexpr Unary unary_of_(Activation f) {
  switch (f) {
    case Activation::relu: return Unary::relu;
    case Activation::gelu: return Unary::gelu;
    case Activation::silu: return Unary::silu;
    case Activation::tanh: return Unary::tanh;
    default: return Unary::copy;
  }
}

template <Activation f, class V> LIMBECK_FN V activation_(V v) { return unary_<unary_of_(f)>(v, splat<V>(0)); }

// From v = x + b and the gradient of f(v).
template <Activation f, class V> LIMBECK_FN V activation_gradient_(V v, V g) {
  return unary_gradient_<unary_of_(f)>(v, activation_<f>(v), g, splat<V>(0));
}

}  // namespace limbeck
