// y[i] = Σ x² of tensor i, each the number that reduce gives.
#pragma once
#include "ops/reduce/cpu.h"

namespace limbeck::cpu::LIMBECK_ISA {

void square_sums(Context&, Ins tensors, Ints sizes, Out y) {
  for (Int i = 0; i < sizes.count; ++i)
    by_dtype(tensors.items[i].dtype, [&](auto lanes) {
      using V = typename decltype(lanes)::type;
      using S = typename lane<V>::scalar;
      y.as<double>()[i] = static_cast<S>(reduce_row<Reduce::sum_squares, V, S>(tensors.items[i].as<S>(), sizes.items[i]));
    });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
