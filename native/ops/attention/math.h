// Scaled dot-product attention (Vaswani et al. 2017, equation 1): y = softmax(q·kᵀ·scale)·v; where things lie in the packed tensor.
#pragma once
#include "core/lanes.h"
#include "core/tensor.h"

namespace limbeck {

// What a warp's registers hold of a head.
inline constexpr Int kMostHeadWidth = 256;

// qkv [batch, tokens, 3, heads, head_width]; y [batch, tokens, heads, head_width]; log_sums [batch, heads, tokens].
struct Heads {
  Int tokens, heads, head_width;
  bool causal;
  double scale;
  LIMBECK_FN Int width() const { return heads * head_width; }
  // First element of a head's queries and of its output; its keys and values follow width() and 2·width() further on.
  LIMBECK_FN Int query(Int task) const { return task / heads * tokens * 3 * width() + task % heads * head_width; }
  LIMBECK_FN Int output(Int task) const { return task / heads * tokens * width() + task % heads * head_width; }
  LIMBECK_FN Int keys(Int query) const { return causal ? query + 1 : tokens; }
};

// ∂ of a score from its probability, the gradient that reaches it, and δ = Σ ∂y·y of its query.
template <class V> LIMBECK_FN V score_gradient_(V p, V upstream, V delta, V scale) { return p * (upstream - delta) * scale; }

}  // namespace limbeck
