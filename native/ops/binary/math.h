// The binary functions: y = f(a, b).
#pragma once
#include "core/codes.h"
#include "core/lanes.h"

namespace limbeck {

template <Binary f, class V> LIMBECK_FN V binary_(V a, V b) {
  if constexpr (f == Binary::add) return a + b;
  else if constexpr (f == Binary::sub) return a - b;
  else if constexpr (f == Binary::mul) return a * b;
  else if constexpr (f == Binary::div) return a / b;
  else if constexpr (f == Binary::mul0) return mul0_(b, a);
  else if constexpr (f == Binary::less) return select_(lt_(a, b), splat<V>(1), splat<V>(0));
  else {
    // Equal ones are apart, for −∞ − (−∞) is nothing.
    const V apart = log1p_(exp_(-abs_(a - b)));
    return max_(a, b) + select_(eq_(a, b), splat<V>(0.6931471805599453), apart);
  }
}

}  // namespace limbeck
