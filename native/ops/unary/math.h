// The unary functions and their derivatives. NaN stays NaN in all of them.
#pragma once
#include "core/codes.h"
#include "core/lanes.h"

namespace limbeck {

// Σ of the normal density beyond z ≥ 0, to its own last digits: e^{−z²/2}·Q(1/(1 + 0.3·z)), Q a least-squares fit of degree 10 (7e-8).
// z² is split so that the exponential loses nothing where it is small.
template <class V> LIMBECK_FN V normal_tail_(V z) {
  if constexpr (sizeof(typename lane<V>::scalar) == 8) {
    return splat<V>(0.5) * V(erfc(double(z) * 0.70710678118654752440));
  } else {
    const V t = splat<V>(1) / fma_(splat<V>(0.3), z, splat<V>(1));
    V q = splat<V>(-0.0137830953);
    q = fma_(q, t, splat<V>(0.0791427792));
    q = fma_(q, t, splat<V>(-0.159161647));
    q = fma_(q, t, splat<V>(0.112077278));
    q = fma_(q, t, splat<V>(-0.0232997921));
    q = fma_(q, t, splat<V>(0.0713008623));
    q = fma_(q, t, splat<V>(0.0852757044));
    q = fma_(q, t, splat<V>(0.109089573));
    q = fma_(q, t, splat<V>(0.119675595));
    q = fma_(q, t, splat<V>(0.119682778));
    const V half = splat<V>(-0.5) * z, high = half * z, low = fma_(half, z, -high), e = exp_(high);
    return t * q * select_(lt_(z, splat<V>(14)), fma_(e, low, e), select_(eq_(z, z), splat<V>(0), z));
  }
}

// y = f(x); `parameter` is the factor of scale and the term of add_scalar.
template <Unary f, class V> LIMBECK_FN V unary_(V x, V parameter) {
  const V zero = splat<V>(0), one = splat<V>(1);
  if constexpr (f == Unary::neg) return -x;
  else if constexpr (f == Unary::relu) return select_(lt_(x, zero), zero, x);
  else if constexpr (f == Unary::exp) return exp_(x);
  else if constexpr (f == Unary::log) return log_(x);
  else if constexpr (f == Unary::square) return x * x;
  else if constexpr (f == Unary::sqrt) return sqrt_(x);
  else if constexpr (f == Unary::abs) return abs_(x);
  else if constexpr (f == Unary::tanh) {
    // −expm1(−2|x|) / (2 + expm1(−2|x|)) loses nothing near 0 and cannot overflow.
    const V e = expm1_(splat<V>(-2) * abs_(x));
    const V t = -e / (e + splat<V>(2));
    return select_(lt_(x, zero), -t, t);
  } else if constexpr (f == Unary::sigmoid) {
    const V e = exp_(-abs_(x));
    return select_(lt_(x, zero), e, one) / (one + e);
  } else if constexpr (f == Unary::scale) return x * parameter;
  else if constexpr (f == Unary::add_scalar) return x + parameter;
  else if constexpr (f == Unary::expm1) return expm1_(x);
  else if constexpr (f == Unary::log1p) return log1p_(x);
  else if constexpr (f == Unary::softplus) return max_(x, zero) + log1p_(exp_(-abs_(x)));
  else if constexpr (f == Unary::finite_or_zero) return select_(lt_(abs_(x), splat<V>(INFINITY)), x, zero);
  else if constexpr (f == Unary::silu) return mul0_(unary_<Unary::sigmoid>(x, parameter), x);
  else if constexpr (f == Unary::gelu) {
    const V tail = normal_tail_(abs_(x));
    return select_(lt_(x, zero), mul0_(tail, x), x * (one - tail));
  } else return x;
}

// ∂/∂x from x, y = f(x) and the upstream gradient g. relu and abs have gradient 0 at 0.
template <Unary f, class V> LIMBECK_FN V unary_gradient_(V x, V y, V g, V parameter) {
  const V zero = splat<V>(0), one = splat<V>(1);
  if constexpr (f == Unary::neg) return -g;
  else if constexpr (f == Unary::relu) return select_(lt_(zero, x), g, select_(eq_(x, x), zero, x));
  else if constexpr (f == Unary::exp) return g * y;
  else if constexpr (f == Unary::log) return g / x;
  else if constexpr (f == Unary::square) return splat<V>(2) * x * g;
  else if constexpr (f == Unary::sqrt) return g / (splat<V>(2) * y);
  else if constexpr (f == Unary::abs) return select_(lt_(zero, x), g, select_(lt_(x, zero), -g, select_(eq_(x, x), zero, x)));
  else if constexpr (f == Unary::tanh) return g * ((one - y) * (one + y));
  else if constexpr (f == Unary::sigmoid) return g * (y * (one - y));
  else if constexpr (f == Unary::scale) return g * parameter;
  else if constexpr (f == Unary::expm1) return g * (y + one);
  else if constexpr (f == Unary::log1p) return g / (x + one);
  else if constexpr (f == Unary::softplus) return g * unary_<Unary::sigmoid>(x, parameter);
  else if constexpr (f == Unary::finite_or_zero) return select_(lt_(abs_(x), splat<V>(INFINITY)), g, zero);
  else if constexpr (f == Unary::silu) {
    const V s = unary_<Unary::sigmoid>(x, parameter);
    return g * (s * (one + mul0_(one - s, x)));
  } else if constexpr (f == Unary::gelu) {
    // Φ(x) + x·φ(x); φ is 0 long before x² overflows.
    const V z = abs_(x), tail = normal_tail_(z), density = splat<V>(0.39894228040143267794) * exp_(splat<V>(-0.5) * x * x);
    return g * (select_(lt_(x, zero), tail, one - tail) + mul0_(density, x));
  } else return g;
}

}  // namespace limbeck
