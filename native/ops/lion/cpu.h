// One optimiser step of Lion over all elements of all tensors; a masked element and its momentum are exactly 0.
#pragma once
#include "ops/lion/math.h"

namespace limbeck::cpu::LIMBECK_ISA {

void lion(Context&, InOuts parameters, Ins gradients, InOuts momentum_buffers, Ins masks, Ints sizes, Float learning_rate, Float beta1, Float beta2,
          Float weight_decay, Float gradient_scale) {
  using V = F32;
  const Lion<V> rule = lion_<V>(learning_rate, beta1, beta2, weight_decay, gradient_scale);
  for (Int t = 0; t < sizes.count; ++t) {
    float *p = parameters.items[t].as<float>(), *m = momentum_buffers.items[t].as<float>();
    const float *g = gradients.items[t].as<float>(), *keep = masks.items[t].as<float>();
    over_elements(sizes.items[t], [=](Int begin, Int end) {
      each<V>(end - begin, [&](Int i, auto span) LIMBECK_INLINE {
        const Int at = begin + i;
        V momentum = span.load(m + at, 0);
        V next = rule.step(span.load(p + at, 0), span.load(g + at, 0), momentum);
        if (keep) {
          const auto masked = eq_(span.load(keep + at, 0), splat<V>(0));
          next = select_(masked, splat<V>(0), next);
          momentum = select_(masked, splat<V>(0), momentum);
        }
        span.store(p + at, next);
        span.store(m + at, momentum);
      });
    });
  }
}

}  // namespace limbeck::cpu::LIMBECK_ISA
