// What every divergence shares: one outcome of a row, and φ, the function that keeps a KL exact when student and teacher nearly agree.
#pragma once
#include "core/lanes.h"

namespace limbeck {

// One outcome: log-probabilities of student (q) and teacher (p), both at the row's temperature.
// d = ln q − ln p comes from the logits (one rounding), not from the difference of the two logarithms.
template <class V> struct Outcome {
  V q, p, log_q, log_p, d;
};

// φ(d) = e^d − 1 − d ≥ 0, as its series where the subtraction would cancel. |d| <= 0.5: relative error below 5e-8, or 1e-9 in double.
template <class V> LIMBECK_FN V phi_series_(V d) {
  V s = splat<V>(1.0 / 40320);
  if constexpr (sizeof(typename lane<V>::scalar) == 8) {
    s = fma_(splat<V>(1.0 / 3628800), d, splat<V>(1.0 / 362880));
    s = fma_(s, d, splat<V>(1.0 / 40320));
  }
  s = fma_(s, d, splat<V>(1.0 / 5040));
  s = fma_(s, d, splat<V>(1.0 / 720));
  s = fma_(s, d, splat<V>(1.0 / 120));
  s = fma_(s, d, splat<V>(1.0 / 24));
  s = fma_(s, d, splat<V>(1.0 / 6));
  s = fma_(s, d, splat<V>(0.5));
  return d * d * s;
}

// p·φ(d) = q − p − p·d. p = 0 contributes q; q = 0 < p gives +inf; both zero give 0. NaN stays NaN.
template <class V> LIMBECK_FN V p_phi_(const Outcome<V>& o) {
  const V infinity = splat<V>(INFINITY), zero = splat<V>(0);
  const V far = o.q - o.p - o.p * o.d;
  V loss = select_(lt_(abs_(o.d), splat<V>(0.5)), o.p * phi_series_(o.d), far);
  loss = select_(eq_(o.log_q, -infinity), o.p + infinity, loss);  // + keeps a NaN teacher
  return select_(eq_(o.log_p, -infinity), select_(eq_(o.log_q, -infinity), zero, o.q), loss);
}

// q − p without cancellation where the two nearly agree: p·(e^d − 1) = p·(d + φ(d)).
template <class V> LIMBECK_FN V difference_(const Outcome<V>& o) {
  return select_(lt_(abs_(o.d), splat<V>(0.5)), o.p * (o.d + phi_series_(o.d)), o.q - o.p);
}

// A divergence whose gradient needs the whole row: it is g − q·Σ g, where gradient() gives g = q·∂D/∂q up to a constant times q.
// The schedule sums first. Mass must be 1, and the logarithms themselves may be asked for.
struct WithMean {
  static constexpr bool needs_mean = true;
  static constexpr bool any_mass = false;
  static constexpr bool adds_mass = false;
  static constexpr bool needs_logs = true;
  // true: the loss moves with an error of ln Σ to first order. That error is Σ(q − p), which is known, times Σ g:
  // the schedule takes it off, and keeps in d what the subtraction of the maxima loses.
  static constexpr bool first_order = false;
};

// Teacher and student in each other's place.
template <class V> LIMBECK_FN Outcome<V> swapped_(const Outcome<V>& o) { return {o.p, o.q, o.log_p, o.log_q, -o.d}; }

// A loss less what its error of ln Σ is known to have added; an infinite one stays.
LIMBECK_FN double corrected_(double loss, double mean, double drift) { return loss < INFINITY ? loss - mean * drift : loss; }

// What the rounding of s = a − b lost; 0 where one of them is infinite.
template <class V> LIMBECK_FN V lost_(V a, V b, V s) {
  const V back = s - a, e = (a - (s - back)) - (b + back);
  return select_(lt_(abs_(e), splat<V>(1e30)), e, splat<V>(0));
}

// a·x + b·y of two probabilities with weights a and b.
template <class V> LIMBECK_FN V mixture_(V x, V a, V y, V b) { return fma_(a, x, b * y); }

// ln((a·x + b·y)/x) from d = ln(y/x), a + b = 1: ln(1 + b·(e^d − 1)), or d + ln b where e^d alone counts. NaN stays.
template <class V> LIMBECK_FN V log_mixture_(V d, V a, V b) {
  const V far = splat<V>(40), near_value = log1p_(b * expm1_(min_(far, d)));
  const V far_value = d + log_(b) + log1p_(a / b * exp_(-d));
  return select_(lt_(far, d), select_(eq_(b, splat<V>(0)), splat<V>(0), far_value), near_value);
}

// (1 − t)·x + t·u in two floats, for x and u at most 0: the sum of `hi` and `lo`. -inf on either side gives -inf.
template <class V> struct Interpolation {
  V t, t_low, rest, rest_low;
  V lo;

  LIMBECK_FN static Interpolation of(double t) {
    using S = typename lane<V>::scalar;
    const double high = static_cast<double>(static_cast<S>(t)), rest = static_cast<double>(static_cast<S>(1 - t));
    return {splat<V>(high), splat<V>(t - high), splat<V>(rest), splat<V>(1 - t - rest), splat<V>(0)};
  }
  LIMBECK_FN V operator()(V x, V u) {
    const V a = rest * x, b = t * u, hi = a + b, back = hi - a;
    const V lost = fma_(rest, x, -a) + fma_(t, u, -b) + ((a - (hi - back)) + (b - back)) + fma_(rest_low, x, t_low * u);
    lo = select_(lt_(abs_(lost), splat<V>(1e30)), lost, splat<V>(0));
    return hi;
  }
};

// The outcome of KL(x‖m) with m = x·e^u.
template <class V> LIMBECK_FN Outcome<V> toward_(V x, V log_x, V m, V u) { return {m, x, log_x + u, log_x, u}; }

}  // namespace limbeck
