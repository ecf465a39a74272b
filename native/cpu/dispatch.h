// The CPU back end as the binding sees it: one table of kernels, picked at load from what the processor can do.
#pragma once
#include <vector>

#include "core/kernels.h"

namespace limbeck::cpu {

// The table in use: the best the processor has, or the one LIMBECK_ISA names (base, avx2, avx512, neon).
// A name that is unknown or that this processor lacks is remembered and reported by instruction_set_error().
const Kernels& kernels();
const char* instruction_set();
const char* instruction_set_error();            // nullptr when LIMBECK_ISA was absent or could be honoured
std::vector<const char*> instruction_sets();    // those this processor can run, best first
int threads();
void set_threads(int count);                    // 1..256; from LIMBECK_THREADS or the cgroup and affinity limits at first
const char* matrix_product_library();           // "limbeck" or the CBLAS linked in

}  // namespace limbeck::cpu
