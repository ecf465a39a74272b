// Skew forward KL: D = KL(p‖m), m = αp + (1 − α)q (DistiLLM, arXiv 2402.03898).
#pragma once
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct skew_forward_kl : WithMean {
  LIMBECK_FN static V loss(const Outcome<V>& o, V alpha, V) {
    const V rest = splat<V>(1) - alpha;
    return p_phi_(toward_(o.p, o.log_p, mixture_(o.p, alpha, o.q, rest), log_mixture_(o.d, alpha, rest)));
  }
  // ∂D/∂q = −(1 − α)·p/m; the constant 1 − α added keeps the difference small where teacher and student agree.
  LIMBECK_FN static V gradient(const Outcome<V>& o, V alpha, V) {
    const V rest = splat<V>(1) - alpha;
    return rest * (o.q - mul0_(o.p, exp_(-log_mixture_(-o.d, rest, alpha))));
  }
};

}  // namespace limbeck
