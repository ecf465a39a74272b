// Matrix products by the host's own cuBLAS, opened at run time; nothing is linked against it.
#pragma once
#include "core/context.h"
#include "core/tensor.h"

namespace limbeck::cuda {

// c [m, n] = scale·op(a)·op(b), added to what is there with accumulate; a is [m, k], or [k, m] transposed, b [k, n], or [n, k].
// Strides are those of lines in memory.
struct Product {
  In a, b;
  Out c;
  Int m, n, k, a_stride, b_stride, c_stride;
  bool transpose_a, transpose_b, accumulate;
  float scale;
};

// False where there is no cuBLAS, or none that takes such a product; what fails while it runs is refused in ctx.
bool multiplied_by_cublas(Context& ctx, const Product& product);

}  // namespace limbeck::cuda
