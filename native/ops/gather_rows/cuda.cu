// Rows of x picked by index on CUDA. An index that names no row gives a row of NaN (of -2^31 for integers), and nothing is read.
#include "cuda/merge.h"
#include "cuda/rows.h"

namespace limbeck::cuda {
namespace {

template <class T, class Group> LIMBECK_KERNEL void LIMBECK_BOUNDS(512) gather_rows_rows(const T* x, const int32_t* indices, T* y, int64_t rows, int64_t cols, int64_t count, T missing) {
  SHARED(double, scratch, kScratch);
  Group group(scratch);
  for (int64_t i = group.first_row(); i < count; i += group.row_step()) {
    const int64_t from = ld_warp(indices, i);
    const bool there = from >= 0 && from < rows;
    for (int64_t c = group.rank(); c < cols; c += group.size()) st(y, i * cols + c, there ? ld(x, from * cols + c) : missing);
  }
}

template <class T> void gather(Context& ctx, In x, In indices, Out y, Int rows, Int cols, Int count, T missing) {
  const RowPlan plan = plan_rows(ctx, count, cols);
  launch(ctx, "gather_rows", plan.block ? gather_rows_rows<T, BlockGroup> : gather_rows_rows<T, WarpGroup>, plan.launch, x.as<T>(), indices.as<int32_t>(),
         y.as<T>(), rows, cols, count, missing);
}

}  // namespace

// Bits are moved: an element is two or four bytes.
void gather_rows(Context& ctx, In x, In indices, Out y, Int rows, Int cols, Int count) {
  switch (x.dtype) {
    case DType::float16: return gather<uint16_t>(ctx, x, indices, y, rows, cols, count, 0x7E00);
    case DType::bfloat16: return gather<uint16_t>(ctx, x, indices, y, rows, cols, count, 0x7FC0);
    case DType::int32: return gather<uint32_t>(ctx, x, indices, y, rows, cols, count, uint32_t(INT32_MIN));
    default: return gather<uint32_t>(ctx, x, indices, y, rows, cols, count, bits_of_float_(NAN));
  }
}

}  // namespace limbeck::cuda
