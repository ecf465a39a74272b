// The CUDA back end's kernel table, one entry per line of kernels.inc.
#include "cuda/runtime.h"

namespace limbeck::cuda {

#define K(name, ...) void name(Context&, __VA_ARGS__);
#include "kernels.inc"
#undef K

const Kernels* kernels() {
  static constexpr Kernels table = {
#define K(name, ...) &name,
#include "kernels.inc"
#undef K
  };
  return &table;
}

}  // namespace limbeck::cuda
