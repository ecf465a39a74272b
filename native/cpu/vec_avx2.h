// Eight floats in an AVX register, with FMA and F16C.
#pragma once
#include <immintrin.h>

#include "cpu/vec_math.h"

// A namespace of its own: found by argument, it does not hide the scalar overloads from the kernels.
namespace limbeck::cpu::avx2::simd {

struct F32 {
  __m256 v;
};
struct M32 {
  __m256 m;
};

LIMBECK_FN F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
LIMBECK_FN F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
LIMBECK_FN F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
LIMBECK_FN F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
LIMBECK_FN F32 operator-(F32 a) { return {-a.v}; }
LIMBECK_FN F32 fma_(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
LIMBECK_FN F32 max_(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
LIMBECK_FN F32 min_(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
LIMBECK_FN F32 abs_(F32 a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
// The size of a with the sign of b.
LIMBECK_FN F32 copysign_(F32 a, F32 b) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_or_ps(_mm256_andnot_ps(sign, a.v), _mm256_and_ps(sign, b.v))};
}
LIMBECK_FN F32 sqrt_(F32 a) { return {_mm256_sqrt_ps(a.v)}; }
LIMBECK_FN M32 lt_(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
LIMBECK_FN M32 eq_(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
LIMBECK_FN F32 select_(M32 m, F32 a, F32 b) { return {_mm256_blendv_ps(b.v, a.v, m.m)}; }
LIMBECK_FN F32 round_(F32 a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// a·2ⁿ in two factors, so that 2¹²⁸ and denormal results come out right.
LIMBECK_FN F32 scale2_(F32 a, F32 n) {
  const __m256i whole = _mm256_cvtps_epi32(n.v), half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
  const __m256 low = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const __m256 high = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23));
  return {_mm256_mul_ps(_mm256_mul_ps(a.v, low), high)};
}
// a·2ⁿ where both and the result are normal numbers.
LIMBECK_FN F32 times2_(F32 a, F32 n) { return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.v), _mm256_slli_epi32(_mm256_cvtps_epi32(n.v), 23)))}; }
// x = m·2^e, m in [√½, √2); of any x denormals are scaled up first.
LIMBECK_FN F32 split_normal_(F32 x, F32& e) {
  // The bits of √½ move to an exponent boundary: what lies above them is the exponent.
  const __m256i root = _mm256_set1_epi32(0x3F3504F3), bits = _mm256_sub_epi32(_mm256_castps_si256(x.v), root);
  e = {_mm256_cvtepi32_ps(_mm256_srai_epi32(bits, 23))};
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(0x007FFFFF)), root))};
}
LIMBECK_FN F32 split_(F32 x, F32& e) {
  const __m256 small = _mm256_cmp_ps(x.v, _mm256_set1_ps(1.17549435e-38f), _CMP_LT_OQ);
  const F32 m = split_normal_({_mm256_blendv_ps(x.v, _mm256_mul_ps(x.v, _mm256_set1_ps(8388608.0f)), small)}, e);
  e = {_mm256_sub_ps(e.v, _mm256_and_ps(small, _mm256_set1_ps(23.0f)))};
  return m;
}

}  // namespace limbeck::cpu::avx2::simd

namespace limbeck {
template <> struct lane<cpu::avx2::simd::F32> { using mask = cpu::avx2::simd::M32; using scalar = float; static constexpr int width = 8; };
template <> LIMBECK_FN cpu::avx2::simd::F32 splat<cpu::avx2::simd::F32>(double x) { return {_mm256_set1_ps(static_cast<float>(x))}; }
}  // namespace limbeck

namespace limbeck::cpu::avx2::simd {
LIMBECK_VECTOR_MATH(F32)
}

namespace limbeck::cpu::avx2 {
using simd::F32;
}

namespace limbeck::cpu {
template <> struct vec<avx2::simd::F32> : HalfTails<avx2::simd::F32> {
  using HalfTails::narrow;
  using HalfTails::widen;
  using F32 = avx2::simd::F32;
  LIMBECK_FN static __m256i first(Int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  LIMBECK_FN static F32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  LIMBECK_FN static F32 load(const float* p, Int n, float padding) {
    const __m256i mask = first(n);
    return {_mm256_blendv_ps(_mm256_set1_ps(padding), _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask))};
  }
  LIMBECK_FN static F32 spread(float x) { return {_mm256_set1_ps(x)}; }
  LIMBECK_FN static void store(float* p, F32 a) { _mm256_storeu_ps(p, a.v); }
  LIMBECK_FN static void store(float* p, F32 a, Int n) { _mm256_maskstore_ps(p, first(n), a.v); }
  LIMBECK_FN static void stream(float* p, F32 a) { _mm256_stream_ps(p, a.v); }
  LIMBECK_FN static F32 widen(const Float16* p) { return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
  LIMBECK_FN static F32 widen(const BFloat16* p) {
    const __m256i low = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(low, 16))};
  }
  LIMBECK_FN static void narrow(Float16* p, F32 a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  LIMBECK_FN static void narrow(BFloat16* p, F32 a) {
    const __m256i bits = _mm256_castps_si256(a.v), high = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF))), 16);
    const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan = _mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
    const __m256i kept = _mm256_blendv_epi8(rounded, quiet, nan);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(_mm256_castsi256_si128(kept), _mm256_extracti128_si256(kept, 1)));
  }
  LIMBECK_FN static double total(F32 a) {
    const __m256d all = _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(a.v)), _mm256_cvtps_pd(_mm256_extractf128_ps(a.v, 1)));
    const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(all), _mm256_extractf128_pd(all, 1));
    return _mm_cvtsd_f64(pair) + _mm_cvtsd_f64(_mm_unpackhi_pd(pair, pair));
  }
  LIMBECK_FN static float largest(F32 a) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
  }
  LIMBECK_FN static uint32_t bits(avx2::simd::M32 m) { return static_cast<uint32_t>(_mm256_movemask_ps(m.m)); }
};
}  // namespace limbeck::cpu
