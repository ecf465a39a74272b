// Dropout's mask from a counter: Philox4x32-10 (Salmon et al. 2011), so the same (seed, position) keeps the same element on every device.
#pragma once
#include <cstdint>

#include "core/philox.h"

namespace limbeck {

// u = (word >> 8)·2⁻²⁴ in [0, 1). u >= probability exactly when word >> 8 reaches this threshold.
LIMBECK_FN uint32_t dropout_threshold_(double probability) { return static_cast<uint32_t>(ceil(probability * 16777216.0)); }
LIMBECK_FN bool dropout_keeps_(uint32_t word, uint32_t threshold) { return (word >> 8) >= threshold; }

// y = x/(1 − p) where kept, exactly 0 elsewhere, whatever x is there. `keep` is 1 − p.
template <class S> LIMBECK_FN S dropout_(S x, bool kept, S keep) { return kept ? x / keep : S(0); }

// One call: where its random numbers begin, and what it does with them.
struct Drop {
  uint64_t seed, offset;
  uint32_t threshold;  // 0: everything is kept
  float keep;
};
LIMBECK_FN Drop drop_(double probability, int64_t seed, int64_t offset) {
  return {static_cast<uint64_t>(seed), static_cast<uint64_t>(offset), dropout_threshold_(probability), static_cast<float>(1 - probability)};
}

}  // namespace limbeck
