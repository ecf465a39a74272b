// The binary functions: y = f(a, b).
#pragma once
#include "core/codes.h"
#include "core/lanes.h"

namespace limbeck {

template <Binary f, class V> LIMBECK_FN V binary_(V a, V b) {
  if constexpr (f == Binary::add) return a + b;
  else if constexpr (f == Binary::sub) return a - b;
  else if constexpr (f == Binary::mul) return a * b;
  else if constexpr (f == Binary::weigh) return mul0_(b, a);  // a weight of 0 silences anything
  else if constexpr (f == Binary::log_add_exp) {
    // Equal ones are apart, for −∞ − (−∞) is nothing.
    const V apart = log1p_(exp_(-abs_(a - b)));
    return max_(a, b) + select_(eq_(a, b), splat<V>(0.6931471805599453), apart);
  } else return a / b;
}

}  // namespace limbeck
