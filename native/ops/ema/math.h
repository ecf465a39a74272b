// A moving average of weights (Polyak & Juditsky 1992): a + share·(p − a), and p itself with a share of 1.
#pragma once
#include "core/lanes.h"

namespace limbeck {

template <class V> struct Ema {
  V share;
  bool is_whole;  // a + (p − a) need not be p

  LIMBECK_FN V step(V average, V parameter) const { return is_whole ? parameter : fma_(share, parameter - average, average); }
};

}  // namespace limbeck
