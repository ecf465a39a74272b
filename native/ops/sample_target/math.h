// Sampled targets: masses, random numbers and keys from one specified sequence of operations, so that every device draws the same ids.
// A product never feeds a sum unless it is exact or the sum is an explicit fma_: no compiler can round it in another way.
//   What each column costs is float and integers: e_i = e^{(x_i - max)/T} = 2^n·2^f with 2^f a polynomial in float.
//   mass_i = floor(e_i·2^k), k = 63 - ceil(log2 cols), at most 62: the row's total lies in [2^k, 2^63]. Sums of masses are sums of integers: no order matters.
//            Within 2^-22 + 2^-24·ln(1/e_i) of e_i·2^k, relatively, and less than one unit below that.
//   random = words of Philox: key = seed, counter = (draw or token, row and method).
// Doubles are for what a row has few of: keys of a race that may win, weights of what was drawn.
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
LIMBECK_FN uint32_t sample_bits_(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
LIMBECK_FN float sample_float_(uint32_t bits) {
  float x;
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

// What turns a row's logits into weights: log2(e)/T in two floats, and below which x - max they are 0. Differences are rounded to float.
struct SampleScale {
  float max, hi, lo, least_mass, least_weight;
  uint32_t shift;

  LIMBECK_FN static int bits(int64_t cols) {
    int k = 62;
    while (k > 32 && (int64_t(1) << (63 - k)) < cols) --k;
    return k;
  }
  LIMBECK_FN static SampleScale of(float max, double temperature, int64_t cols) {
    // 1/T is taken as 2^126 at most: finite in float.
    const double scale = min_(0x1.71547652b82fep0 / temperature, 0x1p126);
    const int k = bits(cols);
    SampleScale row;
    row.max = max;
    row.hi = static_cast<float>(scale);
    row.lo = static_cast<float>(scale - static_cast<double>(row.hi));
    row.least_mass = max_(-static_cast<float>(k + 1) / row.hi, -0x1.fffffep127f);
    row.least_weight = max_(-125.0f / row.hi, -0x1.fffffep127f);
    row.shift = kMagicBits + static_cast<uint32_t>(62 - k);
    return row;
  }

  // How far below the largest; 0 where that is too far to count.
  LIMBECK_FN bool has_mass(float x) const { return x - max >= least_mass; }
  LIMBECK_FN bool has_weight(float x) const { return x - max >= least_weight; }

  // e·2^k, truncated: p·2^22 with p = 2^f is the mantissa of p + 2.
  LIMBECK_FN uint64_t mass(float x) const {
    float power;
    const float p = fraction(x, 3.0f, power);
    const uint64_t whole = static_cast<uint64_t>(sample_bits_(p) & 0x7FFFFFu) << 40;
    return whole >> (has_mass(x) ? shift - sample_bits_(power) : 63u);
  }
  // e itself: a normal float, or 0.
  LIMBECK_FN float weight(float x) const {
    float power;
    const float p = fraction(x, 1.0f, power);
    return has_weight(x) ? sample_float_(sample_bits_(p) + ((sample_bits_(power) - kMagicBits) << 23)) : 0.0f;
  }

 private:
  static constexpr uint32_t kMagicBits = 0x4B400000u;  // of 1.5·2^23, whose last bits count ones

  // 2^f - 1 + one for (x - max)/T = (n + f)·ln 2, |f| <= 1/2; `power`: 1.5·2^23 + n.
  LIMBECK_FN float fraction(float x, float one, float& power) const {
    const float d = x - max;
    power = fma_(d, hi, 0x1.8p23f);
    const float n = power - 0x1.8p23f;
    const float f = fma_(d, lo, fma_(d, hi, -n));
    float p = 0x1.41fbbap-13f;
    p = fma_(p, f, 0x1.5f3e54p-10f);
    p = fma_(p, f, 0x1.3b2d4cp-7f);
    p = fma_(p, f, 0x1.c6aee8p-5f);
    p = fma_(p, f, 0x1.ebfbdcp-3f);
    p = fma_(p, f, 0x1.62e430p-1f);
    return fma_(p, f, one);
  }
};

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

// The numbers of one counter. `row` counts from the start of the data set; the method sits above it, so that no two methods share numbers.
struct SamplePair {
  uint64_t first, second;
};
LIMBECK_FN Philox4 sample_words_(uint64_t counter, uint64_t row, int method, uint64_t seed) {
  return philox_(counter, row | static_cast<uint64_t>(method + 1) << 56, seed);
}
LIMBECK_FN SamplePair sample_pair_(uint64_t pair, uint64_t row, int method, uint64_t seed) {
  const Philox4 r = sample_words_(pair, row, method, seed);
  return {r.word[0] | static_cast<uint64_t>(r.word[1]) << 32, r.word[2] | static_cast<uint64_t>(r.word[3]) << 32};
}
LIMBECK_FN uint64_t sample_random_(uint64_t index, uint64_t row, int method, uint64_t seed) {
  const SamplePair both = sample_pair_(index >> 1, row, method, seed);
  return index & 1 ? both.second : both.first;
}

// A race draws the upper halves of four columns' numbers at once; the lower ones have counters of their own, for those that may win.
LIMBECK_FN Philox4 sample_race_words_(uint64_t column, uint64_t row, uint64_t seed) {
  return sample_words_(column >> 2, row, static_cast<int>(SampleMethod::race), seed);
}
// Of a column among the four; not an index, which would put them into memory.
LIMBECK_FN uint32_t sample_word_(const Philox4& words, uint64_t column) {
  const uint32_t even = column & 2 ? words.word[2] : words.word[0], odd = column & 2 ? words.word[3] : words.word[1];
  return column & 1 ? odd : even;
}
LIMBECK_FN double sample_race_key_(uint32_t upper, float weight, uint64_t column, uint64_t row, uint64_t seed) {
  const Philox4 lower = sample_race_words_(column | uint64_t(1) << 63, row, seed);
  const uint64_t random = static_cast<uint64_t>(upper) << 32 | sample_word_(lower, column);
  return sample_exponential_(random) / static_cast<double>(weight);
}
// Keys below `limit` have upper·kSampleLeast <= sample_limit_(limit)·weight, whatever floats are rounded to: -ln(1 - v) > v.
inline constexpr float kSampleLeast = 0x1p-32f * (1.0f - 0x1p-20f);
LIMBECK_FN float sample_limit_(double limit) { return static_cast<float>(limit * (1.0 + 0x1p-20)); }
LIMBECK_FN bool sample_may_win_(uint32_t upper, float weight, float limit) { return !(static_cast<float>(upper) * kSampleLeast > limit * weight); }

// floor(a·b / 2^64): a random number and a total give a position below the total, each mass hit within 2^-64 of its share.
LIMBECK_FN uint64_t sample_position_(uint64_t a, uint64_t b) {
  const uint64_t a0 = static_cast<uint32_t>(a), a1 = a >> 32, b0 = static_cast<uint32_t>(b), b1 = b >> 32;
  const uint64_t low = a1 * b0, middle = a0 * b1 + (a0 * b0 >> 32), carry = static_cast<uint32_t>(low) + static_cast<uint64_t>(static_cast<uint32_t>(middle));
  return a1 * b1 + (low >> 32) + (middle >> 32) + (carry >> 32);
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
// The race: p = e^{(x - max)/T}·2^k/total in double, kept with probability 1 - e^{-e·tau} of the e that its key was made of: so no rounding of e
// is a bias. tau = +inf where all are kept.
LIMBECK_FN float sample_race_weight_(float x, double temperature, const SampleScale& scale, double tau, int64_t cols, uint64_t total) {
  const double e = sample_exp_((static_cast<double>(x) - static_cast<double>(scale.max)) / temperature);
  const double p = e * sample_power_of_two_(SampleScale::bits(cols)) / static_cast<double>(total);
  return static_cast<float>(tau < INFINITY ? p / sample_inclusion_(static_cast<double>(scale.weight(x)) * tau) : p);
}

}  // namespace limbeck
