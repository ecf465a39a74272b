// Generalised Jensen–Shannon: D = β KL(p‖m) + (1 − β) KL(q‖m), m = βp + (1 − β)q; β on the teacher (GKD, arXiv 2306.13649).
#pragma once
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct jensen_shannon : WithMean {
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
};

}  // namespace limbeck
