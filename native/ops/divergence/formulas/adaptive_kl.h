// Adaptive KL: D = a·Σ p ln(p/q) + (1 − a)·Σ q ln(q/p), a a constant of the row (AKL, arXiv 2404.02657).
#pragma once
#include "ops/divergence/far.h"
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct adaptive_kl : WithMean {
  static constexpr bool centred_gradient = true;

  LIMBECK_FN static V loss(const Outcome<V>& o, V a, V) {
    return mul0_(a, p_phi_(o)) + mul0_(splat<V>(1) - a, p_phi_(swapped_(o)));
  }
  LIMBECK_FN static V gradient(const Outcome<V>& o, V a, V) {
    return a * difference_(o) + mul0_(splat<V>(1) - a, mul0_(o.q, o.centred));
  }

  static constexpr unsigned far_needs = kSumPD | kSumQD;
  static FarLoss far_loss(const FarRow& r, double a, double) { return {(1 - a) * r.q_d - a * r.p_d, (1 - a) * r.q_size + a * r.p_size + 2}; }
  static FarGradient far_gradient(const FarRow& r, double a, double) { return {a - (1 - a) * r.q_d, -a, 1 - a}; }
};

}  // namespace limbeck
