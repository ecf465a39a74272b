// The binary functions, with b of a's shape or spread over rows, columns or everything.
#pragma once
#include "ops/binary/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <Binary f, class V, class S> void binary_loop(const S* a, const S* b, S* y, Int rows, Int cols, Broadcast broadcast) {
  if (rows == 0 || cols == 0) return;
  if (broadcast == Broadcast::same || broadcast == Broadcast::scalar) {
    const bool scalar = broadcast == Broadcast::scalar;
    const V one = splat<V>(b[0]);
    over_elements(rows * cols, [=](Int begin, Int end) {
      each<V>(end - begin, [&](Int i, auto span) LIMBECK_INLINE {
        const Int at = begin + i;
        span.store(y + at, binary_<f>(span.load(a + at, 1), scalar ? one : span.load(b + at, 1)));
      });
    });
    return;
  }
  over_rows(rows, cols, [=](Int begin, Int end) {
    for (Int r = begin; r < end; ++r) {
      const S* from = a + r * cols;
      S* to = y + r * cols;
      if (broadcast == Broadcast::row) {
        each<V>(cols, [&](Int i, auto span) LIMBECK_INLINE { span.store(to + i, binary_<f>(span.load(from + i, 1), span.load(b + i, 1))); });
      } else {
        const V one = splat<V>(b[r]);
        each<V>(cols, [&](Int i, auto span) LIMBECK_INLINE { span.store(to + i, binary_<f>(span.load(from + i, 1), one)); });
      }
    }
  });
}

}  // namespace

void binary(Context&, In a, In b, Out y, Int rows, Int cols, Int function, Int broadcast) {
  by_dtype(a.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    switch (Binary(function)) {
#define LIMBECK_CASE(name) \
  case Binary::name: return binary_loop<Binary::name, V, S>(a.as<S>(), b.as<S>(), y.as<S>(), rows, cols, Broadcast(broadcast));
      LIMBECK_BINARY(LIMBECK_CASE)
#undef LIMBECK_CASE
    }
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
