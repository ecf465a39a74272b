// Every standard header the kernels use, and the spine, before any target pragma.
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <mutex>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(LIMBECK_CBLAS)
#include <cblas.h>
#endif

#include "core/codes.h"
#include "core/context.h"
#include "core/kernels.h"
#include "core/tensor.h"
#include "cpu/faults.h"
#include "cpu/threads.h"
