// The row losses: apart from ops.h because they take as long to compile as all other kernels together.
#include "cpu/rows.h"
#include "ops/divergence/cpu.h"
