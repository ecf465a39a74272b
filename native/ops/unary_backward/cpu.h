// Gradients of the unary functions over all elements, one loop per function.
#pragma once
#include "ops/unary/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <Unary f, class V, class S> void unary_backward_loop(const S* x, const S* y, const S* g, S* dx, Int size, double parameter) {
  const V p = splat<V>(parameter);
  over_elements(size, [=](Int begin, Int end) {
    each<V>(end - begin, [&](Int i, auto span) LIMBECK_INLINE {
      const Int at = begin + i;
      span.store(dx + at, unary_gradient_<f>(span.load(x + at, 1), span.load(y + at, 1), span.load(g + at, 1), p));
    });
  });
}

}  // namespace

void unary_backward(Context&, In x, In y, In gradient_y, Out gradient_x, Int size, Int function, Float parameter) {
  by_dtype(x.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    switch (Unary(function)) {
#define LIMBECK_CASE(name) \
  case Unary::name:        \
    return unary_backward_loop<Unary::name, V, S>(x.as<S>(), y.as<S>(), gradient_y.as<S>(), gradient_x.as<S>(), size, parameter);
      LIMBECK_UNARY(LIMBECK_CASE)
#undef LIMBECK_CASE
    }
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
