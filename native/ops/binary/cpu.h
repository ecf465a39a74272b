// The binary functions, with b of a's shape or spread over rows, columns or everything.
#pragma once
#include "ops/binary/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <Binary f, class V, class S> void binary_loop(In a, In b, Out y, Int rows, Int cols, Broadcast broadcast) {
  if (rows == 0 || cols == 0) return;
  const auto number = [b](Int i) {
    S room[1];
    return *widened<V>(b, i, 1, room);
  };
  // Elements [begin, end) of a with those of b from `at` on, or with one number.
  const auto pairs = [a, b, y](Int begin, Int end, Int at) {
    in_pieces<V, S>(a, y, begin, end, [&](const S* u, S* to, Int n) {
      constexpr Int kPiece = 1024;
      S room[kPiece];
      for (Int done = 0; done < n; done += kPiece) {
        const Int count = n - done < kPiece ? n - done : kPiece;
        const S* v = widened<V>(b, at, count, room);
        each<V>(count, [&](Int i, auto span) LIMBECK_INLINE {
          span.store(to + done + i, binary_<f>(span.load(u + done + i, 1), span.load(v + i, 1)));
        });
        at += count;
      }
    });
  };
  const auto with_one = [a, y](Int begin, Int end, S value) {
    const V one = splat<V>(value);
    in_pieces<V, S>(a, y, begin, end, [&](const S* u, S* to, Int n) {
      each<V>(n, [&](Int i, auto span) LIMBECK_INLINE { span.store(to + i, binary_<f>(span.load(u + i, 1), one)); });
    });
  };
  switch (broadcast) {
    case Broadcast::same: return over_elements(rows * cols, [=](Int begin, Int end) { pairs(begin, end, begin); });
    case Broadcast::scalar: return over_elements(rows * cols, [=](Int begin, Int end) { with_one(begin, end, number(0)); });
    case Broadcast::row:
      return over_rows(rows, cols, [=](Int begin, Int end) {
        for (Int r = begin; r < end; ++r) pairs(r * cols, (r + 1) * cols, 0);
      });
    case Broadcast::column:
      return over_rows(rows, cols, [=](Int begin, Int end) {
        for (Int r = begin; r < end; ++r) with_one(r * cols, (r + 1) * cols, number(r));
      });
  }
}

}  // namespace

void binary(Context&, In a, In b, Out y, Int rows, Int cols, Int function, Int broadcast) {
  by_dtype(a.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    switch (Binary(function)) {
#define LIMBECK_CASE(name) \
  case Binary::name: return binary_loop<Binary::name, V, S>(a, b, y, rows, cols, Broadcast(broadcast));
      LIMBECK_BINARY(LIMBECK_CASE)
#undef LIMBECK_CASE
    }
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
