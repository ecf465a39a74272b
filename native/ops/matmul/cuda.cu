// c = op(a)·op(b) on CUDA in float32: tiles of 64×64 through shared memory, a fixed order of sums.
#include "core/lanes.h"
#include "cuda/rows.h"

namespace limbeck::cuda {
namespace {

constexpr int kTile = 64, kDepth = 16;
constexpr int64_t kTerms = 512;  // products summed before they join the total

// An element of a matrix is at row·row_step + col·col_step: a transpose is the two steps exchanged.
struct Matrix {
  const float* data;
  int64_t row_step, col_step;
};

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) matmul_tiles(Matrix a, Matrix b, float* c, int64_t m, int64_t n, int64_t k, int64_t tiles_n, int64_t tiles, bool accumulate) {
  SHARED(float, a_tile, kDepth * kTile);
  SHARED(float, b_tile, kDepth * kTile);
  const int tx = thread_index() % 16, ty = thread_index() / 16;
  for (int64_t tile = block_index(); tile < tiles; tile += grid_size()) {
    const int64_t row0 = tile / tiles_n * kTile, col0 = tile % tiles_n * kTile;
    float total[4][4] = {}, part[4][4] = {};
    for (int64_t depth = 0; depth < k; depth += kDepth) {
      sync_block();
      for (int i = thread_index(); i < kTile * kDepth; i += 256) {
        // Neighbouring threads follow the step that is 1.
        const int ad = a.col_step == 1 ? i % kDepth : i / kTile, ar = a.col_step == 1 ? i / kDepth : i % kTile;
        a_tile[ad * kTile + ar] = row0 + ar < m && depth + ad < k ? ld(a.data, (row0 + ar) * a.row_step + (depth + ad) * a.col_step) : 0.0f;
        const int bd = b.col_step == 1 ? i / kTile : i % kDepth, bc = b.col_step == 1 ? i % kTile : i / kDepth;
        b_tile[bd * kTile + bc] = col0 + bc < n && depth + bd < k ? ld(b.data, (depth + bd) * b.row_step + (col0 + bc) * b.col_step) : 0.0f;
      }
      sync_block();
      for (int d = 0; d < kDepth; d++) {
        const Float4 u = ld4_shared(a_tile, d * kTile + ty * 4), v = ld4_shared(b_tile, d * kTile + tx * 4);
        const float us[4] = {u.x, u.y, u.z, u.w}, vs[4] = {v.x, v.y, v.z, v.w};
        for (int i = 0; i < 4; i++)
          for (int j = 0; j < 4; j++) part[i][j] = fma_(us[i], vs[j], part[i][j]);
      }
      if ((depth + kDepth) % kTerms != 0 && depth + kDepth < k) continue;
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) total[i][j] += part[i][j], part[i][j] = 0;
    }
    for (int i = 0; i < 4; i++) {
      const int64_t row = row0 + ty * 4 + i, col = col0 + tx * 4;
      if (row >= m || col >= n) continue;
      float* c_row = c + row * n;
      const bool aligned = aligned4(c_row);
      float out[4] = {0, 0, 0, 0};
      if (accumulate) load_chunk(c_row, col, n, aligned, 0.0f, out);
      for (int j = 0; j < 4; j++) out[j] += total[i][j];
      store_chunk(c_row, col, n, aligned, out);
    }
  }
}

}  // namespace

void matmul(Context& ctx, In a, In b, Out c, Int m, Int n, Int k, Int transpose_a, Int transpose_b, Int accumulate) {
  const Matrix left{a.as<float>(), transpose_a ? 1 : k, transpose_a ? m : 1}, right{b.as<float>(), transpose_b ? 1 : n, transpose_b ? k : 1};
  const int64_t tiles_n = (n + kTile - 1) / kTile, tiles = (m + kTile - 1) / kTile * tiles_n, most = int64_t(limits(ctx).multiprocessors) * 64;
  launch(ctx, "matmul", matmul_tiles, Launch{tiles < most ? tiles : most, 256}, left, right, c.as<float>(), m, n, k, tiles_n, tiles, accumulate != 0);
}

}  // namespace limbeck::cuda
