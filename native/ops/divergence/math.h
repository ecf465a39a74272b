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

}  // namespace limbeck
