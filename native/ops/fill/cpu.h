// One value everywhere.
#pragma once

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <class S> void fill_loop(S* y, Int size, S value) {
  over_elements(size, [=](Int begin, Int end) {
    for (Int i = begin; i < end; ++i) y[i] = value;
  });
}

}  // namespace

void fill(Context&, Out y, Int size, Float value) {
  if (y.dtype == DType::float16) return fill_loop(y.as<Float16>(), size, narrow_<Float16>(static_cast<float>(value)));
  if (y.dtype == DType::bfloat16) return fill_loop(y.as<BFloat16>(), size, narrow_<BFloat16>(static_cast<float>(value)));
  if (y.dtype == DType::float64) return fill_loop(y.as<double>(), size, value);
  if (y.dtype == DType::int32) {
    // Out of range values stop at the ends of int32 and NaN is 0: the conversion itself would be undefined.
    const int32_t whole = !(value == value) ? 0 : value <= INT32_MIN ? INT32_MIN : value >= INT32_MAX ? INT32_MAX : static_cast<int32_t>(value);
    return fill_loop(y.as<int32_t>(), size, whole);
  }
  fill_loop(y.as<float>(), size, static_cast<float>(value));
}

}  // namespace limbeck::cpu::LIMBECK_ISA
