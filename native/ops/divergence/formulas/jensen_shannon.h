// Generalised Jensen–Shannon: D = β KL(p‖m) + (1 − β) KL(q‖m), m = βp + (1 − β)q; β on the teacher (GKD, arXiv 2306.13649).
#pragma once
#include "ops/divergence/far.h"
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct jensen_shannon : WithMean {
  static constexpr float gap_scale = 1;

  LIMBECK_FN static V loss(const Outcome<V>& o, V beta, V) {
    const V rest = splat<V>(1) - beta;
    const Mixture<V> m = mixture_(o, beta, rest);
    return weigh_(o, beta, p_phi_(m.teacher)) + weigh_(o, rest, p_phi_(m.student));
  }
  // ∂D/∂q = (1 − β)·ln(q/m).
  LIMBECK_FN static V gradient(const Outcome<V>& o, V beta, V) {
    const V rest = splat<V>(1) - beta;
    return weigh_(o, o.q, -rest * mixture_(o, beta, rest).student.d);
  }

  // β·KL(p‖m) + (1 − β)·KL(q‖m) = Σ m·ln(q/m) − β·Σ p·d: one logarithm for both.
  static constexpr unsigned far_needs = kFromOutcomes | kSumPD;
  LIMBECK_FN static V far_outcome(V q, V p, V beta, V, V& slope) {
    const V rest = splat<V>(1) - beta, m = fma_(beta, p, rest * q), log_share = log_normal_(q / m);
    slope = rest * q * log_share;
    return m * log_share;
  }
  static FarLoss far_loss(const FarRow& r, double beta, double) { return {r.loss - beta * r.p_d, beta * r.p_size + 1}; }
};

}  // namespace limbeck
