// The vocabulary of every formula: the few functions an op's math.h may call, for one float or double (host and CUDA).
// SIMD types add overloads with the same names (cpu/vec_*.h); argument-dependent lookup picks. Edge rules live here once.
#pragma once
#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define LIMBECK_FN __host__ __device__ __forceinline__
#else
#define LIMBECK_FN inline __attribute__((always_inline))
#endif

#if defined(__CUDACC__)
// The card's own 2^z and log2, as the compiler knows them:
// it computes an asm statement again where the same is wanted twice.
extern "C" __device__ float __nvvm_ex2_approx_ftz_f(float);
extern "C" __device__ float __nvvm_lg2_approx_ftz_f(float);
#endif

namespace limbeck {

template <class V> struct lane;  // ::mask, ::scalar, ::width
template <> struct lane<float> { using mask = bool; using scalar = float; static constexpr int width = 1; };
template <> struct lane<double> { using mask = bool; using scalar = double; static constexpr int width = 1; };

template <class V> LIMBECK_FN V splat(double x);
template <> LIMBECK_FN float splat<float>(double x) { return static_cast<float>(x); }
template <> LIMBECK_FN double splat<double>(double x) { return x; }

LIMBECK_FN float fma_(float a, float b, float c) { return fmaf(a, b, c); }
LIMBECK_FN double fma_(double a, double b, double c) { return fma(a, b, c); }
// max_ may drop a NaN: the formulas keep it through exp_.
LIMBECK_FN float max_(float a, float b) { return a > b ? a : b; }
LIMBECK_FN double max_(double a, double b) { return a > b ? a : b; }
LIMBECK_FN float min_(float a, float b) { return a < b ? a : b; }
LIMBECK_FN double min_(double a, double b) { return a < b ? a : b; }
LIMBECK_FN float abs_(float a) { return fabsf(a); }
LIMBECK_FN double abs_(double a) { return fabs(a); }
LIMBECK_FN float copysign_(float a, float b) { return copysignf(a, b); }
LIMBECK_FN double copysign_(double a, double b) { return copysign(a, b); }
LIMBECK_FN float sqrt_(float a) { return sqrtf(a); }
LIMBECK_FN double sqrt_(double a) { return sqrt(a); }
// exp_(-inf) = 0, exp_(NaN) = NaN, exp_(large) = inf; at most 2 ulp.
LIMBECK_FN float exp_(float a) { return expf(a); }
LIMBECK_FN double exp_(double a) { return exp(a); }
// e^{a·(hi + lo)} for a factor known to more bits than one float: no error grows with |a·hi|. a = -inf gives 0, NaN stays.
LIMBECK_FN float exp_scaled_(float a, float hi, float lo) {
  const float z = a * hi, e = expf(z), rest = fmaf(a, lo, fmaf(a, hi, -z));
  return z > -104.0f && e < INFINITY ? fmaf(e, rest, e) : e;
}
LIMBECK_FN double exp_scaled_(double a, double hi, double lo) {
  const double z = a * hi, e = exp(z), rest = fma(a, lo, fma(a, hi, -z));
  return z > -746.0 && e < INFINITY ? fma(e, rest, e) : e;
}
// e^{a·scale} for a <= 0 by a card's own exponential: two instructions instead of seventeen. Its error is 1e-7 of the result for each unit of the
// exponent, so that of a probability beside its row's largest is below 1e-7; what is smaller than 1e-38 is 0. a = -inf gives 0, NaN stays.
#if defined(__CUDA_ARCH__)
LIMBECK_FN float exp_of_(float a, float scale) { return __nvvm_ex2_approx_ftz_f(a * (scale * 1.44269504f)); }
#else
LIMBECK_FN float exp_of_(float a, float scale) { return expf(a * scale); }
#endif
// log_(0) = -inf, log_(negative) = NaN.
LIMBECK_FN float log_(float a) { return logf(a); }
LIMBECK_FN double log_(double a) { return log(a); }
LIMBECK_FN float expm1_(float a) { return expm1f(a); }
LIMBECK_FN double expm1_(double a) { return expm1(a); }
LIMBECK_FN float log1p_(float a) { return log1pf(a); }
LIMBECK_FN double log1p_(double a) { return log1p(a); }

// e^{−s} and 1 − e^{−s} for s >= 0, both to their own last digits. NaN stays.
template <class V> struct Decay {
  V e, rest;
};
LIMBECK_FN Decay<float> decay_(float s) { return {expf(-s), -expm1f(-s)}; }
LIMBECK_FN Decay<double> decay_(double s) { return {exp(-s), -expm1(-s)}; }
// ln of a positive number that is neither denormal nor infinite: a card's own logarithm is off by 2^-21 at most near 1, by 3 ulp elsewhere.
#if defined(__CUDA_ARCH__)
LIMBECK_FN float log_normal_(float a) { return __nvvm_lg2_approx_ftz_f(a) * 0.693147181f; }
#else
LIMBECK_FN float log_normal_(float a) { return logf(a); }
#endif
LIMBECK_FN double log_normal_(double a) { return log(a); }

// ln u for u = 1 − t in (0, 1] where u and t are both known to their own last digits: a polynomial while t is small, good to 4e-8 of the result.
LIMBECK_FN float log_share_(float u, float t) {
  float s = fmaf(0.33979689f, t, 0.14391547f);
  s = fmaf(s, t, 0.25779934f);
  s = fmaf(s, t, 0.33285666f);
  s = fmaf(s, t, 0.5000105f);
  s = fmaf(s, t, 0.99999996f);
  const float near = -t * s, far = log_normal_(u);
  return t < 0.25f ? near : far;
}
LIMBECK_FN double log_share_(double u, double t) { return t < 0.25 ? log1p(-t) : log(u); }

// a / b: on a card good to 2 ulp, for b neither denormal nor close to the largest number.
#if defined(__CUDA_ARCH__)
LIMBECK_FN float quotient_(float a, float b) { return __fdividef(a, b); }
#else
LIMBECK_FN float quotient_(float a, float b) { return a / b; }
#endif
template <class V> LIMBECK_FN V quotient_(V a, V b) { return a / b; }

LIMBECK_FN bool lt_(float a, float b) { return a < b; }
LIMBECK_FN bool lt_(double a, double b) { return a < b; }
LIMBECK_FN bool eq_(float a, float b) { return a == b; }
LIMBECK_FN bool eq_(double a, double b) { return a == b; }
LIMBECK_FN float select_(bool m, float a, float b) { return m ? a : b; }
LIMBECK_FN double select_(bool m, double a, double b) { return m ? a : b; }

// 0 · anything = 0: a probability of zero silences an infinite logarithm.
template <class V> LIMBECK_FN V mul0_(V zero_wins, V b) {
  return select_(eq_(zero_wins, splat<V>(0)), splat<V>(0), zero_wins * b);
}

}  // namespace limbeck
