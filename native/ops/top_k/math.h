// The order of top_k: NaN above everything, then by value with -0 equal to +0; ties go to the lowest index.
#pragma once
#include <cstdint>
#include <cstring>

#include "core/lanes.h"

namespace limbeck {

// The key of NaN. All ones is no key: a rank of all ones stands for "before the first".
inline constexpr uint32_t kTopKNan = 0xFFFFFFFEu;

// An unsigned number that orders as the values do.
LIMBECK_FN uint32_t top_k_key_(float x) {
  if (x != x) return kTopKNan;
  x = x + 0.0f;  // -0 becomes +0
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Key and index as one number: the larger one is the better one. index < 2^32 − 1.
LIMBECK_FN uint64_t top_k_rank_(uint32_t key, uint32_t index) { return uint64_t(key) << 32 | (0xFFFFFFFFu - index); }
LIMBECK_FN uint32_t top_k_index_(uint64_t rank) { return 0xFFFFFFFFu - static_cast<uint32_t>(rank); }

}  // namespace limbeck
