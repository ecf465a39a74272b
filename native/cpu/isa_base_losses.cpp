// The row losses one element at a time: what every processor can run.
#include "cpu/standard.h"

#define LIMBECK_ISA base
#include "cpu/vec.h"

namespace limbeck::cpu::base {
#if defined(LIMBECK_BASE_FLOAT64)
// A sanitized build: rows of 32 bits run on another instruction set, so their loops are not compiled here.
using F32 = double;
#else
using F32 = float;
#endif
}

#include "cpu/losses.h"
