// The unary functions over all elements, one loop per function.
#pragma once
#include "ops/unary/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <Unary f, class V, class S> void unary_loop(In x, Out y, Int size, double parameter) {
  const V p = splat<V>(parameter);
  over_elements(size, [=](Int begin, Int end) {
    in_pieces<V, S>(x, y, begin, end, [p](const S* from, S* to, Int n) {
      each<V>(n, [&](Int i, auto span) LIMBECK_INLINE { span.store(to + i, unary_<f>(span.load(from + i, 1), p)); });
    });
  });
}

}  // namespace

void unary(Context&, In x, Out y, Int size, Int function, Float parameter) {
  // A copy to the same type moves the bits; to another one it converts.
  if (Unary(function) == Unary::copy && x.dtype == y.dtype) {
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
  case Unary::name: return unary_loop<Unary::name, V, S>(x, y, size, parameter);
      LIMBECK_UNARY(LIMBECK_CASE)
#undef LIMBECK_CASE
    }
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
