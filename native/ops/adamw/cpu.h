// One optimiser step of AdamW over all elements of all tensors; a masked element and its state are exactly 0.
#pragma once
#include "ops/adamw/math.h"

namespace limbeck::cpu::LIMBECK_ISA {

void adamw(Context&, InOuts parameters, Ins gradients, InOuts first_moments, InOuts second_moments, Ins masks, Ints sizes, Float learning_rate,
           Float beta1, Float beta2, Float epsilon, Float weight_decay, Int step, Float gradient_scale) {
  using V = F32;
  const AdamW<V> rule = adamw_<V>(learning_rate, beta1, beta2, epsilon, weight_decay, step, gradient_scale);
  for (Int t = 0; t < sizes.count; ++t) {
    float *p = parameters.items[t].as<float>(), *m = first_moments.items[t].as<float>(), *v = second_moments.items[t].as<float>();
    const float *g = gradients.items[t].as<float>(), *keep = masks.items[t].as<float>();
    over_elements(sizes.items[t], [=](Int begin, Int end) {
      each<V>(end - begin, [&](Int i, auto span) LIMBECK_INLINE {
        const Int at = begin + i;
        V first = span.load(m + at, 0), second = span.load(v + at, 0);
        V next = rule.step(span.load(p + at, 0), span.load(g + at, 0), first, second);
        if (keep) {
          const auto masked = eq_(span.load(keep + at, 0), splat<V>(0));
          next = select_(masked, splat<V>(0), next);
          first = select_(masked, splat<V>(0), first);
          second = select_(masked, splat<V>(0), second);
        }
        span.store(p + at, next);
        span.store(m + at, first);
        span.store(v + at, second);
      });
    });
  }
}

}  // namespace limbeck::cpu::LIMBECK_ISA
