// One optimiser step of SGD over all elements of all tensors; a masked element and its state are exactly 0.
#pragma once
#include "ops/sgd/math.h"

namespace limbeck::cpu::LIMBECK_ISA {

void sgd(Context&, InOuts parameters, Ins gradients, InOuts momentum_buffers, Ins masks, Ints sizes, Float learning_rate, Float momentum,
         Float weight_decay, Int nesterov, Float gradient_scale) {
  using V = F32;
  const Sgd<V> rule{splat<V>(learning_rate), splat<V>(momentum), splat<V>(weight_decay), splat<V>(gradient_scale)};
  for (Int t = 0; t < sizes.count; ++t) {
    float *p = parameters.items[t].as<float>(), *v = momentum_buffers.items[t].as<float>();
    const float *g = gradients.items[t].as<float>(), *keep = masks.items[t].as<float>();
    over_elements(sizes.items[t], [=](Int begin, Int end) {
      each<V>(end - begin, [&](Int i, auto span) LIMBECK_INLINE {
        const Int at = begin + i;
        V velocity = v ? span.load(v + at, 0) : splat<V>(0);
        V next = rule.step(span.load(p + at, 0), span.load(g + at, 0), velocity, nesterov != 0);
        if (keep) {
          const auto masked = eq_(span.load(keep + at, 0), splat<V>(0));
          next = select_(masked, splat<V>(0), next);
          velocity = select_(masked, splat<V>(0), velocity);
        }
        span.store(p + at, next);
        if (v) span.store(v + at, velocity);
      });
    });
  }
}

}  // namespace limbeck::cpu::LIMBECK_ISA
