// AMiD's assistant r ∝ (λ·p^ρ + (1−λ)·q^ρ)^{1/ρ}, ρ = (1−α)/2, in the student's place of any divergence (arXiv 2510.15982).
#pragma once
#include "ops/divergence/divergences.h"

namespace limbeck {

// What an assisted loss needs of any divergence: everything, since one schedule serves them all.
template <class V> struct assisted : WithMean {
  static constexpr bool first_order = true;
};
template <template <class> class Formula> constexpr bool is_assisted = false;
template <> constexpr bool is_assisted<assisted> = true;

// Called, not inlined: ten formulas at every place would take minutes to compile. Static, because a function that files of different
// instruction sets share would be one of them for all.
#if defined(__CUDACC__)
#define LIMBECK_CALLED __host__ __device__ __noinline__
#else
#define LIMBECK_CALLED static __attribute__((noinline))
#endif

// Numbers and not an outcome: a call on a card passes those in registers, a struct in memory.
template <class V> LIMBECK_CALLED V called_loss(Divergence divergence, V q, V p, V log_q, V log_p, V d, V a, V b) {
  const Outcome<V> o{q, p, log_q, log_p, d};
  switch (divergence) {
#define LIMBECK_CASE(name) \
  case Divergence::name: return name<V>::loss(o, a, b);
    LIMBECK_DIVERGENCES(LIMBECK_CASE)
#undef LIMBECK_CASE
  }
  return splat<V>(NAN);
}

template <class V> LIMBECK_CALLED V called_slope(Divergence divergence, V q, V p, V log_q, V log_p, V d, V a, V b) {
  const Outcome<V> o{q, p, log_q, log_p, d};
  switch (divergence) {
#define LIMBECK_CASE(name) \
  case Divergence::name: return name<V>::gradient(o, a, b);
    LIMBECK_DIVERGENCES(LIMBECK_CASE)
#undef LIMBECK_CASE
  }
  return splat<V>(NAN);
}

template <class V> LIMBECK_FN V loss_of(Divergence divergence, const Outcome<V>& o, V a, V b) {
  return called_loss(divergence, o.q, o.p, o.log_q, o.log_p, o.d, a, b);
}
template <class V> LIMBECK_FN V slope_of(Divergence divergence, const Outcome<V>& o, V a, V b) {
  return called_slope(divergence, o.q, o.p, o.log_q, o.log_p, o.d, a, b);
}

// Σ ∂D/∂ln q of a loss as it is computed, from Σ of its slopes: soft cross-entropy's slope q − p has q for the normaliser, which its loss has not.
LIMBECK_FN double loss_slope_(Divergence divergence, double slopes) { return divergence == Divergence::soft_cross_entropy ? slopes - 1 : slopes; }

// Σ r below this may have lost terms that were too small to be told from 0: it is taken again relative to the largest of them.
inline constexpr double kFaintMixture = 1e-15;

template <class V> struct Assistant {
  V power, share, rest, odds;
  V alone;  // ln(m/q) where p = 0; m is r before it is normalised
  bool geometric;

  LIMBECK_FN static Assistant of(double alpha, double lambda) {
    const double power = (1 - alpha) / 2;
    // p^ρ is 0 or infinite where p = 0.
    const double alone = lambda == 0 ? 0 : power > 0 ? log_(1 - lambda) / power : -INFINITY;
    return {splat<V>(power), splat<V>(lambda), splat<V>(1 - lambda), splat<V>(lambda / (1 - lambda)), splat<V>(alone), power == 0};
  }

  // ln(λ + (1 − λ)·e^x): as log1p near 0, where the logarithm itself is small; relative to e^x where that alone counts.
  LIMBECK_FN V log_of_mixture(V x) const {
    const V far = splat<V>(40), between = log_(fma_(rest, exp_(min_(far, x)), share));
    const V small = log1p_(rest * expm1_(x)), large = x + log_(rest) + log1p_(odds * exp_(-x));
    return select_(lt_(abs_(x), splat<V>(1)), small, select_(lt_(far, x), select_(eq_(rest, splat<V>(0)), splat<V>(0), large), between));
  }

  LIMBECK_FN static V probability(V from, V apart, V log_q) { return select_(lt_(from, splat<V>(1e-20)), exp_(log_q), from * exp_(apart)); }

  // The outcome of the divergence between r and p; omega = ∂ ln m/∂ ln q.
  LIMBECK_FN Outcome<V> mix(const Outcome<V>& o, V log_z, V& omega) const {
    const V infinity = splat<V>(INFINITY), zero = splat<V>(0), one = splat<V>(1);
    const V bent = power * o.d;
    const V v = geometric ? mul0_(rest, o.d) : select_(eq_(share, zero), o.d, log_of_mixture(bent) / power);  // ln(m/p)
    Outcome<V> m{};
    m.p = o.p;
    m.log_p = o.log_p;
    m.d = v - log_z;
    // From the larger of the two; as a logarithm where even that may have been rounded.
    const auto below = lt_(o.d, zero);
    const V larger = select_(below, o.p, o.q), apart = select_(below, m.d, v - o.d - log_z);
    m.log_q = select_(below, o.log_p, o.log_q) + apart;
    m.q = probability(larger, apart, m.log_q);
    omega = geometric ? rest : select_(eq_(rest, zero), zero, one / (one + mul0_(odds, exp_(-bent))));
    const auto no_teacher = eq_(o.log_p, -infinity), no_student = eq_(o.log_q, -infinity);
    const V log_alone = o.log_q + alone - log_z;
    m.q = select_(no_teacher, probability(o.q, alone - log_z, log_alone), m.q);
    m.log_q = select_(no_teacher, log_alone, m.log_q);
    m.d = select_(no_teacher, select_(eq_(log_alone, -infinity), zero, infinity), m.d);
    omega = select_(no_teacher, select_(no_student, zero, omega), omega);
    m.centred = m.d;
    return m;
  }
};

}  // namespace limbeck
