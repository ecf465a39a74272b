// Dropout on the CPU: four elements per counter.
#pragma once
#include "ops/dropout/math.h"

namespace limbeck::cpu::LIMBECK_ISA {

void dropout(Context&, In x, Out y, Int size, Float probability, Int seed, Int offset) {
  const float* from = x.as<float>();
  float* to = y.as<float>();
  const uint32_t threshold = dropout_threshold_(probability);
  const float keep = static_cast<float>(1 - probability);
  over_elements(size, [=](Int begin, Int end) {
    Int i = begin;
    while (i < end) {
      const uint64_t position = static_cast<uint64_t>(offset) + static_cast<uint64_t>(i);
      const Philox4 random = philox_(position / 4, static_cast<uint64_t>(seed));
      for (uint64_t k = position % 4; k < 4 && i < end; ++k, ++i) to[i] = dropout_(from[i], dropout_keeps_(random.word[k], threshold), keep);
    }
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
