// Squared Hellinger distance: D = 1 − Σ √(pq) = ½ Σ (√p − √q)².
#pragma once
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct squared_hellinger : WithMean {
  // √q − √p = √p·(e^{d/2} − 1) where the two nearly agree.
  LIMBECK_FN static V loss(const Outcome<V>& o, V, V) {
    const V near = sqrt_(o.p) * expm1_(splat<V>(0.5) * o.d), far = sqrt_(o.q) - sqrt_(o.p);
    const V gap = select_(lt_(abs_(o.d), splat<V>(0.5)), near, far);
    return splat<V>(0.5) * gap * gap;
  }
  // ∂D/∂q = −½·√(p/q), and the constant ½ added.
  LIMBECK_FN static V gradient(const Outcome<V>& o, V, V) { return splat<V>(0.5) * (o.q - sqrt_(o.p) * sqrt_(o.q)); }
};

}  // namespace limbeck
