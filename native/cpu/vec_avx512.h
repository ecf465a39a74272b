// Sixteen floats in an AVX-512 register.
#pragma once
#include <immintrin.h>

#include "cpu/vec_math.h"

// GCC 12 takes the undefined pass-through operand of its own AVX-512 intrinsics for a mistake.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

// A namespace of its own: found by argument, it does not hide the scalar overloads from the kernels.
namespace limbeck::cpu::avx512::simd {

struct F32 {
  __m512 v;
};
struct M32 {
  __mmask16 m;
};

LIMBECK_FN F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
LIMBECK_FN F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
LIMBECK_FN F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
LIMBECK_FN F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
LIMBECK_FN F32 operator-(F32 a) { return {-a.v}; }
LIMBECK_FN F32 fma_(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
LIMBECK_FN F32 max_(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
LIMBECK_FN F32 min_(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
LIMBECK_FN F32 abs_(F32 a) { return {_mm512_abs_ps(a.v)}; }
// The size of a with the sign of b.
LIMBECK_FN F32 copysign_(F32 a, F32 b) {
  return {_mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_set1_epi32(0x7FFFFFFF), _mm512_castps_si512(a.v), _mm512_castps_si512(b.v), 0xCA))};
}
LIMBECK_FN F32 sqrt_(F32 a) { return {_mm512_sqrt_ps(a.v)}; }
LIMBECK_FN M32 lt_(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
LIMBECK_FN M32 eq_(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
LIMBECK_FN F32 select_(M32 m, F32 a, F32 b) { return {_mm512_mask_blend_ps(m.m, b.v, a.v)}; }
LIMBECK_FN F32 round_(F32 a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
LIMBECK_FN F32 scale2_(F32 a, F32 n) { return {_mm512_scalef_ps(a.v, n.v)}; }
// a·2ⁿ where both and the result are normal numbers.
LIMBECK_FN F32 times2_(F32 a, F32 n) { return {_mm512_scalef_ps(a.v, n.v)}; }
// x = m·2^e, m in [√½, √2); of any x denormals are scaled up first.
LIMBECK_FN F32 split_normal_(F32 x, F32& e) {
  // The bits of √½ move to an exponent boundary: what lies above them is the exponent.
  const __m512i root = _mm512_set1_epi32(0x3F3504F3), bits = _mm512_sub_epi32(_mm512_castps_si512(x.v), root);
  e = {_mm512_cvtepi32_ps(_mm512_srai_epi32(bits, 23))};
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_and_si512(bits, _mm512_set1_epi32(0x007FFFFF)), root))};
}
LIMBECK_FN F32 split_(F32 x, F32& e) {
  const __mmask16 small = _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(1.17549435e-38f), _CMP_LT_OQ);
  const F32 m = split_normal_({_mm512_mask_mul_ps(x.v, small, x.v, _mm512_set1_ps(8388608.0f))}, e);
  e = {_mm512_mask_sub_ps(e.v, small, e.v, _mm512_set1_ps(23.0f))};
  return m;
}

}  // namespace limbeck::cpu::avx512::simd

namespace limbeck {
template <> struct lane<cpu::avx512::simd::F32> { using mask = cpu::avx512::simd::M32; using scalar = float; static constexpr int width = 16; };
template <> LIMBECK_FN cpu::avx512::simd::F32 splat<cpu::avx512::simd::F32>(double x) { return {_mm512_set1_ps(static_cast<float>(x))}; }
}  // namespace limbeck

namespace limbeck::cpu::avx512::simd {
LIMBECK_VECTOR_MATH(F32)
}

namespace limbeck::cpu::avx512 {
using simd::F32;
}

namespace limbeck::cpu {
template <> struct vec<avx512::simd::F32> {
  using F32 = avx512::simd::F32;
  LIMBECK_FN static __mmask16 first(Int n) { return static_cast<__mmask16>((1u << n) - 1); }
  LIMBECK_FN static F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  LIMBECK_FN static F32 load(const float* p, Int n, float padding) { return {_mm512_mask_loadu_ps(_mm512_set1_ps(padding), first(n), p)}; }
  // 2^(n + r), |r| <= 1/64: 2^(j/32) from two registers by the last five bits of m, and 2^r − 1 to 5e-8 or, where it is to be fine, 5e-10.
  template <bool fine> LIMBECK_FN static F32 power(F32 r, F32 m, F32 n) {
    const __m512 low = _mm512_setr_ps(1.0f, 1.0218972f, 1.04427373f, 1.06714046f, 1.09050775f, 1.1143868f, 1.13878858f, 1.1637249f, 1.18920708f, 1.21524739f, 1.24185777f, 1.26905096f, 1.29683959f, 1.32523668f, 1.35425556f, 1.38390994f);
    const __m512 high = _mm512_setr_ps(1.41421354f, 1.44518077f, 1.47682619f, 1.50916445f, 1.54221082f, 1.5759809f, 1.61049032f, 1.64575553f, 1.68179286f, 1.71861935f, 1.75625217f, 1.79470909f, 1.8340081f, 1.87416768f, 1.91520655f, 1.95714414f);
    const __m512 root = _mm512_permutex2var_ps(low, _mm512_castps_si512(m.v), high);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(0.240226527f), r.v, _mm512_set1_ps(0.693157331f));
    if constexpr (fine) p = _mm512_fmadd_ps(_mm512_fmadd_ps(_mm512_set1_ps(0.0555041087f), r.v, _mm512_set1_ps(0.240226507f)), r.v, _mm512_set1_ps(0.693147181f));
    return {_mm512_scalef_ps(_mm512_fmadd_ps(_mm512_mul_ps(root, r.v), p, root), n.v)};
  }
  LIMBECK_FN static F32 spread(float x) { return {_mm512_set1_ps(x)}; }
  LIMBECK_FN static void store(float* p, F32 a) { _mm512_storeu_ps(p, a.v); }
  LIMBECK_FN static void store(float* p, F32 a, Int n) { _mm512_mask_storeu_ps(p, first(n), a.v); }
  LIMBECK_FN static void stream(float* p, F32 a) { _mm512_stream_ps(p, a.v); }
  LIMBECK_FN static F32 of_bits(__m256i bits, Float16) { return {_mm512_cvtph_ps(bits)}; }
  LIMBECK_FN static F32 of_bits(__m256i bits, BFloat16) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))}; }
  LIMBECK_FN static __m256i to_bits(F32 a, Float16) { return _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  LIMBECK_FN static __m256i to_bits(F32 a, BFloat16) {
    const __m512i bits = _mm512_castps_si512(a.v), high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF))), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40)));
  }
  template <class H> LIMBECK_FN static F32 widen(const H* p) { return of_bits(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), H{}); }
  template <class H> LIMBECK_FN static F32 widen(const H* p, Int n) { return of_bits(_mm256_maskz_loadu_epi16(first(n), p), H{}); }
  template <class H> LIMBECK_FN static void narrow(H* p, F32 a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bits(a, H{})); }
  template <class H> LIMBECK_FN static void narrow(H* p, F32 a, Int n) { _mm256_mask_storeu_epi16(p, first(n), to_bits(a, H{})); }
  LIMBECK_FN static double total(F32 a) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(a.v)), high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a.v, 1));
    const __m512d all = _mm512_add_pd(low, high);
    const __m256d half = _mm256_add_pd(_mm512_castpd512_pd256(all), _mm512_extractf64x4_pd(all, 1));
    const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd(half, 1));
    return _mm_cvtsd_f64(pair) + _mm_cvtsd_f64(_mm_unpackhi_pd(pair, pair));
  }
  LIMBECK_FN static float largest(F32 a) { return _mm512_reduce_max_ps(a.v); }
  LIMBECK_FN static uint32_t bits(avx512::simd::M32 m) { return m.m; }
};
}  // namespace limbeck::cpu
