// Teacher rows that know their label y: what each column becomes, and the order in which values stand.
#pragma once
#include "core/codes.h"
#include "core/lanes.h"

namespace limbeck {

// mix: (1 − α)·x + α·e_y, the parameter being α. enhance: (x + e_y)^γ − e_y, the parameter being γ.
template <LabelTarget f, class V> LIMBECK_FN V off_label_(V x, double parameter) {
  if constexpr (f == LabelTarget::mix) return splat<V>(1 - parameter) * x;
  else return exp_(splat<V>(parameter) * log_(x));
}

// (x + 1)^γ − 1 without the digits that the two ones would cost a small x.
template <LabelTarget f, class S> LIMBECK_FN S at_label_(S x, double parameter) {
  const S p = splat<S>(parameter);
  if constexpr (f == LabelTarget::mix) return fma_(splat<S>(1 - parameter), x, p);
  else return expm1_(p * log1p_(x));
}

// Whether value a of column c stands before value b of column d: falling, the lowest column first among equals.
template <class S> LIMBECK_FN bool stands_before_(S a, int64_t c, S b, int64_t d) { return b < a || (a == b && c < d); }

}  // namespace limbeck
