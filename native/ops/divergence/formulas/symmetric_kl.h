// Symmetric KL: D = ½ Σ p ln(p/q) + ½ Σ q ln(q/p) = ½ Σ (q − p)·(ln q − ln p) (Jeffreys 1946, halved).
#pragma once
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct symmetric_kl : WithMean {
  LIMBECK_FN static V loss(const Outcome<V>& o, V, V) { return splat<V>(0.5) * weigh_(o, difference_(o), o.d); }
  LIMBECK_FN static V gradient(const Outcome<V>& o, V, V) { return splat<V>(0.5) * (difference_(o) + weigh_(o, o.q, o.d)); }
};

}  // namespace limbeck
