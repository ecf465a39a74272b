// Symmetric KL: D = ½ Σ p ln(p/q) + ½ Σ q ln(q/p) (Jeffreys 1946, halved).
#pragma once
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct symmetric_kl : WithMean {
  LIMBECK_FN static V loss(const Outcome<V>& o, V, V) { return splat<V>(0.5) * (p_phi_(o) + p_phi_(swapped_(o))); }
  LIMBECK_FN static V gradient(const Outcome<V>& o, V, V) { return splat<V>(0.5) * (difference_(o) + mul0_(o.q, o.d)); }
};

}  // namespace limbeck
