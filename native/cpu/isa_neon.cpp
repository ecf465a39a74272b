// The kernels with NEON, part of every AArch64 processor.
#if defined(__aarch64__)
#include "cpu/standard.h"

#define LIMBECK_ISA neon
#define LIMBECK_TABLE table_neon
#include "cpu/vec_neon.h"
#include "cpu/ops.h"
#include "cpu/table.inc"
#endif
