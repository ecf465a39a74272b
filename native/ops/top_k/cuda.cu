// top_k on CUDA: a block per row; each walk over the row finds up to 1024 of the best.
#include "cuda/select.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(kSelectBlock) top_k_rows(AnyIn x, AnyOut values, int32_t* indices, int64_t rows, int64_t cols, int64_t k) {
  SHARED(uint64_t, ranks, kSelectBuffer);
  SHARED(float, tile, kSelectTile);
  SHARED(int, count, 1);
  for (int64_t row = block_index(); row < rows; row += grid_size()) {
    const AnyIn x_row = offset(x, row * cols);
    uint64_t bound = ~uint64_t(0);
    for (int64_t done = 0; done < k; done += kSelectBatch) {
      const int wanted = int(k - done < kSelectBatch ? k - done : kSelectBatch);
      select_best(x_row, cols, wanted, bound, ranks, tile, count, [](float (&)[4]) {});
      for (int i = thread_index(); i < wanted; i += block_size()) {
        const uint64_t rank = ranks[i];
        const int64_t column = top_k_index_(rank);
        st(indices, row * k + done + i, int32_t(column));
        st(values, row * k + done + i, ld(x_row, column));
      }
      bound = ranks[wanted - 1];
    }
  }
}

}  // namespace

void top_k(Context& ctx, In x, Out values, Out indices, Int rows, Int cols, Int k) {
  if (k == 0) return;
  const int64_t most = int64_t(limits(ctx).multiprocessors) * 64;
  launch(ctx, "top_k", top_k_rows, Launch{rows < most ? rows : most, kSelectBlock}, AnyIn(x), AnyOut(values), indices.as<int32_t>(), rows, cols, k);
}

}  // namespace limbeck::cuda
