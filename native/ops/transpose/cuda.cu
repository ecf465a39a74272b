// [batch, rows, cols] to [batch, cols, rows] on CUDA: tiles of 32×32 turn in shared memory, so that both sides are read and written along lines.
#include "cuda/rows.h"

namespace limbeck::cuda {
namespace {

constexpr int kTile = 32, kLine = kTile + 1;  // one more, so that a column lies in 32 banks

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) transpose_tiles(const float* x, float* y, int64_t rows, int64_t cols, int64_t tiles_r, int64_t tiles_c, int64_t count) {
  SHARED(float, tile, kTile * kLine);
  for (int64_t task = block_index(); task < count; task += grid_size()) {
    const int64_t plane = task / (tiles_r * tiles_c), within = task % (tiles_r * tiles_c);
    const int64_t row0 = within / tiles_c * kTile, col0 = within % tiles_c * kTile, base = plane * rows * cols;
    sync_block();
    for (int i = warp(); i < kTile; i += 8)
      if (row0 + i < rows && col0 + lane() < cols) tile[i * kLine + lane()] = ld(x, base + (row0 + i) * cols + col0 + lane());
    sync_block();
    for (int i = warp(); i < kTile; i += 8)
      if (col0 + i < cols && row0 + lane() < rows) {
        const float v = tile[lane() * kLine + i];
        st(y, base + (col0 + i) * rows + row0 + lane(), v);
      }
  }
}

}  // namespace

void transpose(Context& ctx, In x, Out y, Int batch, Int rows, Int cols) {
  const int64_t tiles_r = (rows + kTile - 1) / kTile, tiles_c = (cols + kTile - 1) / kTile, count = batch * tiles_r * tiles_c;
  const int64_t most = int64_t(limits(ctx).multiprocessors) * 32;
  launch(ctx, "transpose", transpose_tiles, Launch{count < most ? count : most, 256}, x.as<float>(), y.as<float>(), rows, cols, tiles_r, tiles_c, count);
}

}  // namespace limbeck::cuda
