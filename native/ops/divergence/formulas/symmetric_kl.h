// Symmetric KL: D = ½ Σ p ln(p/q) + ½ Σ q ln(q/p) = ½ Σ (q − p)·(ln q − ln p) (Jeffreys 1946, halved).
#pragma once
#include "ops/divergence/far.h"
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct symmetric_kl : WithMean {
  static constexpr bool centred_gradient = true;

  LIMBECK_FN static V loss(const Outcome<V>& o, V, V) {
    const V loss = splat<V>(0.5) * weigh_(o, difference_(o), o.d), infinity = splat<V>(INFINITY);
    // Impossible on one side and underflowed on the other, too, where q − p is 0.
    return o.finite ? loss : select_(eq_(abs_(o.d), infinity), infinity, loss);
  }
  LIMBECK_FN static V gradient(const Outcome<V>& o, V, V) { return splat<V>(0.5) * (difference_(o) + weigh_(o, o.q, o.centred)); }

  static constexpr unsigned far_needs = kSumPD | kSumQD;
  static FarLoss far_loss(const FarRow& r, double, double) { return {0.5 * (r.q_d - r.p_d), 0.5 * (r.q_size + r.p_size) + 2}; }
  static FarGradient far_gradient(const FarRow& r, double, double) { return {0.5 * (1 - r.q_d), -0.5, 0.5}; }
};

}  // namespace limbeck
