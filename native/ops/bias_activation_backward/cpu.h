// The gradient of x + b from that of y = dropout(f(x + b)), row by row in one pass; gradient_x may be x or gradient_y.
#pragma once
#include "ops/bias_activation/cpu.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <Activation f, class V, class S>
void bias_activation_backward_loop(const S* x, const S* bias, const S* gradient_y, S* gradient_x, Int rows, Int cols, Drop drop) {
  over_rows(rows, cols, [=](Int begin, Int end) {
    constexpr Int kPiece = 1024;
    S kept[kPiece];
    for (Int at = begin * cols; at < end * cols;) {
      // A piece ends with its row.
      const Int column = at % cols, left = cols - column, n = left < kPiece ? left : kPiece;
      const S* g = gradient_y + at;
      if (drop.threshold != 0) {
        drop_run(g, kept, n, drop.offset + static_cast<uint64_t>(at), drop);
        g = kept;
      }
      each<V>(n, [&](Int i, auto span) LIMBECK_INLINE {
        const V v = biased<V>(span, x + at, bias ? bias + column : nullptr, i);
        span.store(gradient_x + at + i, activation_gradient_<f>(v, span.load(g + i, 0)));
      });
      at += n;
    }
  });
}

}  // namespace

void bias_activation_backward(Context&, In x, In bias, In gradient_y, Out gradient_x, Int rows, Int cols, Int function, Float probability, Int seed,
                              Int offset) {
  const Drop drop = drop_(probability, seed, offset);
  by_dtype(x.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    switch (Activation(function)) {
#define LIMBECK_CASE(name) \
  case Activation::name:   \
    return bias_activation_backward_loop<Activation::name, V, S>(x.as<S>(), bias.as<S>(), gradient_y.as<S>(), gradient_x.as<S>(), rows, cols, drop);
      LIMBECK_ACTIVATIONS(LIMBECK_CASE)
#undef LIMBECK_CASE
    }
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
