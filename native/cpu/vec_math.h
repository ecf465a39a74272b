// Exponentials and logarithms for every SIMD lane type of floats, from round_, scale2_ and split_ of that type. At most 2 ulp.
#pragma once
#include "cpu/vec.h"

namespace limbeck::cpu {

// e^r for |r| <= ln2/2 (Cephes).
template <class V> LIMBECK_FN V exp_near_(V r) {
  V p = splat<V>(1.9875691500e-4);
  p = fma_(p, r, splat<V>(1.3981999507e-3));
  p = fma_(p, r, splat<V>(8.3334519073e-3));
  p = fma_(p, r, splat<V>(4.1665795894e-2));
  p = fma_(p, r, splat<V>(1.6666665459e-1));
  p = fma_(p, r, splat<V>(5.0000001201e-1));
  return p;
}

inline constexpr double kLog2e = 1.4426950408889634, kLn2 = 0.6931471805599453, kLn2High = 0.693359375, kLn2Low = -2.12194440054690583e-4;
// Beyond these the result is 0 or +inf; a constant comes first in max_ and min_, which keeps a NaN.
inline constexpr double kExpLow = -104, kExpHigh = 89;

template <class V> LIMBECK_FN V exp_vector_(V x) {
  const V z = min_(splat<V>(kExpHigh), max_(splat<V>(kExpLow), x));
  const V n = round_(z * splat<V>(kLog2e));
  const V r = fma_(n, splat<V>(-kLn2Low), fma_(n, splat<V>(-kLn2High), z));
  return scale2_(fma_(exp_near_(r), r * r, r) + splat<V>(1), n);
}

// The product is never rounded: it meets n·ln2 inside the fused multiply-add.
template <class V> LIMBECK_FN V exp_scaled_vector_(V a, V hi, V lo) {
  const V z = a * hi;
  const V n = round_(min_(splat<V>(kExpHigh), max_(splat<V>(kExpLow), z)) * splat<V>(kLog2e));
  const V r = fma_(n, splat<V>(-kLn2Low), fma_(a, lo, fma_(a, hi, n * splat<V>(-kLn2High))));
  const V e = scale2_(fma_(exp_near_(r), r * r, r) + splat<V>(1), n);
  return select_(lt_(z, splat<V>(kExpLow)), splat<V>(0), select_(lt_(splat<V>(kExpHigh), z), splat<V>(INFINITY), e));
}

// 2·(2ⁿ⁻¹·(e^r − 1) + (2ⁿ⁻¹ − ½)): the halves keep 2¹²⁸ finite.
template <class V> LIMBECK_FN V expm1_vector_(V x) {
  const V z = min_(splat<V>(kExpHigh), max_(splat<V>(kExpLow), x));
  const V n = round_(z * splat<V>(kLog2e));
  const V r = fma_(n, splat<V>(-kLn2Low), fma_(n, splat<V>(-kLn2High), z));
  const V p = fma_(exp_near_(r), r * r, r), s = scale2_(splat<V>(0.5), n);
  const V far = fma_(p, s, s - splat<V>(0.5));
  return select_(eq_(n, splat<V>(0)), p, far + far);
}

// e^{−s} and 1 − e^{−s} = (1 − 2ⁿ) − 2ⁿ·(e^r − 1), s >= 0. From e^{−87} on the one stands still near 0 and the other is 1.
template <class V> LIMBECK_FN Decay<V> decay_vector_(V s) {
  const V magic = splat<V>(12582912.0), z = max_(splat<V>(-87), -s);
  const V n = fma_(z, splat<V>(kLog2e), magic) - magic;
  const V r = fma_(n, splat<V>(-kLn2Low), fma_(n, splat<V>(-kLn2High), z));
  const V p = fma_(exp_near_(r), r * r, r), whole = times2_(splat<V>(1), n);
  return {fma_(p, whole, whole), fma_(-p, whole, splat<V>(1) - whole)};
}

// ln(1 + f) for 1 + f in [√½, √2) (Cephes).
template <class V> LIMBECK_FN V log_near_(V f) {
  const V z = f * f;
  V p = splat<V>(7.0376836292e-2);
  p = fma_(p, f, splat<V>(-1.1514610310e-1));
  p = fma_(p, f, splat<V>(1.1676998740e-1));
  p = fma_(p, f, splat<V>(-1.2420140846e-1));
  p = fma_(p, f, splat<V>(1.4249322787e-1));
  p = fma_(p, f, splat<V>(-1.6668057665e-1));
  p = fma_(p, f, splat<V>(2.0000714765e-1));
  p = fma_(p, f, splat<V>(-2.4999993993e-1));
  p = fma_(p, f, splat<V>(3.3333331174e-1));
  return fma_(fma_(p, f, splat<V>(-0.5)), z, f);
}

// With t in hand where u is near 1.
template <class V> LIMBECK_FN V log_share_vector_(V u, V t) {
  V e;
  const V f = split_normal_(u, e) - splat<V>(1);
  return fma_(e, splat<V>(kLn2), log_near_(select_(eq_(e, splat<V>(0)), -t, f)));
}

// x = m·2^e with m in [√½, √2), f = m − 1: ln x = ln m + e·ln2.
template <class V> LIMBECK_FN V log_of_parts_(V f, V e) { return fma_(e, splat<V>(kLn2High), fma_(e, splat<V>(kLn2Low), log_near_(f))); }

template <class V> LIMBECK_FN V log_normal_vector_(V x) {
  V e;
  const V m = split_normal_(x, e);
  return log_of_parts_(m - splat<V>(1), e);
}

template <class V> LIMBECK_FN V log_vector_(V x) {
  V e;
  const V m = split_(x, e);
  V y = log_of_parts_(m - splat<V>(1), e);
  y = select_(lt_(x, splat<V>(INFINITY)), y, x);  // +inf and NaN stay
  y = select_(lt_(x, splat<V>(0)), splat<V>(NAN), y);
  return select_(eq_(x, splat<V>(0)), splat<V>(-INFINITY), y);
}

// ln(1 + x) = ln u + (x − (u − 1))/u with u = 1 + x rounded.
template <class V> LIMBECK_FN V log1p_vector_(V x) {
  const V u = x + splat<V>(1), y = log_vector_(u);
  const V corrected = y + (x - (u - splat<V>(1))) / u;
  return select_(lt_(abs_(y), splat<V>(INFINITY)), corrected, y);
}

// e^{z/T} for z = x − max <= 0 as 2^{z·(hi + lo)}: one fused multiply-add each for the whole part and for both halves of the rest.
template <class V> struct RowExp {
  V hi, lo, limit;

  LIMBECK_FN static RowExp of(double temperature) {
    using S = typename lane<V>::scalar;
    const double factor = (lane<V>::width == 1 ? 1 : kLog2e) / temperature, limit = kExpLow * temperature;
    const double high = static_cast<double>(static_cast<S>(factor)), rest = factor - high;
    return {splat<V>(high), splat<V>(rest - rest == 0 ? rest : 0), splat<V>(limit < -3e38 ? -3e38 : limit)};
  }

  // Whether no term of a row whose logits span this much comes near the denormal numbers: then near() does.
  bool spares(double span) const { return lane<V>::width > 1 && bits(span) < 120; }
  // The ratio of the largest to the smallest term, as a power of two.
  double bits(double span) const { return span * static_cast<double>(vec<V>::largest(hi)); }

  // Lanes that look up 2^(j/32) leave a fraction of |r| <= 1/64. Adding this leaves the whole of n and its fraction as the last bits.
  static constexpr bool kHasRoots = requires(V v) { vec<V>::template power<true>(v, v, v); };
  static constexpr double kRootMagic = 393216;

  // 2^r for |r| <= ½.
  LIMBECK_FN static V fraction(V r) {
    V p = splat<V>(1.5353361712e-4);
    p = fma_(p, r, splat<V>(1.3398874478e-3));
    p = fma_(p, r, splat<V>(9.6184373590e-3));
    p = fma_(p, r, splat<V>(5.5503324709e-2));
    p = fma_(p, r, splat<V>(2.4022647914e-1));
    p = fma_(p, r, splat<V>(6.9314720286e-1));
    return fma_(p, r, splat<V>(1));
  }

  // As near(), to 1e-7 and with 1/T rounded to a float: nothing beside the 1e-5 of a loss.
  LIMBECK_FN V nearly(V z) const {
    if constexpr (kHasRoots) {
      const V m = fma_(z, hi, splat<V>(kRootMagic)), n = m - splat<V>(kRootMagic);
      return vec<V>::template power<false>(fma_(z, hi, -n), m, n);
    }
    const V magic = splat<V>(12582912.0), n = fma_(z, hi, magic) - magic, r = fma_(z, hi, -n);
    V p = splat<V>(1.3264727e-3);  // 2^r − 1 of least relative error for |r| <= ½
    p = fma_(p, r, splat<V>(9.6715130e-3));
    p = fma_(p, r, splat<V>(5.5507336e-2));
    p = fma_(p, r, splat<V>(2.4022242e-1));
    p = fma_(p, r, splat<V>(6.9314700e-1));
    return times2_(fma_(p, r, splat<V>(1)), n);
  }

  // As below without its edges.
  LIMBECK_FN V near(V z) const {
    if constexpr (kHasRoots) {
      const V m = fma_(z, hi, splat<V>(kRootMagic)), n = m - splat<V>(kRootMagic);
      return vec<V>::template power<true>(fma_(z, lo, fma_(z, hi, -n)), m, n);
    }
    const V magic = splat<V>(12582912.0), n = fma_(z, hi, magic) - magic;
    return times2_(fraction(fma_(z, lo, fma_(z, hi, -n))), n);
  }

  // The limit keeps -inf out of the differences and comes first, so that a NaN stays.
  LIMBECK_FN V operator()(V z) const {
    if constexpr (lane<V>::width == 1) {
      return exp_scaled_(z, hi, lo);
    } else {
      const V c = max_(limit, z);
      if constexpr (kHasRoots) return near(c);
      const V magic = splat<V>(12582912.0);
      const V n = fma_(c, hi, magic) - magic;
      return scale2_(fraction(fma_(c, lo, fma_(c, hi, -n))), n);
    }
  }
};

}  // namespace limbeck::cpu

// The lane functions of core/lanes.h that are the same code for every SIMD type of floats.
#define LIMBECK_VECTOR_MATH(V)                                          \
  LIMBECK_FN V exp_(V a) { return exp_vector_(a); }                     \
  LIMBECK_FN V exp_scaled_(V a, V hi, V lo) { return exp_scaled_vector_(a, hi, lo); } \
  LIMBECK_FN V expm1_(V a) { return expm1_vector_(a); }                 \
  LIMBECK_FN V log_(V a) { return log_vector_(a); }                     \
  LIMBECK_FN Decay<V> decay_(V s) { return decay_vector_(s); }          \
  LIMBECK_FN V log_share_(V u, V t) { return log_share_vector_(u, t); } \
  LIMBECK_FN V log_normal_(V a) { return log_normal_vector_(a); }       \
  LIMBECK_FN V log1p_(V a) { return log1p_vector_(a); }
