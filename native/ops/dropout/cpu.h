// Dropout on the CPU: four elements per counter.
#pragma once
#include "ops/dropout/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

// Elements [0, n) of a run that begins at `position` of the seed's sequence; from may be to.
template <class S> void drop_run(const S* from, S* to, Int n, uint64_t position, const Drop& drop) {
  const S keep = static_cast<S>(drop.keep);
  Int i = 0;
  while (i < n) {
    const uint64_t at = position + static_cast<uint64_t>(i);
    const Philox4 random = philox_(at / 4, drop.seed);
    for (uint64_t k = at % 4; k < 4 && i < n; ++k, ++i) to[i] = dropout_(from[i], dropout_keeps_(random.word[k], drop.threshold), keep);
  }
}

}  // namespace

void dropout(Context&, In x, Out y, Int size, Float probability, Int seed, Int offset) {
  const Drop drop = drop_(probability, seed, offset);
  over_elements(size, [=](Int begin, Int end) {
    drop_run(x.as<float>() + begin, y.as<float>() + begin, end - begin, drop.offset + static_cast<uint64_t>(begin), drop);
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
