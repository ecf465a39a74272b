// Soft cross-entropy: D = −Σ t ln q for a target of any mass a. ∂D/∂z = a·q − t: forward KL without the teacher's entropy.
#pragma once
#include "ops/divergence/far.h"
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct soft_cross_entropy {
  static constexpr bool needs_mean = false;
  static constexpr bool any_mass = true;
  static constexpr bool first_order = false;
  static constexpr bool centred_gradient = false;
  static constexpr bool adds_mass = false;
  static constexpr bool needs_logs = true;

  // A probability that underflows still meets an impossible outcome: +inf.
  LIMBECK_FN static V loss(const Outcome<V>& o, V, V) {
    const V infinity = splat<V>(INFINITY);
    const V impossible = select_(eq_(o.log_p, -infinity), splat<V>(0), o.p + infinity);
    return select_(eq_(o.log_q, -infinity), impossible, -mul0_(o.p, o.log_q));
  }
  LIMBECK_FN static V gradient(const Outcome<V>& o, V, V) { return difference_(o); }

  // −Σ p ln q is a sum of positive terms: every row will do.
  static constexpr unsigned far_needs = kSumPLogQ;
  static FarLoss far_loss(const FarRow& r, double, double) { return {-r.p_log_q, 0}; }
  static FarGradient far_gradient(const FarRow&, double, double) { return {1, -1}; }
};

}  // namespace limbeck
