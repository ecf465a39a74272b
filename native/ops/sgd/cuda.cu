// One optimiser step of SGD over all elements of all tensors on CUDA; a masked element and its state are exactly 0.
#include "cuda/many.h"
#include "ops/sgd/math.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) sgd_tensors(Many<4> many, Sgd<float> rule, bool nesterov) {
  each4(many, [&](int t, int64_t i, int64_t end, bool aligned) {
    float *parameter = static_cast<float*>(many.data[t][0]), *momentum_buffer = static_cast<float*>(many.data[t][2]);
    const float *gradient = static_cast<const float*>(many.data[t][1]), *mask = static_cast<const float*>(many.data[t][3]);
    float p[4], g[4], v[4] = {0, 0, 0, 0}, m[4] = {1, 1, 1, 1};
    load_chunk(parameter, i, end, aligned, 0.0f, p);
    load_chunk(gradient, i, end, aligned, 0.0f, g);
    if (momentum_buffer != nullptr) load_chunk(momentum_buffer, i, end, aligned, 0.0f, v);
    if (mask != nullptr) load_chunk(mask, i, end, aligned, 0.0f, m);
    for (int j = 0; j < 4; j++) {
      p[j] = rule.step(p[j], g[j], v[j], nesterov);
      if (m[j] == 0.0f) p[j] = v[j] = 0.0f;
    }
    store_chunk(parameter, i, end, aligned, p);
    if (momentum_buffer != nullptr) store_chunk(momentum_buffer, i, end, aligned, v);
  });
}

}  // namespace

void sgd(Context& ctx, InOuts parameters, Ins gradients, InOuts momentum_buffers, Ins masks, Ints sizes, Float learning_rate, Float momentum,
         Float weight_decay, Int nesterov, Float gradient_scale) {
  const Sgd<float> rule{float(learning_rate), float(momentum), float(weight_decay), float(gradient_scale)};
  const auto arrays = [&](Int i, void** data) {
    data[0] = parameters.items[i].data;
    data[1] = const_cast<void*>(gradients.items[i].data);
    data[2] = momentum_buffers.items[i].data;
    data[3] = const_cast<void*>(masks.items[i].data);
  };
  over_many<4>(sizes, arrays, [&](const Many<4>& many, Int) { launch(ctx, "sgd", sgd_tensors, plan_many(ctx, many), many, rule, nesterov != 0); });
}

}  // namespace limbeck::cuda
