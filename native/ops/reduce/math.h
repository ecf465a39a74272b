// The reductions: how one element joins a partial result, how two partial results join, and what the empty one is.
#pragma once
#include "core/codes.h"
#include "core/lanes.h"

namespace limbeck {

// NaN on either side wins, as everywhere.
template <class V> LIMBECK_FN V larger_(V a, V b) { return select_(eq_(a, a), select_(lt_(b, a), a, b), a); }
template <class V> LIMBECK_FN V smaller_(V a, V b) { return select_(eq_(a, a), select_(lt_(a, b), a, b), a); }

template <Reduce f, class V> LIMBECK_FN V reduce_empty_() {
  if constexpr (f == Reduce::max) return splat<V>(-INFINITY);
  else if constexpr (f == Reduce::min) return splat<V>(INFINITY);
  else return splat<V>(0);
}

template <Reduce f, class V> LIMBECK_FN V reduce_push_(V state, V x) {
  if constexpr (f == Reduce::max) return larger_(state, x);
  else if constexpr (f == Reduce::min) return smaller_(state, x);
  else if constexpr (f == Reduce::sum_squares) return fma_(x, x, state);
  else return state + x;
}

template <Reduce f, class V> LIMBECK_FN V reduce_merge_(V a, V b) {
  if constexpr (f == Reduce::max) return larger_(a, b);
  else if constexpr (f == Reduce::min) return smaller_(a, b);
  else return a + b;
}

// The mean of nothing is NaN, as 0/0.
template <Reduce f, class S> LIMBECK_FN S reduce_finish_(S state, S count) {
  if constexpr (f == Reduce::mean) return state / count;
  else return state;
}

}  // namespace limbeck
