// Scalar lanes under test.
#include "cpu/standard.h"

#define LIMBECK_ISA base
#include "cpu/vec_math.h"

namespace limbeck::cpu::base {
using F32 = float;
}

#include "cpu/lanes_test.inc"
