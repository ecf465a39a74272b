// Adaptive KL: D = a·Σ p ln(p/q) + (1 − a)·Σ q ln(q/p), a a constant of the row (AKL, arXiv 2404.02657).
#pragma once
#include "ops/divergence/math.h"

namespace limbeck {

template <class V> struct adaptive_kl : WithMean {
  LIMBECK_FN static V loss(const Outcome<V>& o, V a, V) {
    return mul0_(a, p_phi_(o)) + mul0_(splat<V>(1) - a, p_phi_(swapped_(o)));
  }
  LIMBECK_FN static V gradient(const Outcome<V>& o, V a, V) {
    return a * difference_(o) + (splat<V>(1) - a) * mul0_(o.q, o.d);
  }
};

}  // namespace limbeck
