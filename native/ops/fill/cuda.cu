// fill on CUDA: the bits of any element of two or four bytes.
#include "cuda/elements.h"

namespace limbeck::cuda {
namespace {

template <class T> LIMBECK_KERNEL void LIMBECK_BOUNDS(256) fill_elements(T* y, int64_t size, T value) {
  for (int64_t i = first_element(); i < size; i += element_step()) st(y, i, value);
}

}  // namespace

void fill(Context& ctx, Out y, Int size, Float value) {
  const Launch plan = plan_elements(ctx, size);
  const float number = float(value);
  if (y.dtype == DType::float16) launch(ctx, "fill", fill_elements<uint16_t>, plan, y.as<uint16_t>(), size, narrow_<Float16>(number).bits);
  else if (y.dtype == DType::bfloat16) launch(ctx, "fill", fill_elements<uint16_t>, plan, y.as<uint16_t>(), size, narrow_<BFloat16>(number).bits);
  else launch(ctx, "fill", fill_elements<uint32_t>, plan, y.as<uint32_t>(), size, y.dtype == DType::int32 ? uint32_t(int32_t(value)) : bits_of_float_(number));
}

}  // namespace limbeck::cuda
