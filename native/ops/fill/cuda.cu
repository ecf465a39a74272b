// fill on CUDA: any element of four bytes.
#include "cuda/elements.h"

namespace limbeck::cuda {
namespace {

template <class T> LIMBECK_KERNEL void LIMBECK_BOUNDS(256) fill_elements(T* y, int64_t size, T value) {
  for (int64_t i = first_element(); i < size; i += element_step()) st(y, i, value);
}

}  // namespace

void fill(Context& ctx, Out y, Int size, Float value) {
  const Launch plan = plan_elements(ctx, size);
  if (y.dtype == DType::int32) launch(ctx, "fill", fill_elements<int32_t>, plan, y.as<int32_t>(), size, int32_t(value));
  else launch(ctx, "fill", fill_elements<float>, plan, y.as<float>(), size, float(value));
}

}  // namespace limbeck::cuda
