// y = dropout(f(x + b)) row by row, in one pass; y may be x.
#pragma once
#include "ops/bias_activation/math.h"
#include "ops/dropout/cpu.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

// x + b of one row from column c on.
template <class V, class S, class Span> LIMBECK_FN V biased(Span span, const S* x, const S* b, Int c) {
  const V v = span.load(x + c, 1);
  return b ? v + span.load(b + c, 0) : v;
}

template <Activation f, class V, class S> void bias_activation_loop(const S* x, const S* bias, S* y, Int rows, Int cols, Drop drop) {
  over_rows(rows, cols, [=](Int begin, Int end) {
    for (Int r = begin; r < end; ++r) {
      S* to = y + r * cols;
      each<V>(cols, [&](Int c, auto span) LIMBECK_INLINE { span.store(to + c, activation_<f>(biased<V>(span, x + r * cols, bias, c))); });
      if (drop.threshold != 0) drop_run(to, to, cols, drop.offset + static_cast<uint64_t>(r * cols), drop);
    }
  });
}

}  // namespace

void bias_activation(Context&, In x, In bias, Out y, Int rows, Int cols, Int function, Float probability, Int seed, Int offset) {
  const Drop drop = drop_(probability, seed, offset);
  by_dtype(x.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    switch (Activation(function)) {
#define LIMBECK_CASE(name) \
  case Activation::name: return bias_activation_loop<Activation::name, V, S>(x.as<S>(), bias.as<S>(), y.as<S>(), rows, cols, drop);
      LIMBECK_ACTIVATIONS(LIMBECK_CASE)
#undef LIMBECK_CASE
    }
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
