// One optimiser step of AdamW over all elements of all tensors on CUDA; a masked element and its state are exactly 0.
#include "cuda/many.h"
#include "ops/adamw/math.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) adamw_tensors(Many<5> many, AdamW<float> rule) {
  each4(many, [&](int t, int64_t i, int64_t end, bool aligned) {
    float *parameter = static_cast<float*>(many.data[t][0]), *first_moment = static_cast<float*>(many.data[t][2]),
          *second_moment = static_cast<float*>(many.data[t][3]);
    const float *gradient = static_cast<const float*>(many.data[t][1]), *mask = static_cast<const float*>(many.data[t][4]);
    float p[4], g[4], first[4], second[4], m[4] = {1, 1, 1, 1};
    load_chunk(parameter, i, end, aligned, 0.0f, p);
    load_chunk(gradient, i, end, aligned, 0.0f, g);
    load_chunk(first_moment, i, end, aligned, 0.0f, first);
    load_chunk(second_moment, i, end, aligned, 0.0f, second);
    if (mask != nullptr) load_chunk(mask, i, end, aligned, 0.0f, m);
    for (int j = 0; j < 4; j++) {
      p[j] = rule.step(p[j], g[j], first[j], second[j]);
      if (m[j] == 0.0f) p[j] = first[j] = second[j] = 0.0f;
    }
    store_chunk(parameter, i, end, aligned, p);
    store_chunk(first_moment, i, end, aligned, first);
    store_chunk(second_moment, i, end, aligned, second);
  });
}

}  // namespace

void adamw(Context& ctx, InOuts parameters, Ins gradients, InOuts first_moments, InOuts second_moments, Ins masks, Ints sizes, Float learning_rate,
           Float beta1, Float beta2, Float epsilon, Float weight_decay, Int step, Float gradient_scale) {
  const AdamW<float> rule = adamw_<float>(learning_rate, beta1, beta2, epsilon, weight_decay, step, gradient_scale);
  const auto arrays = [&](Int i, void** data) {
    data[0] = parameters.items[i].data;
    data[1] = const_cast<void*>(gradients.items[i].data);
    data[2] = first_moments.items[i].data;
    data[3] = second_moments.items[i].data;
    data[4] = const_cast<void*>(masks.items[i].data);
  };
  over_many<5>(sizes, arrays, [&](const Many<5>& many, Int) { launch(ctx, "adamw", adamw_tensors, plan_many(ctx, many), many, rule); });
}

}  // namespace limbeck::cuda
