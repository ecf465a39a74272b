// Sampled targets: masses, random numbers and keys from one specified sequence of double operations, so that every device draws the same ids.
// A product never feeds a sum unless it is exact or the sum is an explicit fma_: no compiler can round it in another way.
//   e_i    = sample_exp_((x_i - max)/T): at most 1, 0 below e^-690.
//   mass_i = floor(e_i·2^k + 1/2) as an integer, k so that the row's total lies in [2^62, 2^63] (a little above where cols is huge). Sums of masses
//            are sums of integers: no order matters. Rounding moves at most cols·2^-63 of the row, below 2^-40 for cols <= 2^22.
//   random = 64 bits of Philox: key = seed, counter = (draw or token, row and method); two numbers per counter.
#pragma once
#include <cstdint>
#include <cstring>

#include "core/codes.h"
#include "core/philox.h"

namespace limbeck {

LIMBECK_FN uint64_t sample_bits_(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
LIMBECK_FN double sample_double_(uint64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
LIMBECK_FN double sample_power_of_two_(int n) { return sample_double_(static_cast<uint64_t>(n + 1023) << 52); }

// e^z for z <= 0: z = n·ln 2 + r, the Taylor polynomial of degree 13 in r; 1 ulp. Exactly 1 at 0; 0 below -690.
LIMBECK_FN double sample_exp_(double z) {
  const double inside = z < -690.0 ? -690.0 : z;
  const double shifted = fma_(inside, 0x1.71547652b82fep0, 0x1.8p52);
  const double n = shifted - 0x1.8p52;
  const double r = fma_(-n, 0x1.abc9e3b39803fp-56, fma_(-n, 0x1.62e42fefa39efp-1, inside));
  double p = 1.0 / 6227020800.0;
  p = fma_(p, r, 1.0 / 479001600.0);
  p = fma_(p, r, 1.0 / 39916800.0);
  p = fma_(p, r, 1.0 / 3628800.0);
  p = fma_(p, r, 1.0 / 362880.0);
  p = fma_(p, r, 1.0 / 40320.0);
  p = fma_(p, r, 1.0 / 5040.0);
  p = fma_(p, r, 1.0 / 720.0);
  p = fma_(p, r, 1.0 / 120.0);
  p = fma_(p, r, 1.0 / 24.0);
  p = fma_(p, r, 1.0 / 6.0);
  p = fma_(p, r, 0.5);
  p = fma_(p, r, 1.0);
  p = fma_(p, r, 1.0);
  // The low bits of `shifted` are n: 2^n without a conversion.
  const uint64_t power = (sample_bits_(shifted) - sample_bits_(0x1.8p52) + 1023) << 52;
  return z < -690.0 ? 0.0 : p * sample_double_(power);
}

// e_i of a finite or -inf logit.
LIMBECK_FN double sample_weight_(float x, float max, double temperature) {
  return sample_exp_((static_cast<double>(x) - static_cast<double>(max)) / temperature);
}

// 1 - e^-y for y >= 0.
LIMBECK_FN double sample_inclusion_(double y) {
  if (!(y < 0.5)) return 1.0 - sample_exp_(-y);
  double p = 1.0 / 1307674368000.0;
  p = fma_(p, -y, 1.0 / 87178291200.0);
  p = fma_(p, -y, 1.0 / 6227020800.0);
  p = fma_(p, -y, 1.0 / 479001600.0);
  p = fma_(p, -y, 1.0 / 39916800.0);
  p = fma_(p, -y, 1.0 / 3628800.0);
  p = fma_(p, -y, 1.0 / 362880.0);
  p = fma_(p, -y, 1.0 / 40320.0);
  p = fma_(p, -y, 1.0 / 5040.0);
  p = fma_(p, -y, 1.0 / 720.0);
  p = fma_(p, -y, 1.0 / 120.0);
  p = fma_(p, -y, 1.0 / 24.0);
  p = fma_(p, -y, 1.0 / 6.0);
  p = fma_(p, -y, 0.5);
  p = fma_(p, -y, 1.0);
  return y * p;
}

// 2·artanh(s), |s| <= 1/3: what both logarithms below are made of.
LIMBECK_FN double sample_artanh2_(double s) {
  const double q = s * s;
  double p = 1.0 / 33.0;
  p = fma_(p, q, 1.0 / 31.0);
  p = fma_(p, q, 1.0 / 29.0);
  p = fma_(p, q, 1.0 / 27.0);
  p = fma_(p, q, 1.0 / 25.0);
  p = fma_(p, q, 1.0 / 23.0);
  p = fma_(p, q, 1.0 / 21.0);
  p = fma_(p, q, 1.0 / 19.0);
  p = fma_(p, q, 1.0 / 17.0);
  p = fma_(p, q, 1.0 / 15.0);
  p = fma_(p, q, 1.0 / 13.0);
  p = fma_(p, q, 1.0 / 11.0);
  p = fma_(p, q, 1.0 / 9.0);
  p = fma_(p, q, 1.0 / 7.0);
  p = fma_(p, q, 1.0 / 5.0);
  p = fma_(p, q, 1.0 / 3.0);
  p = fma_(p, q, 1.0);
  return (2.0 * s) * p;
}

// -ln(1 - v), v = (r + 1/2)·2^-64: exponential, with all 64 bits near 0, where the race is decided. Never 0, never infinite.
LIMBECK_FN double sample_exponential_(uint64_t r) {
  if (r < uint64_t(1) << 63) {
    const double v = (static_cast<double>(r) + 0.5) * 0x1p-64;
    return sample_artanh2_(v / (2.0 - v));
  }
  const double u = (static_cast<double>(~r) + 0.5) * 0x1p-64;  // 1 - v, in (0, 1/2]
  int exponent = static_cast<int>(sample_bits_(u) >> 52) - 1023;
  double f = sample_double_((sample_bits_(u) & 0xFFFFFFFFFFFFFull) | 0x3FF0000000000000ull);
  if (f > 1.5) {
    f = f * 0.5;
    exponent += 1;
  }
  return fma_(static_cast<double>(-exponent), 0x1.62e42fefa39efp-1, -sample_artanh2_((f - 1.0) / (f + 1.0)));
}

// Cannot be above what sample_exponential_ gives, and costs no logarithm: -ln(1 - v) > v.
LIMBECK_FN double sample_exponential_bound_(uint64_t r) { return static_cast<double>(r) * (0x1p-64 * (1.0 - 0x1p-40)); }

// The numbers of one counter. `row` counts from the start of the data set; the method sits above it, so that no two methods share numbers.
struct SamplePair {
  uint64_t first, second;
};
LIMBECK_FN SamplePair sample_pair_(uint64_t pair, uint64_t row, int method, uint64_t seed) {
  const Philox4 r = philox_(pair, row | static_cast<uint64_t>(method + 1) << 56, seed);
  return {r.word[0] | static_cast<uint64_t>(r.word[1]) << 32, r.word[2] | static_cast<uint64_t>(r.word[3]) << 32};
}
LIMBECK_FN uint64_t sample_random_(uint64_t index, uint64_t row, int method, uint64_t seed) {
  const SamplePair both = sample_pair_(index >> 1, row, method, seed);
  return index & 1 ? both.second : both.first;
}

// floor(a·b / 2^64): a random number and a total give a position below the total, each mass hit within 2^-64 of its share.
LIMBECK_FN uint64_t sample_position_(uint64_t a, uint64_t b) {
  const uint64_t a0 = static_cast<uint32_t>(a), a1 = a >> 32, b0 = static_cast<uint32_t>(b), b1 = b >> 32;
  const uint64_t low = a1 * b0, middle = a0 * b1 + (a0 * b0 >> 32), carry = static_cast<uint32_t>(low) + static_cast<uint64_t>(static_cast<uint32_t>(middle));
  return a1 * b1 + (low >> 32) + (middle >> 32) + (carry >> 32);
}

LIMBECK_FN uint64_t sample_mass_(double e, double scale) { return static_cast<uint64_t>(e * scale + 0.5); }

// k of the first sum, which cannot overflow; then as many more bits as the sum leaves room for.
LIMBECK_FN int sample_first_scale_(int64_t cols) {
  int k = 62;
  while (k > 31 && (int64_t(1) << (62 - k)) < cols) --k;
  return k;
}
LIMBECK_FN int sample_more_bits_(uint64_t total) {
  int bits = 0;
  while (total << bits < uint64_t(1) << 62) ++bits;
  return bits;
}

// Head and tail: ids with draws·p >= 1, as a mass. Without a head no mass reaches it.
LIMBECK_FN uint64_t sample_head_mass_(int method, uint64_t total, int64_t draws) {
  const uint64_t n = static_cast<uint64_t>(draws);
  return method == static_cast<int>(SampleMethod::head_tail) ? total / n + (total % n != 0) : ~uint64_t(0);
}
// A mass as a probability; exact integers, so one rounding each.
LIMBECK_FN float sample_head_weight_(uint64_t mass, uint64_t total) {
  return static_cast<float>(static_cast<double>(mass) / static_cast<double>(total));
}
// `count` of `draws` numbers fell on it; they share `tail` of `total`. With no head this is count/draws.
LIMBECK_FN float sample_tail_weight_(int64_t count, int64_t draws, uint64_t tail, uint64_t total) {
  return static_cast<float>(static_cast<double>(count) * (static_cast<double>(tail) / static_cast<double>(total)) / static_cast<double>(draws));
}
// The race: p = e·scale/total, kept with probability 1 - e^{-e·tau}; tau = +inf where all are kept.
LIMBECK_FN float sample_race_weight_(double e, double tau, double scale, uint64_t total) {
  const double p = e * scale / static_cast<double>(total);
  return static_cast<float>(tau < INFINITY ? p / sample_inclusion_(e * tau) : p);
}

}  // namespace limbeck
