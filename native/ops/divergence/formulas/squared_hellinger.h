// Squared Hellinger distance: D = 1 − Σ √(pq) = ½ Σ (√p − √q)².
#pragma once
#include "ops/divergence/far.h"
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct squared_hellinger : WithMean {
  static constexpr float gap_scale = 0.5f;

  // |√q − √p| = √max(p, q)·(1 − e^{−|d|/2}): no root is taken.
  LIMBECK_FN static V loss(const Outcome<V>& o, V, V) {
    const Gap<V> half = gap_(o, splat<V>(0.5));
    return splat<V>(0.5) * select_(half.above, o.q, o.p) * half.rest * half.rest;
  }
  // ∂D/∂q = −½·√(p/q), and the constant ½ added: ½·(q − √(pq)), where √(pq) = max(p, q)·e^{−|d|/2}.
  LIMBECK_FN static V gradient(const Outcome<V>& o, V, V) {
    const Gap<V> half = gap_(o, splat<V>(0.5));
    return splat<V>(0.5) * half.rest * select_(half.above, o.q, -(o.p * half.small));
  }

  static constexpr unsigned far_needs = kSumRoot;
  static FarLoss far_loss(const FarRow& r, double, double) { return {1 - r.root, 1}; }
  static FarGradient far_gradient(const FarRow& r, double, double) { return {0.5 * r.root, 0, 0, -0.5}; }
};

}  // namespace limbeck
