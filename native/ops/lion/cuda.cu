// One optimiser step of Lion over all elements of all tensors on CUDA; a masked element and its momentum are exactly 0.
#include "cuda/many.h"
#include "ops/lion/math.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) lion_tensors(Many<4> many, Lion<float> rule) {
  each4(many, [&](int t, int64_t i, int64_t end, bool aligned) {
    float *parameter = static_cast<float*>(many.data[t][0]), *momentum_buffer = static_cast<float*>(many.data[t][2]);
    const float *gradient = static_cast<const float*>(many.data[t][1]), *mask = static_cast<const float*>(many.data[t][3]);
    float p[4], g[4], v[4], m[4] = {1, 1, 1, 1};
    load_chunk(parameter, i, end, aligned, 0.0f, p);
    load_chunk(gradient, i, end, aligned, 0.0f, g);
    load_chunk(momentum_buffer, i, end, aligned, 0.0f, v);
    if (mask != nullptr) load_chunk(mask, i, end, aligned, 0.0f, m);
    for (int j = 0; j < 4; j++) {
      p[j] = rule.step(p[j], g[j], v[j]);
      if (m[j] == 0.0f) p[j] = v[j] = 0.0f;
    }
    store_chunk(parameter, i, end, aligned, p);
    store_chunk(momentum_buffer, i, end, aligned, v);
  });
}

}  // namespace

void lion(Context& ctx, InOuts parameters, Ins gradients, InOuts momentum_buffers, Ins masks, Ints sizes, Float learning_rate, Float beta1,
          Float beta2, Float weight_decay, Float gradient_scale) {
  const Lion<float> rule = lion_<float>(learning_rate, beta1, beta2, weight_decay, gradient_scale);
  const auto arrays = [&](Int i, void** data) {
    data[0] = parameters.items[i].data;
    data[1] = const_cast<void*>(gradients.items[i].data);
    data[2] = momentum_buffers.items[i].data;
    data[3] = const_cast<void*>(masks.items[i].data);
  };
  over_many<4>(sizes, arrays, [&](const Many<4>& many, Int) { launch(ctx, "lion", lion_tensors, plan_many(ctx, many), many, rule); });
}

}  // namespace limbeck::cuda
