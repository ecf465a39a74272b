// One update of moving averages over all elements of all tensors; a masked element is exactly 0.
#pragma once
#include "ops/ema/math.h"

namespace limbeck::cpu::LIMBECK_ISA {

void ema(Context&, InOuts averages, Ins parameters, Ins masks, Ints sizes, Float share) {
  using V = F32;
  const Ema<V> rule{splat<V>(share), share == 1};
  for (Int t = 0; t < sizes.count; ++t) {
    float* a = averages.items[t].as<float>();
    const float *p = parameters.items[t].as<float>(), *keep = masks.items[t].as<float>();
    over_elements(sizes.items[t], [=](Int begin, Int end) {
      each<V>(end - begin, [&](Int i, auto span) LIMBECK_INLINE {
        const Int at = begin + i;
        V next = rule.step(span.load(a + at, 0), span.load(p + at, 0));
        if (keep) next = select_(eq_(span.load(keep + at, 0), splat<V>(0)), splat<V>(0), next);
        span.store(a + at, next);
      });
    });
  }
}

}  // namespace limbeck::cpu::LIMBECK_ISA
