// The keys rows are sorted by: unsigned numbers that order as the values do, NaN above everything, -0 equal to +0.
#pragma once
#include "ops/top_k/math.h"

namespace limbeck {

LIMBECK_FN uint32_t sort_key_(float x) { return top_k_key_(x); }
LIMBECK_FN uint64_t sort_key_(double x) {
  if (x != x) return ~uint64_t(1);
  x = x + 0.0;  // -0 becomes +0
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits >> 63 ? ~bits : bits | uint64_t(1) << 63;
}

// Ascending keys are the wanted order: a stable sort of them puts the lowest of equal columns first either way.
template <class S> LIMBECK_FN auto ordered_key_(S x, bool descending) {
  const auto key = sort_key_(x);
  return descending ? static_cast<decltype(key)>(~key) : key;
}

}  // namespace limbeck
