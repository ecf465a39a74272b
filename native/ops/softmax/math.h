// softmax_i = e^{(x_i − m)/T} / Σ_j e^{(x_j − m)/T} and its logarithm: the row state and the element formulas.
#pragma once
#include "core/lanes.h"

namespace limbeck {

// 1/T as a sum of two lanes: the second half keeps e^{(x − m)/T} exact to a few ulp however small it is.
template <class S> struct InverseTemperature {
  S hi, lo;

  LIMBECK_FN static InverseTemperature of(double temperature) {
    const double inverse = 1.0 / temperature;
    const S hi = static_cast<S>(inverse);
    // 1/T may be too small for a normal float or overflow it: then there is no second half.
    const double rest = inverse - static_cast<double>(hi);
    return {hi, rest - rest == 0 ? static_cast<S>(rest) : S(0)};
  }
};

// Maximum and Σ e^{(x − max)/T} of the elements seen so far. A row that holds NaN, +inf or only -inf ends with sum = NaN.
template <class V> struct SoftmaxRow {
  V max, sum;

  LIMBECK_FN static SoftmaxRow empty() { return {splat<V>(-INFINITY), splat<V>(0)}; }

  // Two partial states of one row. An empty side (-inf, 0) leaves the other alone; NaN sums stay.
  LIMBECK_FN static SoftmaxRow merge(const SoftmaxRow& a, const SoftmaxRow& b, V inverse_hi, V inverse_lo) {
    const V zero = splat<V>(0), top = max_(a.max, b.max);
    const V scale_a = select_(eq_(a.max, top), splat<V>(1), exp_scaled_(a.max - top, inverse_hi, inverse_lo));
    const V scale_b = select_(eq_(b.max, top), splat<V>(1), exp_scaled_(b.max - top, inverse_hi, inverse_lo));
    return {top, select_(eq_(a.sum, zero), zero, a.sum * scale_a) + select_(eq_(b.sum, zero), zero, b.sum * scale_b)};
  }
};

// ln softmax = (x − m)/T − ln Σ.
template <class V> LIMBECK_FN V log_softmax_(V x, V max, V inverse_hi, V inverse_lo, V log_sum) {
  const V centred = x - max;
  return fma_(centred, inverse_hi, fma_(max_(centred, splat<V>(-1e37)), inverse_lo, -log_sum));
}

// y = softmax: ∂/∂x = y·(g − Σ g·y)/T.   y = log softmax: ∂/∂x = (g − e^y·Σ g)/T.
template <class V> LIMBECK_FN V softmax_gradient_(V y, V g, V dot, V inverse) { return y * (g - dot) * inverse; }
template <class V> LIMBECK_FN V log_softmax_gradient_(V y, V g, V sum, V inverse) { return fma_(-exp_(y), sum, g) * inverse; }

}  // namespace limbeck
