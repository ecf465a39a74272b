// The row losses one element at a time: what every processor can run.
#include "cpu/standard.h"

#define LIMBECK_ISA base
#include "cpu/vec.h"

namespace limbeck::cpu::base {
using F32 = float;
}

#include "cpu/losses.h"
