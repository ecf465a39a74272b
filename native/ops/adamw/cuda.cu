// One optimiser step of AdamW over all elements on CUDA; a masked element and its state are exactly 0.
#include "cuda/elements.h"
#include "ops/adamw/math.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) adamw_elements(float* parameter, const float* gradient, float* first_moment, float* second_moment, const float* mask, int64_t size, AdamW<float> rule) {
  each4(size, [&](int64_t i, bool aligned) {
    float p[4], g[4], first[4], second[4], m[4] = {1, 1, 1, 1};
    load_chunk(parameter, i, size, aligned, 0.0f, p);
    load_chunk(gradient, i, size, aligned, 0.0f, g);
    load_chunk(first_moment, i, size, aligned, 0.0f, first);
    load_chunk(second_moment, i, size, aligned, 0.0f, second);
    if (mask != nullptr) load_chunk(mask, i, size, aligned, 0.0f, m);
    for (int j = 0; j < 4; j++) {
      p[j] = rule.step(p[j], g[j], first[j], second[j]);
      if (m[j] == 0.0f) p[j] = first[j] = second[j] = 0.0f;
    }
    store_chunk(parameter, i, size, aligned, p);
    store_chunk(first_moment, i, size, aligned, first);
    store_chunk(second_moment, i, size, aligned, second);
  }, parameter, gradient, first_moment, second_moment, mask);
}

}  // namespace

void adamw(Context& ctx, InOut parameter, In gradient, InOut first_moment, InOut second_moment, In mask, Int size, Float learning_rate,
           Float beta1, Float beta2, Float epsilon, Float weight_decay, Int step, Float gradient_scale) {
  const AdamW<float> rule = adamw_<float>(learning_rate, beta1, beta2, epsilon, weight_decay, step, gradient_scale);
  launch(ctx, "adamw", adamw_elements, plan_elements(ctx, size), parameter.as<float>(), gradient.as<float>(), first_moment.as<float>(),
         second_moment.as<float>(), mask.as<float>(), size, rule);
}

}  // namespace limbeck::cuda
