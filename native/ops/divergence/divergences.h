// The divergences: one include and one entry each. The name is the option's value in JavaScript.
#pragma once
#include "ops/divergence/formulas/forward_kl.h"

#define LIMBECK_DIVERGENCES(X) X(forward_kl)

namespace limbeck {
#define LIMBECK_ENUM_ENTRY(name) name,
enum class Divergence : int { LIMBECK_DIVERGENCES(LIMBECK_ENUM_ENTRY) };
#undef LIMBECK_ENUM_ENTRY
}  // namespace limbeck
