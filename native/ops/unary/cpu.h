// The unary functions over all elements, one loop per function.
#pragma once
#include "ops/unary/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <Unary f, class V, class S> void unary_loop(const S* x, S* y, Int size, double parameter) {
  const V p = splat<V>(parameter);
  over_elements(size, [=](Int begin, Int end) {
    each<V>(end - begin, [&](Int i, auto span) LIMBECK_INLINE {
      span.store(y + begin + i, unary_<f>(span.load(x + begin + i, 1), p));
    });
  });
}

}  // namespace

void unary(Context&, In x, Out y, Int size, Int function, Float parameter) {
  // A copy moves the bits, of any dtype.
  if (Unary(function) == Unary::copy) {
    const Int bytes = kDTypeBytes[int(x.dtype)];
    const char* from = x.as<char>();
    char* to = y.as<char>();
    if (from != to)
      over_elements(size, [=](Int begin, Int end) { memmove(to + begin * bytes, from + begin * bytes, static_cast<size_t>((end - begin) * bytes)); });
    return;
  }
  by_dtype(x.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    switch (Unary(function)) {
#define LIMBECK_CASE(name) \
  case Unary::name: return unary_loop<Unary::name, V, S>(x.as<S>(), y.as<S>(), size, parameter);
      LIMBECK_UNARY(LIMBECK_CASE)
#undef LIMBECK_CASE
    }
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
