// Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011), a pure function of counter and seed on every device.
#pragma once
#include <cstdint>

#include "core/lanes.h"

namespace limbeck {

struct Philox4 {
  uint32_t word[4];
};

// Counter (low, high) of 128 bits, key = seed; ten rounds.
LIMBECK_FN Philox4 philox_(uint64_t low, uint64_t high, uint64_t seed) {
  uint32_t c0 = static_cast<uint32_t>(low), c1 = static_cast<uint32_t>(low >> 32);
  uint32_t c2 = static_cast<uint32_t>(high), c3 = static_cast<uint32_t>(high >> 32);
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

LIMBECK_FN Philox4 philox_(uint64_t counter, uint64_t seed) { return philox_(counter, 0, seed); }

}  // namespace limbeck
