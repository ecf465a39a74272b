// Four floats in a NEON register (AArch64).
#pragma once
#include <arm_neon.h>

#include "cpu/vec_math.h"

// A namespace of its own: found by argument, it does not hide the scalar overloads from the kernels.
namespace limbeck::cpu::neon::simd {

struct F32 {
  float32x4_t v;
};
struct M32 {
  uint32x4_t m;
};

LIMBECK_FN F32 operator+(F32 a, F32 b) { return {vaddq_f32(a.v, b.v)}; }
LIMBECK_FN F32 operator-(F32 a, F32 b) { return {vsubq_f32(a.v, b.v)}; }
LIMBECK_FN F32 operator*(F32 a, F32 b) { return {vmulq_f32(a.v, b.v)}; }
LIMBECK_FN F32 operator/(F32 a, F32 b) { return {vdivq_f32(a.v, b.v)}; }
LIMBECK_FN F32 operator-(F32 a) { return {vnegq_f32(a.v)}; }
LIMBECK_FN F32 fma_(F32 a, F32 b, F32 c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
LIMBECK_FN M32 lt_(F32 a, F32 b) { return {vcltq_f32(a.v, b.v)}; }
LIMBECK_FN M32 eq_(F32 a, F32 b) { return {vceqq_f32(a.v, b.v)}; }
LIMBECK_FN F32 select_(M32 m, F32 a, F32 b) { return {vbslq_f32(m.m, a.v, b.v)}; }
// a > b ? a : b, so that a NaN in b stays: vmaxq_f32 would keep one in a as well, and the other types do not.
LIMBECK_FN F32 max_(F32 a, F32 b) { return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)}; }
LIMBECK_FN F32 min_(F32 a, F32 b) { return {vbslq_f32(vcltq_f32(a.v, b.v), a.v, b.v)}; }
LIMBECK_FN F32 abs_(F32 a) { return {vabsq_f32(a.v)}; }
// The size of a with the sign of b.
LIMBECK_FN F32 copysign_(F32 a, F32 b) { return {vbslq_f32(vdupq_n_u32(0x7FFFFFFF), a.v, b.v)}; }
LIMBECK_FN F32 sqrt_(F32 a) { return {vsqrtq_f32(a.v)}; }
LIMBECK_FN F32 round_(F32 a) { return {vrndnq_f32(a.v)}; }
// a·2ⁿ in two factors, so that 2¹²⁸ and denormal results come out right.
LIMBECK_FN F32 scale2_(F32 a, F32 n) {
  const int32x4_t whole = vcvtq_s32_f32(n.v), half = vshrq_n_s32(whole, 1), bias = vdupq_n_s32(127);
  const float32x4_t low = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
  const float32x4_t high = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vsubq_s32(whole, half), bias), 23));
  return {vmulq_f32(vmulq_f32(a.v, low), high)};
}
// a·2ⁿ where both and the result are normal numbers.
LIMBECK_FN F32 times2_(F32 a, F32 n) { return {vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a.v), vshlq_n_s32(vcvtq_s32_f32(n.v), 23)))}; }
// x = m·2^e, m in [√½, √2); of any x denormals are scaled up first.
LIMBECK_FN F32 split_normal_(F32 x, F32& e) {
  // The bits of √½ move to an exponent boundary: what lies above them is the exponent.
  const int32x4_t root = vdupq_n_s32(0x3F3504F3), bits = vsubq_s32(vreinterpretq_s32_f32(x.v), root);
  e = {vcvtq_f32_s32(vshrq_n_s32(bits, 23))};
  return {vreinterpretq_f32_s32(vaddq_s32(vandq_s32(bits, vdupq_n_s32(0x007FFFFF)), root))};
}
LIMBECK_FN F32 split_(F32 x, F32& e) {
  const uint32x4_t small = vcltq_f32(x.v, vdupq_n_f32(1.17549435e-38f));
  const F32 m = split_normal_({vbslq_f32(small, vmulq_n_f32(x.v, 8388608.0f), x.v)}, e);
  e = {vsubq_f32(e.v, vreinterpretq_f32_u32(vandq_u32(small, vreinterpretq_u32_f32(vdupq_n_f32(23.0f)))))};
  return m;
}

}  // namespace limbeck::cpu::neon::simd

namespace limbeck {
template <> struct lane<cpu::neon::simd::F32> { using mask = cpu::neon::simd::M32; using scalar = float; static constexpr int width = 4; };
template <> LIMBECK_FN cpu::neon::simd::F32 splat<cpu::neon::simd::F32>(double x) { return {vdupq_n_f32(static_cast<float>(x))}; }
}  // namespace limbeck

namespace limbeck::cpu::neon::simd {
LIMBECK_VECTOR_MATH(F32)
}

namespace limbeck::cpu::neon {
using simd::F32;
}

namespace limbeck::cpu {
template <> struct vec<neon::simd::F32> : HalfTails<neon::simd::F32> {
  using HalfTails::narrow;
  using HalfTails::widen;
  using F32 = neon::simd::F32;
  LIMBECK_FN static F32 load(const float* p) { return {vld1q_f32(p)}; }
  LIMBECK_FN static F32 load(const float* p, Int n, float padding) {
    float lanes[4] = {padding, padding, padding, padding};
    for (Int i = 0; i < n; ++i) lanes[i] = p[i];
    return {vld1q_f32(lanes)};
  }
  LIMBECK_FN static F32 spread(float x) { return {vdupq_n_f32(x)}; }
  LIMBECK_FN static void store(float* p, F32 a) { vst1q_f32(p, a.v); }
  LIMBECK_FN static void store(float* p, F32 a, Int n) {
    float lanes[4];
    vst1q_f32(lanes, a.v);
    for (Int i = 0; i < n; ++i) p[i] = lanes[i];
  }
  LIMBECK_FN static void stream(float* p, F32 a) { vst1q_f32(p, a.v); }
  LIMBECK_FN static F32 widen(const Float16* p) { return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p))))}; }
  LIMBECK_FN static F32 widen(const BFloat16* p) { return {vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p)), 16))}; }
  LIMBECK_FN static void narrow(Float16* p, F32 a) { vst1_u16(reinterpret_cast<uint16_t*>(p), vreinterpret_u16_f16(vcvt_f16_f32(a.v))); }
  LIMBECK_FN static void narrow(BFloat16* p, F32 a) {
    const uint32x4_t bits = vreinterpretq_u32_f32(a.v), high = vshrq_n_u32(bits, 16);
    const uint32x4_t odd = vandq_u32(high, vdupq_n_u32(1));
    const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7FFF))), 16);
    const uint32x4_t kept = vbslq_u32(vceqq_f32(a.v, a.v), rounded, vorrq_u32(high, vdupq_n_u32(0x40)));
    vst1_u16(reinterpret_cast<uint16_t*>(p), vmovn_u32(kept));
  }
  LIMBECK_FN static double total(F32 a) {
    const float64x2_t both = vaddq_f64(vcvt_f64_f32(vget_low_f32(a.v)), vcvt_high_f64_f32(a.v));
    return vgetq_lane_f64(both, 0) + vgetq_lane_f64(both, 1);
  }
  LIMBECK_FN static float largest(F32 a) { return vmaxnmvq_f32(a.v); }
  LIMBECK_FN static uint32_t bits(neon::simd::M32 m) {
    const uint32x4_t weights = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(m.m, weights));
  }
};
}  // namespace limbeck::cpu
