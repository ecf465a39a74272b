// The row losses with AVX2, FMA and F16C.
#if defined(__x86_64__)
#include "cpu/standard.h"

// Standard headers come before the pragma: nothing of theirs may be compiled for this instruction set and then shared.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#define LIMBECK_ISA avx2
#include "cpu/vec_avx2.h"
#include "cpu/losses.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
