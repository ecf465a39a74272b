// Reverse KL: D = Σ q ln(q/p) = Σ q·φ(ln p − ln q). +inf where the student is positive and the teacher 0 (MiniLLM, arXiv 2306.08543).
#pragma once
#include "ops/divergence/far.h"
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct reverse_kl : WithMean {
  static constexpr bool centred_gradient = true;

  LIMBECK_FN static V loss(const Outcome<V>& o, V, V) { return p_phi_(swapped_(o)); }
  LIMBECK_FN static V gradient(const Outcome<V>& o, V, V) { return weigh_(o, o.q, o.centred); }

  static constexpr unsigned far_needs = kSumQD;
  static FarLoss far_loss(const FarRow& r, double, double) { return {r.q_d, r.q_size + 2}; }
  static FarGradient far_gradient(const FarRow& r, double, double) { return {-r.q_d, 0, 1}; }
};

}  // namespace limbeck
