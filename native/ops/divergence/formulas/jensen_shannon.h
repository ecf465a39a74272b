// Generalised Jensen–Shannon: D = β KL(p‖m) + (1 − β) KL(q‖m), m = βp + (1 − β)q; β on the teacher (GKD, arXiv 2306.13649).
#pragma once
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct jensen_shannon : WithMean {
  LIMBECK_FN static V loss(const Outcome<V>& o, V beta, V) {
    const V rest = splat<V>(1) - beta, m = mixture_(o.p, beta, o.q, rest);
    return mul0_(beta, p_phi_(toward_(o.p, o.log_p, m, log_mixture_(o.d, beta, rest)))) +
           mul0_(rest, p_phi_(toward_(o.q, o.log_q, m, log_mixture_(-o.d, rest, beta))));
  }
  // ∂D/∂q = (1 − β)·ln(q/m).
  LIMBECK_FN static V gradient(const Outcome<V>& o, V beta, V) {
    const V rest = splat<V>(1) - beta;
    return mul0_(o.q, -rest * log_mixture_(-o.d, rest, beta));
  }
};

}  // namespace limbeck
