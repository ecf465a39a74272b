// The table of kernels a back end fills: one member per line of kernels.inc, so a missing kernel is a compile or link error.
#pragma once
#include "core/context.h"
#include "core/tensor.h"

namespace limbeck {

struct Kernels {
#define K(name, ...) void (*name)(Context&, __VA_ARGS__);
#include "kernels.inc"
#undef K
};

}  // namespace limbeck
