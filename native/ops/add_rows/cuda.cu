// y[r] = Σ x[i] over the i with indices[i] = r on CUDA: each row of y looks for its own among the indices, in order, so no order of
// threads shows. An index that names no row is added nowhere.
#include "cuda/merge.h"
#include "cuda/rows.h"

namespace limbeck::cuda {
namespace {

constexpr int kEach = 8;  // columns of a lane at a time

LIMBECK_KERNEL void LIMBECK_BOUNDS(128) add_rows_warps(const float* x, const int32_t* indices, float* y, int64_t rows, int64_t cols, int64_t count) {
  for (int64_t row = int64_t(block_index()) * 4 + warp(); row < rows; row += int64_t(grid_size()) * 4) {
    for (int64_t base = 0; base < cols; base += 32 * kEach) {
      float sum[kEach] = {};
      for (int64_t first = 0; first < count; first += 32) {
        const int64_t mine = first + lane();
        unsigned found = ballot(mine < count && ld(indices, mine < count ? mine : 0) == row);
        for (int j = 0; found != 0; j++, found >>= 1) {
          if ((found & 1u) == 0) continue;
          for (int e = 0; e < kEach; e++) {
            const int64_t c = base + e * 32 + lane();
            if (c < cols) sum[e] += ld(x, (first + j) * cols + c);
          }
        }
      }
      for (int e = 0; e < kEach; e++) {
        const int64_t c = base + e * 32 + lane();
        if (c < cols) st(y, row * cols + c, sum[e]);
      }
    }
  }
}

}  // namespace

void add_rows(Context& ctx, In x, In indices, Out y, Int rows, Int cols, Int count) {
  const int64_t blocks = (rows + 3) / 4, most = int64_t(limits(ctx).multiprocessors) * 32;
  launch(ctx, "add_rows", add_rows_warps, Launch{blocks < most ? blocks : most, 128}, x.as<float>(), indices.as<int32_t>(), y.as<float>(), rows, cols, count);
}

}  // namespace limbeck::cuda
