// The words of every check.h: sizes, dtypes and codes that would corrupt memory if they were wrong.
#pragma once
#include "core/codes.h"
#include "core/context.h"
#include "core/tensor.h"

namespace limbeck::checks {

// 2^53 elements: every size below is exact as a JavaScript number and no product of two checked sizes overflows silently.
inline constexpr Int kMaxElements = Int(1) << 53;

inline bool product(Int a, Int b, Int& out) {
  return !__builtin_mul_overflow(a, b, &out) && out <= kMaxElements;
}

inline bool extent(Context& ctx, const char* name, Int value, Int least = 0) {
  if (value >= least && value <= kMaxElements) return true;
  return ctx.refuse(Fail::value, "%s must be a whole number of at least %lld: it is %lld", name, (long long)least, (long long)value);
}

// rows × cols elements laid out with a row stride: the last row may end early.
inline bool spread(Context& ctx, const char* name, Int rows, Int cols, Int stride, Int& out) {
  if (stride < cols)
    return ctx.refuse(Fail::value, "%s must be at least cols (%lld): it is %lld", name, (long long)cols, (long long)stride);
  out = 0;
  if (rows == 0 || cols == 0) return true;
  if (!product(rows - 1, stride, out) || __builtin_add_overflow(out, cols, &out) || out > kMaxElements)
    return ctx.refuse(Fail::value, "rows · %s must stay below 2^53: rows is %lld, %s is %lld", name, (long long)rows, name, (long long)stride);
  return true;
}

template <class Tensor> bool holds(Context& ctx, const char* name, const Tensor& x, Int size) {
  if (x.data == nullptr && !(size == 0 && x.size == 0))
    return ctx.refuse(Fail::kind, "%s must be a tensor: it is missing", name);
  if (x.size >= size) return true;
  return ctx.refuse(Fail::value, "%s must hold %lld elements: it has %lld", name, (long long)size, (long long)x.size);
}

template <class Tensor> bool dtype(Context& ctx, const char* name, const Tensor& x, DType wanted) {
  if (x.dtype == wanted) return true;
  return ctx.refuse(Fail::kind, "%s must be %s: it is %s", name, kDTypeNames[int(wanted)], kDTypeNames[int(x.dtype)]);
}

// Computed in float32, or in float64 on the CPU.
template <class Tensor> bool floating(Context& ctx, const char* name, const Tensor& x) {
  if (x.dtype == DType::float32 || (x.dtype == DType::float64 && ctx.device < 0)) return true;
  return ctx.refuse(Fail::kind, "%s must be float32%s: it is %s", name, ctx.device < 0 ? " or float64" : "", kDTypeNames[int(x.dtype)]);
}

// Computed in float32 whatever the width it is stored in, or in float64 on the CPU.
template <class Tensor> bool stored(Context& ctx, const char* name, const Tensor& x) {
  if (x.dtype != DType::int32 && x.dtype != DType::uint8 && (x.dtype != DType::float64 || ctx.device < 0)) return true;
  return ctx.refuse(Fail::kind, "%s must be float32, float16%s: it is %s", name, ctx.device < 0 ? ", bfloat16 or float64" : " or bfloat16", kDTypeNames[int(x.dtype)]);
}

// The same without float64, on any device.
template <class Tensor> bool narrow(Context& ctx, const char* name, const Tensor& x) {
  if (x.dtype == DType::float32 || x.dtype == DType::float16 || x.dtype == DType::bfloat16) return true;
  return ctx.refuse(Fail::kind, "%s must be float32, float16 or bfloat16: it is %s", name, kDTypeNames[int(x.dtype)]);
}

// What row losses and masses of such numbers are given in.
inline DType computed_in(DType dtype) { return dtype == DType::float64 ? DType::float64 : DType::float32; }

template <class Tensor> bool is(Context& ctx, const char* name, const Tensor& x, DType wanted, Int size) {
  return holds(ctx, name, x, size) && dtype(ctx, name, x, wanted);
}

// Entry i of a list. Its name is spelt only where it is refused.
template <class T> bool entry(Context& ctx, const char* name, const List<T>& list, Int i, DType wanted, Int size, bool optional = false) {
  const T& x = list.items[i];
  if (!x && optional) return true;
  if (x.dtype == wanted && x.size >= size && (x || (x.size == 0 && size == 0))) return true;
  char label[80];
  snprintf(label, sizeof label, "%s[%lld]", name, (long long)i);
  return is(ctx, label, x, wanted, size);
}

// Lists that belong together are equally long.
template <class T> bool count_is(Context& ctx, const char* name, const List<T>& list, Int count) {
  if (list.count == count) return true;
  return ctx.refuse(Fail::value, "%s must have %lld entries: it has %lld", name, (long long)count, (long long)list.count);
}

// Optional tensors: absent is fine.
template <class Tensor> bool maybe(Context& ctx, const char* name, const Tensor& x, DType wanted, Int size) {
  return !x || is(ctx, name, x, wanted, size);
}

#define LIMBECK_COUNT_ENTRY(name) +1
inline bool code(Context& ctx, const char* name, Int value, Int count) {
  if (value >= 0 && value < count) return true;
  return ctx.refuse(Fail::value, "%s must be a code below %lld: it is %lld", name, (long long)count, (long long)value);
}

inline bool positive(Context& ctx, const char* name, Float value) {
  if (value > 0 && value < __builtin_inf()) return true;
  return ctx.refuse(Fail::value, "%s must be positive and finite: it is %g", name, value);
}

}  // namespace limbeck::checks
