// Reverse KL: D = Σ q ln(q/p) = Σ q·φ(ln p − ln q). +inf where the student is positive and the teacher 0 (MiniLLM, arXiv 2306.08543).
#pragma once
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct reverse_kl : WithMean {
  LIMBECK_FN static V loss(const Outcome<V>& o, V, V) { return p_phi_(swapped_(o)); }
  LIMBECK_FN static V gradient(const Outcome<V>& o, V, V) { return weigh_(o, o.q, o.d); }
};

}  // namespace limbeck
