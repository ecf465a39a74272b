// The row losses with NEON, part of every AArch64 processor.
#if defined(__aarch64__)
#include "cpu/standard.h"

#define LIMBECK_ISA neon
#include "cpu/vec_neon.h"
#include "cpu/losses.h"
#endif
