// Skew reverse KL: D = KL(q‖m), m = αq + (1 − α)p (DistiLLM, arXiv 2402.03898).
#pragma once
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct skew_reverse_kl : WithMean {
  LIMBECK_FN static V loss(const Outcome<V>& o, V alpha, V) {
    const V rest = splat<V>(1) - alpha;
    return p_phi_(toward_(o.q, o.log_q, mixture_(o.q, alpha, o.p, rest), log_mixture_(-o.d, alpha, rest)));
  }
  // ∂D/∂q = ln(q/m) − α·q/m, and the constant α added.
  LIMBECK_FN static V gradient(const Outcome<V>& o, V alpha, V) {
    const V v = log_mixture_(-o.d, alpha, splat<V>(1) - alpha);
    return mul0_(o.q, -v - mul0_(alpha, expm1_(-v)));
  }
};

}  // namespace limbeck
