// Dropout's mask from a counter: Philox4x32-10 (Salmon et al. 2011), so the same (seed, position) keeps the same element on every device.
#pragma once
#include <cstdint>

#include "core/philox.h"

namespace limbeck {

// u = (word >> 8)·2⁻²⁴ in [0, 1). u >= probability exactly when word >> 8 reaches this threshold.
LIMBECK_FN uint32_t dropout_threshold_(double probability) { return static_cast<uint32_t>(ceil(probability * 16777216.0)); }
LIMBECK_FN bool dropout_keeps_(uint32_t word, uint32_t threshold) { return (word >> 8) >= threshold; }

// y = x/(1 − p) where kept, exactly 0 elsewhere, whatever x is there. `keep` is 1 − p.
LIMBECK_FN float dropout_(float x, bool kept, float keep) { return kept ? x / keep : 0.0f; }

}  // namespace limbeck
