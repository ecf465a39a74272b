// Forward KL: D = Σ p ln(p/q) = Σ p·φ(ln q − ln p) for probabilities of equal mass. ∂D/∂z = q − p (Hinton et al. 2015, arXiv 1503.02531).
#pragma once
#include "ops/divergence/far.h"
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct forward_kl {
  // The gradient is known outcome by outcome; see WithMean for the other kind.
  static constexpr bool needs_mean = false;
  // A teacher of mass a ≠ 1 gives the gradient a·q − p, and adds a − 1 to the loss; the schedule does both.
  static constexpr bool any_mass = true;
  static constexpr bool first_order = false;
  static constexpr bool centred_gradient = false;
  static constexpr bool adds_mass = true;
  // false: of log_q and log_p only whether they are -inf is asked, so a schedule may pass the centred logits.
  static constexpr bool needs_logs = false;

  // Contribution of one outcome to the loss.
  LIMBECK_FN static V loss(const Outcome<V>& o, V, V) { return p_phi_(o); }
  // Contribution to ∂D/∂(z/T).
  LIMBECK_FN static V gradient(const Outcome<V>& o, V, V) { return difference_(o); }

  static constexpr unsigned far_needs = kSumPD;
  static FarLoss far_loss(const FarRow& r, double, double) { return {-r.p_d, r.p_size + 2}; }
  static FarGradient far_gradient(const FarRow&, double, double) { return {1, -1}; }
};

}  // namespace limbeck
