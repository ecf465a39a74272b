// Numbers added into the columns their indices name on CUDA, without float atomics: each column has one thread that adds in the order
// of the indices. Indices known to be distinct are simply stored. One that names no column is left out.
#include "cuda/merge.h"
#include "cuda/rows.h"

namespace limbeck::cuda {
namespace {

template <class Group>
LIMBECK_KERNEL void LIMBECK_BOUNDS(512) scatter_cols_rows(const float* x, const int32_t* indices, float* y, int64_t rows, int64_t cols, int64_t count, int64_t index_stride, bool distinct) {
  SHARED(double, scratch, kScratch);
  Group group(scratch);
  for (int64_t row = group.first_row(); row < rows; row += group.row_step()) {
    float* out = y + row * cols;
    // The same thread fills a column and adds to it, so the second loop needs no barrier.
    for (int64_t c = group.rank(); c < cols; c += group.size()) st(out, c, 0.0f);
    if (distinct) {
      group.sync();
      for (int64_t i = group.rank(); i < count; i += group.size()) {
        const int64_t column = ld(indices, row * index_stride + i);
        if (column >= 0 && column < cols) st(out, column, ld(x, row * count + i));
      }
    } else {
      for (int64_t i = 0; i < count; i++) {
        const int64_t column = ld(indices, row * index_stride + i);
        if (column >= 0 && column < cols && int(column % group.size()) == group.rank()) st(out, column, ld(out, column) + ld(x, row * count + i));
      }
    }
  }
}

}  // namespace

void scatter_cols(Context& ctx, In x, In indices, Out y, Int rows, Int cols, Int count, Int index_stride, Int distinct) {
  const RowPlan plan = plan_rows(ctx, rows, cols);
  launch(ctx, "scatter_cols", plan.block ? scatter_cols_rows<BlockGroup> : scatter_cols_rows<WarpGroup>, plan.launch, x.as<float>(), indices.as<int32_t>(),
         y.as<float>(), rows, cols, count, index_stride, distinct != 0);
}

}  // namespace limbeck::cuda
