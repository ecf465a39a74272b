// The row losses: apart from ops.h because they take as long to compile as all other kernels together.
#include "cpu/rows.h"

// Where the other instruction sets send numbers of 64 bits.
namespace limbeck::cpu::base {
#define K(name, ...) void name(Context&, __VA_ARGS__);
#include "kernels.inc"
#undef K
}  // namespace limbeck::cpu::base

#include "ops/divergence/cpu.h"
