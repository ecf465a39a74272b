// The NEON lane type under test.
#if defined(__aarch64__)
#include "cpu/standard.h"

#define LIMBECK_ISA neon
#include "cpu/vec_neon.h"
#include "cpu/lanes_test.inc"
#endif
