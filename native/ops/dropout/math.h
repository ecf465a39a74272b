// Dropout's mask from a counter: Philox4x32-10 (Salmon et al. 2011), so the same (seed, position) keeps the same element on every device.
#pragma once
#include <cstdint>

#include "core/lanes.h"

namespace limbeck {

struct Philox4 {
  uint32_t word[4];
};

// Counter (low, high, 0, 0), key = seed; ten rounds.
LIMBECK_FN Philox4 philox_(uint64_t counter, uint64_t seed) {
  uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32), c2 = 0, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t(0xD2511F53u) * c0, b = uint64_t(0xCD9E8D57u) * c2;
    const uint32_t n0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(b);
    c3 = static_cast<uint32_t>(a);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// u = (word >> 8)·2⁻²⁴ in [0, 1). u >= probability exactly when word >> 8 reaches this threshold.
LIMBECK_FN uint32_t dropout_threshold_(double probability) { return static_cast<uint32_t>(ceil(probability * 16777216.0)); }
LIMBECK_FN bool dropout_keeps_(uint32_t word, uint32_t threshold) { return (word >> 8) >= threshold; }

// y = x/(1 − p) where kept, exactly 0 elsewhere, whatever x is there. `keep` is 1 − p.
LIMBECK_FN float dropout_(float x, bool kept, float keep) { return kept ? x / keep : 0.0f; }

}  // namespace limbeck
