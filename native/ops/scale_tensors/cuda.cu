// x ← factor·x for all tensors on CUDA, in one launch for hundreds of them.
#include "cuda/many.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) scale_all_tensors(Many<1> many, float factor) {
  each4(many, [&](int t, int64_t i, int64_t end, bool aligned) {
    float* x = static_cast<float*>(many.data[t][0]);
    float v[4];
    load_chunk(x, i, end, aligned, 0.0f, v);
    for (int j = 0; j < 4; j++) v[j] *= factor;
    store_chunk(x, i, end, aligned, v);
  });
}

}  // namespace

void scale_tensors(Context& ctx, InOuts tensors, Ints sizes, Float factor) {
  const auto arrays = [&](Int i, void** data) { data[0] = tensors.items[i].data; };
  over_many<1>(sizes, arrays, [&](const Many<1>& many, Int) { launch(ctx, "scale_tensors", scale_all_tensors, plan_many(ctx, many), many, float(factor)); });
}

}  // namespace limbeck::cuda
