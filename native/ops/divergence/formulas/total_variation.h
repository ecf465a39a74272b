// Total variation: D = ½ Σ |p − q|. Where p = q the subgradient is 0 (DistillSpec, arXiv 2310.08461).
#pragma once
#include "ops/divergence/far.h"
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct total_variation : WithMean {
  static constexpr bool first_order = true;

  LIMBECK_FN static V loss(const Outcome<V>& o, V, V) { return splat<V>(0.5) * abs_(difference_(o)); }
  // ∂D/∂q = ½·sign(q − p). The two normalisers leave a tie's d within their rounding of 0.
  static constexpr double kTie = sizeof(typename lane<V>::scalar) == 8 ? 1e-15 : 0x1p-22;
  LIMBECK_FN static V gradient(const Outcome<V>& o, V, V) {
    const V tie = splat<V>(kTie), half = splat<V>(0.5) * o.q;
    return select_(lt_(tie, o.d), half, select_(lt_(o.d, -tie), -half, splat<V>(0) * o.q));
  }
  // What drift, the error of Σ (q − p), has added to a tie's loss, negated: corrected_ goes by the slope, which a tie has none of.
  LIMBECK_FN static V tie_loss(const Outcome<V>& o, V drift) {
    const V size = abs_(o.d), change = abs_(o.d - drift) - size;
    return select_(lt_(splat<V>(kTie), size), splat<V>(0), select_(lt_(size, splat<V>(1)), splat<V>(0.5) * o.q * change, splat<V>(0)));
  }

  static constexpr unsigned far_needs = kFromOutcomes;
  LIMBECK_FN static V far_outcome(V q, V p, V, V, V& slope) {
    const V gap = q - p, size = abs_(gap);
    slope = select_(lt_(size, q * splat<V>(0x1p-22)), splat<V>(0), copysign_(q, gap));
    return size;
  }
  static constexpr double far_unit = 0.5;
  static FarLoss far_loss(const FarRow& r, double, double) { return {r.loss, 1}; }
};

}  // namespace limbeck
