// Skew reverse KL: D = KL(q‖m), m = αq + (1 − α)p (DistiLLM, arXiv 2402.03898).
#pragma once
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct skew_reverse_kl : WithMean {
  LIMBECK_FN static V loss(const Outcome<V>& o, V alpha, V) {
    return p_phi_(mixture_(o, splat<V>(1) - alpha, alpha).student);
  }
  // ∂D/∂q = ln(q/m) − α·q/m, and the constant α added: ln(q/m) − α·(1 − α)·(q − p)/m.
  LIMBECK_FN static V gradient(const Outcome<V>& o, V alpha, V) {
    const V rest = splat<V>(1) - alpha;
    const Mixture<V> m = mixture_(o, rest, alpha);
    return weigh_(o, o.q, -fma_(alpha * rest, m.slope, m.student.d));
  }
};

}  // namespace limbeck
