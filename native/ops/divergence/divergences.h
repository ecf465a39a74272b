// The divergences: one include and one entry each. The name is the option's value in JavaScript.
#pragma once
#include "ops/divergence/formulas/adaptive_kl.h"
#include "ops/divergence/formulas/forward_kl.h"
#include "ops/divergence/formulas/jensen_shannon.h"
#include "ops/divergence/formulas/reverse_kl.h"
#include "ops/divergence/formulas/skew_forward_kl.h"
#include "ops/divergence/formulas/skew_reverse_kl.h"
#include "ops/divergence/formulas/soft_cross_entropy.h"
#include "ops/divergence/formulas/squared_hellinger.h"
#include "ops/divergence/formulas/symmetric_kl.h"
#include "ops/divergence/formulas/total_variation.h"

#define LIMBECK_DIVERGENCES(X)                                                                                                  \
  X(adaptive_kl) X(forward_kl) X(jensen_shannon) X(reverse_kl) X(skew_forward_kl) X(skew_reverse_kl) X(soft_cross_entropy) X(squared_hellinger) \
  X(symmetric_kl) X(total_variation)

namespace limbeck {
#define LIMBECK_ENUM_ENTRY(name) name,
enum class Divergence : int { LIMBECK_DIVERGENCES(LIMBECK_ENUM_ENTRY) };
#undef LIMBECK_ENUM_ENTRY
}  // namespace limbeck
