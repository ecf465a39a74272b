// What every divergence shares: one outcome of a row, and φ, the function that keeps a KL exact when student and teacher nearly agree.
#pragma once
#include "core/lanes.h"

namespace limbeck {

// One outcome: log-probabilities of student (q) and teacher (p), both at the row's temperature.
// d = ln q − ln p comes from the logits (one rounding), not from the difference of the two logarithms.
template <class V> struct Outcome {
  V q, p, log_q, log_p, d;
  // A schedule that tries a row without regard for -inf says so here, and does the row again where the sums show that there was one.
  bool finite = false;
  // d less what it is in the student's likeliest column, where the schedule knows that (centred_gradient); else d.
  V centred = d;
};

// φ(d)/d² for φ(d) = e^d − 1 − d ≥ 0, where the subtraction would cancel. |d| <= 0.5: relative error below 6e-8, or 1e-9 in double.
template <class V> LIMBECK_FN V phi_series_(V d) {
  if constexpr (sizeof(typename lane<V>::scalar) == 8) {
    V s = fma_(splat<V>(1.0 / 3628800), d, splat<V>(1.0 / 362880));
    s = fma_(s, d, splat<V>(1.0 / 40320));
    s = fma_(s, d, splat<V>(1.0 / 5040));
    s = fma_(s, d, splat<V>(1.0 / 720));
    s = fma_(s, d, splat<V>(1.0 / 120));
    s = fma_(s, d, splat<V>(1.0 / 24));
    s = fma_(s, d, splat<V>(1.0 / 6));
    return fma_(s, d, splat<V>(0.5));
  } else {
    // The polynomial of degree 5 whose largest relative error is least.
    V s = fma_(splat<V>(1.9875629e-4), d, splat<V>(1.3981997365e-3));
    s = fma_(s, d, splat<V>(8.3334521723e-3));
    s = fma_(s, d, splat<V>(4.1665795942e-2));
    s = fma_(s, d, splat<V>(1.6666665456e-1));
    return fma_(s, d, splat<V>(5.0000001201e-1));
  }
}

// p·φ(d) = q − p − p·d. p = 0 contributes q; q = 0 < p gives +inf; both zero give 0. NaN stays NaN.
template <class V> LIMBECK_FN V p_phi_(const Outcome<V>& o) {
  const V infinity = splat<V>(INFINITY), slope = o.p * o.d;
  const V far = (o.q - o.p) - slope;
  V loss = select_(lt_(abs_(o.d), splat<V>(0.5)), slope * o.d * phi_series_(o.d), far);
  if (o.finite) return loss;
  loss = select_(eq_(o.log_q, -infinity), o.p + infinity, loss);  // + keeps a NaN teacher
  return select_(eq_(o.log_p, -infinity), o.q, loss);
}

// q − p without cancellation where the two nearly agree: p·(e^d − 1) = p·(d + φ(d)).
template <class V> LIMBECK_FN V difference_(const Outcome<V>& o) {
  const V slope = o.p * o.d;
  return select_(lt_(abs_(o.d), splat<V>(0.5)), fma_(slope * o.d, phi_series_(o.d), slope), o.q - o.p);
}

// A divergence whose gradient needs the whole row: it is g − q·Σ g, where gradient() gives g = q·∂D/∂q up to a constant times q.
// The schedule sums first. Mass must be 1, and the logarithms themselves may be asked for.
struct WithMean {
  static constexpr bool needs_mean = true;
  static constexpr bool any_mass = false;
  static constexpr bool adds_mass = false;
  static constexpr bool needs_logs = true;
  // true: the loss moves with an error of ln Σ to first order. That error is Σ(q − p), which is known, times Σ g:
  // the schedule takes it off, and keeps in d what the subtraction of the maxima loses.
  static constexpr bool first_order = false;
  // true: g holds q·d, which may be q·centred: where d is in the hundreds, q·(d − Σ q·d) would lose what is left of it.
  static constexpr bool centred_gradient = false;
  // Others: of which |d|·gap_scale the formula takes e^−. The smaller probability is the larger one times a power of that: one exponential less.
  static constexpr float gap_scale = 0;
};

// Teacher and student in each other's place.
template <class V> LIMBECK_FN Outcome<V> swapped_(const Outcome<V>& o) { return {o.p, o.q, o.log_p, o.log_q, -o.d, o.finite}; }

// A loss less what its error of ln Σ is known to have added; an infinite one stays.
LIMBECK_FN double corrected_(double loss, double mean, double drift) { return loss < INFINITY ? loss - mean * drift : loss; }

// What the rounding of s = a − b lost; 0 where one of them is infinite.
template <class V> LIMBECK_FN V lost_(V a, V b, V s) {
  const V back = s - a, e = (a - (s - back)) - (b + back);
  return select_(lt_(abs_(e), splat<V>(1e30)), e, splat<V>(0));
}

// 0 · anything = 0, which costs nothing where nothing is infinite.
template <class V> LIMBECK_FN V weigh_(const Outcome<V>& o, V weight, V value) { return o.finite ? weight * value : mul0_(weight, value); }

// decay_, of a float with one exponential: near 0 its complement is a polynomial, elsewhere the difference keeps its digits.
template <class V> LIMBECK_FN Decay<V> decay_once_(V s) { return decay_(s); }
template <> LIMBECK_FN Decay<float> decay_once_(float s) {
  const float e = exp_of_(s, -1.0f);
  const float near = fma_(s * s, -phi_series_(-s), s), far = 1.0f - e;
  return {e, s < 0.5f ? near : far};
}

// Student and teacher as e^{−|d|} and 1 − e^{−|d|}, which are small where it matters. Outcomes impossible on both sides do not differ.
template <class V> struct Gap {
  typename lane<V>::mask above;  // q > p
  V size, small, rest;
};
template <class V> LIMBECK_FN Gap<V> gap_(const Outcome<V>& o, V scale) {
  const V d = o.finite ? o.d : select_(eq_(o.log_q, splat<V>(-INFINITY)), select_(eq_(o.log_p, splat<V>(-INFINITY)), splat<V>(0), o.d), o.d);
  const V size = abs_(d) * scale;
  const Decay<V> decay = decay_once_(size);
  return {lt_(splat<V>(0), d), size, decay.e, decay.rest};
}

// (1 − t)·x + t·u in two floats, for x and u at most 0: the sum of `hi` and `lo`. -inf on either side gives -inf.
template <class V> struct Interpolation {
  V t, t_low, rest, rest_low;
  V lo;

  LIMBECK_FN static Interpolation of(double t) {
    using S = typename lane<V>::scalar;
    const double high = static_cast<double>(static_cast<S>(t)), rest = static_cast<double>(static_cast<S>(1 - t));
    return {splat<V>(high), splat<V>(t - high), splat<V>(rest), splat<V>(1 - t - rest), splat<V>(0)};
  }
  LIMBECK_FN V operator()(V x, V u) {
    const V a = rest * x, b = t * u, hi = a + b, back = hi - a;
    const V lost = fma_(rest, x, -a) + fma_(t, u, -b) + ((a - (hi - back)) + (b - back)) + fma_(rest_low, x, t_low * u);
    lo = select_(lt_(abs_(lost), splat<V>(1e30)), lost, splat<V>(0));
    return hi;
  }
};

// m = a·p + b·q, a + b = 1, as the outcomes of KL(p‖m) and KL(q‖m), and (q − p)/m. One logarithm: the larger side's,
// of 1 − w·(1 − e^{−|d|}) with w the weight of the smaller; the other side's is |d| more.
template <class V> struct Mixture {
  Outcome<V> teacher, student;
  V slope;
};
template <class V> LIMBECK_FN Mixture<V> mixture_(const Outcome<V>& o, V a, V b) {
  const Gap<V> gap = gap_(o, splat<V>(1));
  const V weight = select_(gap.above, a, b), other = select_(gap.above, b, a), lost = weight * gap.rest;
  const V share = fma_(weight, gap.small, other);
  const V high = select_(eq_(other, splat<V>(0)), -gap.size, log_share_(share, lost)), low = high + gap.size;
  const V u = select_(gap.above, low, high), v = select_(gap.above, high, low), m = fma_(a, o.p, b * o.q);
  const V slope = quotient_(gap.rest, share);
  return {{m, o.p, o.log_p + u, o.log_p, u, o.finite}, {m, o.q, o.log_q + v, o.log_q, v, o.finite}, select_(gap.above, slope, -slope)};
}

}  // namespace limbeck
