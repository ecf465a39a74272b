// The 16-bit floats as they are stored: to float exactly, from float rounded once, to nearest, ties to even. NaN stays NaN.
#pragma once
#include <cstdint>
#include <cstring>

#include "core/lanes.h"

namespace limbeck {

struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

LIMBECK_FN float float_from_bits_(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
LIMBECK_FN uint32_t bits_of_float_(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

LIMBECK_FN float widen_(BFloat16 v) { return float_from_bits_(static_cast<uint32_t>(v.bits) << 16); }
LIMBECK_FN float widen_(Float16 v) {
  const uint32_t sign = static_cast<uint32_t>(v.bits & 0x8000u) << 16, exponent = (v.bits >> 10) & 31u, fraction = v.bits & 1023u;
  if (exponent == 31) return float_from_bits_(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return float_from_bits_(sign | (exponent + 112) << 23 | fraction << 13);
  const float small = static_cast<float>(fraction) * 0x1p-24f;
  return sign ? -small : small;
}

template <class H> LIMBECK_FN H narrow_(float v);
template <> LIMBECK_FN BFloat16 narrow_<BFloat16>(float v) {
  const uint32_t bits = bits_of_float_(v);
  return {static_cast<uint16_t>(v != v ? (bits >> 16) | 0x40u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}
template <> LIMBECK_FN Float16 narrow_<Float16>(float v) {
  const uint32_t bits = bits_of_float_(v), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};
  // 65520, halfway to what would be 65536, and all above.
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};
  // Subnormal: the last place of 0.5 is theirs, so adding it rounds.
  if (magnitude < 0x38800000u) return {static_cast<uint16_t>(sign | (bits_of_float_(float_from_bits_(magnitude) + 0.5f) - 0x3f000000u))};
  return {static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13))};
}

}  // namespace limbeck
