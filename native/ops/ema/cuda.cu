// One update of moving averages over all elements of all tensors on CUDA; a masked element is exactly 0.
#include "cuda/many.h"
#include "ops/ema/math.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) ema_tensors(Many<3> many, Ema<float> rule) {
  each4(many, [&](int t, int64_t i, int64_t end, bool aligned) {
    float* average = static_cast<float*>(many.data[t][0]);
    const float *parameter = static_cast<const float*>(many.data[t][1]), *mask = static_cast<const float*>(many.data[t][2]);
    float a[4], p[4], m[4] = {1, 1, 1, 1};
    load_chunk(average, i, end, aligned, 0.0f, a);
    load_chunk(parameter, i, end, aligned, 0.0f, p);
    if (mask != nullptr) load_chunk(mask, i, end, aligned, 0.0f, m);
    for (int j = 0; j < 4; j++) a[j] = m[j] == 0.0f ? 0.0f : rule.step(a[j], p[j]);
    store_chunk(average, i, end, aligned, a);
  });
}

}  // namespace

void ema(Context& ctx, InOuts averages, Ins parameters, Ins masks, Ints sizes, Float share) {
  const Ema<float> rule{float(share), share == 1};
  const auto arrays = [&](Int i, void** data) {
    data[0] = averages.items[i].data;
    data[1] = const_cast<void*>(parameters.items[i].data);
    data[2] = const_cast<void*>(masks.items[i].data);
  };
  over_many<3>(sizes, arrays, [&](const Many<3>& many, Int) { launch(ctx, "ema", ema_tensors, plan_many(ctx, many), many, rule); });
}

}  // namespace limbeck::cuda
