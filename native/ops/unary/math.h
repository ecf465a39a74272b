// The unary functions and their derivatives. NaN stays NaN in all of them.
#pragma once
#include "core/codes.h"
#include "core/lanes.h"

namespace limbeck {

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
  else return x;
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
  else return g;
}

}  // namespace limbeck
