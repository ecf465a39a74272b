// Skew reverse KL: D = KL(q‖m), m = αq + (1 − α)p (DistiLLM, arXiv 2402.03898).
#pragma once
#include "ops/divergence/far.h"
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct skew_reverse_kl : WithMean {
  static constexpr float gap_scale = 1;

  LIMBECK_FN static V loss(const Outcome<V>& o, V alpha, V) {
    return p_phi_(mixture_(o, splat<V>(1) - alpha, alpha).student);
  }
  // ∂D/∂q = ln(q/m) − α·q/m, and the constant α added: ln(q/m) − α·(1 − α)·(q − p)/m.
  LIMBECK_FN static V gradient(const Outcome<V>& o, V alpha, V) {
    const V rest = splat<V>(1) - alpha;
    const Mixture<V> m = mixture_(o, rest, alpha);
    return weigh_(o, o.q, -fma_(alpha * rest, m.slope, m.student.d));
  }

  static constexpr unsigned far_needs = kFromOutcomes;
  LIMBECK_FN static V far_outcome(V q, V p, V alpha, V, V& slope) {
    const V share = q / fma_(alpha, q, (splat<V>(1) - alpha) * p), log_share = log_normal_(share);
    slope = q * fma_(-alpha, share, log_share);
    return q * log_share;
  }
  static FarLoss far_loss(const FarRow& r, double, double) { return {r.loss, 1}; }
};

}  // namespace limbeck
