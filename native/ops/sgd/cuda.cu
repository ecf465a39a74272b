// One optimiser step of SGD over all elements on CUDA; a masked element and its state are exactly 0.
#include "cuda/elements.h"
#include "ops/sgd/math.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) sgd_elements(float* parameter, const float* gradient, float* momentum_buffer, const float* mask, int64_t size, Sgd<float> rule, bool nesterov) {
  // Absent tensors are null, which counts as aligned.
  each4(size, [&](int64_t i, bool aligned) {
    float p[4], g[4], v[4] = {0, 0, 0, 0}, m[4] = {1, 1, 1, 1};
    load_chunk(parameter, i, size, aligned, 0.0f, p);
    load_chunk(gradient, i, size, aligned, 0.0f, g);
    if (momentum_buffer != nullptr) load_chunk(momentum_buffer, i, size, aligned, 0.0f, v);
    if (mask != nullptr) load_chunk(mask, i, size, aligned, 0.0f, m);
    for (int j = 0; j < 4; j++) {
      p[j] = rule.step(p[j], g[j], v[j], nesterov);
      if (m[j] == 0.0f) p[j] = v[j] = 0.0f;
    }
    store_chunk(parameter, i, size, aligned, p);
    if (momentum_buffer != nullptr) store_chunk(momentum_buffer, i, size, aligned, v);
  }, parameter, gradient, momentum_buffer, mask);
}

}  // namespace

void sgd(Context& ctx, InOut parameter, In gradient, InOut momentum_buffer, In mask, Int size, Float learning_rate, Float momentum,
         Float weight_decay, Int nesterov, Float gradient_scale) {
  const Sgd<float> rule{float(learning_rate), float(momentum), float(weight_decay), float(gradient_scale)};
  launch(ctx, "sgd", sgd_elements, plan_elements(ctx, size), parameter.as<float>(), gradient.as<float>(), momentum_buffer.as<float>(),
         mask.as<float>(), size, rule, nesterov != 0);
}

}  // namespace limbeck::cuda
