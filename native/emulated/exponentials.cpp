// Counts the exponentials and logarithms of float that kernels take: the linker sends the addon's calls through here (--wrap).
#include "emulated/state.h"

namespace limbeck::emulated {
namespace {
thread_local uint64_t count = 0;
}
uint64_t exponentials() { return count; }
}  // namespace limbeck::emulated

#define LIMBECK_COUNTED(name)                     \
  extern "C" float __real_##name(float);          \
  extern "C" float __wrap_##name(float x) {       \
    ++limbeck::emulated::count;                   \
    return __real_##name(x);                      \
  }
LIMBECK_COUNTED(expf)
LIMBECK_COUNTED(expm1f)
LIMBECK_COUNTED(logf)
LIMBECK_COUNTED(log1pf)
