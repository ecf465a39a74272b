// Columns of each row of x picked by index on CUDA. An index that names no column gives NaN (-2^31 for integers), and nothing is read.
#include "cuda/rows.h"

namespace limbeck::cuda {
namespace {

template <class T>
LIMBECK_KERNEL void LIMBECK_BOUNDS(256)
    gather_cols_elements(const T* x, const int32_t* indices, T* y, int64_t rows, int64_t cols, int64_t count, int64_t index_stride, T missing) {
  for (int64_t i = first_element(); i < rows * count; i += element_step()) {
    const int64_t row = i / count, column = ld(indices, row * index_stride + (i - row * count));
    st(y, i, column >= 0 && column < cols ? ld(x, row * cols + column) : missing);
  }
}

template <class T> void gather(Context& ctx, In x, In indices, Out y, Int rows, Int cols, Int count, Int index_stride, T missing) {
  launch(ctx, "gather_cols", gather_cols_elements<T>, plan_elements(ctx, rows * count), x.as<T>(), indices.as<int32_t>(), y.as<T>(), rows, cols,
         count, index_stride, missing);
}

}  // namespace

void gather_cols(Context& ctx, In x, In indices, Out y, Int rows, Int cols, Int count, Int index_stride) {
  if (x.dtype == DType::int32) gather<int32_t>(ctx, x, indices, y, rows, cols, count, index_stride, INT32_MIN);
  else gather<float>(ctx, x, indices, y, rows, cols, count, index_stride, NAN);
}

}  // namespace limbeck::cuda
