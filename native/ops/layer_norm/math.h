// Layer normalisation (Ba, Kiros and Hinton 2016): y = x̂·w + b, x̂ = (x − μ)/√(σ² + ε). With μ = 0 it is RMSNorm (Zhang and Sennrich 2019).
#pragma once
#include "core/lanes.h"

namespace limbeck {

template <class V> LIMBECK_FN V normalized_(V x, V mean, V inverse) { return (x - mean) * inverse; }

// ∂x from g·w, x̂, and the row's means of g·w (0 for RMSNorm) and g·w·x̂.
template <class V> LIMBECK_FN V layer_norm_gradient_(V weighted, V normalized, V inverse, V mean_weighted, V mean_product) {
  return inverse * ((weighted - mean_weighted) - normalized * mean_product);
}

}  // namespace limbeck
