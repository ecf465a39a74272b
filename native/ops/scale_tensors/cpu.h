// x ← factor·x for all tensors, each the numbers that unary's scale gives.
#pragma once

namespace limbeck::cpu::LIMBECK_ISA {

void scale_tensors(Context&, InOuts tensors, Ints sizes, Float factor) {
  for (Int t = 0; t < sizes.count; ++t)
    by_dtype(tensors.items[t].dtype, [&](auto lanes) {
      using V = typename decltype(lanes)::type;
      using S = typename lane<V>::scalar;
      S* x = tensors.items[t].as<S>();
      over_elements(sizes.items[t], [=](Int begin, Int end) {
        each<V>(end - begin, [&](Int i, auto span) LIMBECK_INLINE { span.store(x + begin + i, span.load(x + begin + i, 0) * splat<V>(factor)); });
      });
    });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
