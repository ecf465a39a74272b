// The activations behind a linear layer: y = dropout(f(x + b)), and the gradient of x + b.
#pragma once
#include "ops/dropout/math.h"
#include "ops/unary/math.h"

namespace limbeck {

// A constant, not a function: nvcc knows a function of the host even where its result is one.
template <Activation f>
inline constexpr Unary unary_of = f == Activation::relu   ? Unary::relu
                                  : f == Activation::gelu ? Unary::gelu
                                  : f == Activation::silu ? Unary::silu
                                  : f == Activation::tanh ? Unary::tanh
                                                          : Unary::copy;

template <Activation f, class V> LIMBECK_FN V activation_(V v) { return unary_<unary_of<f>>(v, splat<V>(0)); }

// From v = x + b and the gradient of f(v).
template <Activation f, class V> LIMBECK_FN V activation_gradient_(V v, V g) {
  return unary_gradient_<unary_of<f>>(v, activation_<f>(v), g, splat<V>(0));
}

}  // namespace limbeck
