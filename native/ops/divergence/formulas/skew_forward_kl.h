// Skew forward KL: D = KL(p‖m), m = αp + (1 − α)q (DistiLLM, arXiv 2402.03898).
#pragma once
#include "ops/divergence/far.h"
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct skew_forward_kl : WithMean {
  static constexpr float gap_scale = 1;

  LIMBECK_FN static V loss(const Outcome<V>& o, V alpha, V) {
    return p_phi_(mixture_(o, alpha, splat<V>(1) - alpha).teacher);
  }
  // ∂D/∂q = −(1 − α)·p/m, and the constant 1 − α added: (1 − α)²·(q − p)/m, small where teacher and student agree.
  LIMBECK_FN static V gradient(const Outcome<V>& o, V alpha, V) {
    const V rest = splat<V>(1) - alpha;
    return weigh_(o, o.q, rest * rest * mixture_(o, alpha, rest).slope);
  }

  static constexpr unsigned far_needs = kFromOutcomes;
  LIMBECK_FN static V far_outcome(V q, V p, V alpha, V, V& slope) {
    const V rest = splat<V>(1) - alpha, share = p / fma_(alpha, p, rest * q);
    slope = -(rest * q * share);
    return p * log_normal_(share);
  }
  static FarLoss far_loss(const FarRow& r, double, double) { return {r.loss, 1}; }
};

}  // namespace limbeck
