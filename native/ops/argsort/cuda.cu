// argsort on CUDA: a block per row; runs of 4096 sorted in shared memory, then merged in pairs by searching each entry's place.
#include "cuda/select.h"
#include "cuda/workspace.h"
#include "ops/argsort/math.h"

namespace limbeck::cuda {
namespace {

inline constexpr int kSortRun = 4096, kSortBlock = 512;

// Entries of a run of falling ranks that come before `rank`.
LIMBECK_DEVICE int64_t entries_before(const uint64_t* run, int64_t begin, int64_t end, uint64_t rank) {
  const int64_t first = begin;
  while (begin < end) {
    const int64_t middle = begin + (end - begin) / 2;
    if (ld(run, middle) > rank) begin = middle + 1;
    else end = middle;
  }
  return begin - first;
}

LIMBECK_KERNEL void LIMBECK_BOUNDS(kSortBlock) argsort_rows(const float* x, int32_t* indices, uint64_t* work, int64_t rows, int64_t cols, bool descending) {
  SHARED(uint64_t, ranks, kSortRun);
  const int64_t mine = int64_t(block_index()) * 2 * cols;
  for (int64_t row = block_index(); row < rows; row += grid_size()) {
    const float* x_row = x + row * cols;
    int32_t* out = indices + row * cols;
    for (int64_t base = 0; base < cols; base += kSortRun) {
      const int n = int(cols - base < kSortRun ? cols - base : kSortRun);
      int padded = 1;
      while (padded < n) padded <<= 1;
      // Ranks fall, keys rise. No rank of an entry is 0.
      for (int i = thread_index(); i < padded; i += block_size())
        ranks[i] = i < n ? top_k_rank_(~ordered_key_(ld(x_row, base + i), descending), uint32_t(base + i)) : uint64_t(0);
      sort_ranks(ranks, padded);
      for (int i = thread_index(); i < n; i += block_size()) {
        const uint64_t rank = ranks[i];
        if (cols <= kSortRun) st(out, i, int32_t(top_k_index_(rank)));
        else st(work, mine + base + i, rank);
      }
    }
    if (cols <= kSortRun) continue;
    uint64_t *from = work + mine, *to = from + cols;
    for (int64_t width = kSortRun; width < cols; width *= 2) {
      sync_block();
      for (int64_t i = thread_index(); i < cols; i += block_size()) {
        const uint64_t rank = ld(from, i);
        const int64_t run = i / width, pair = (run & ~int64_t(1)) * width, other = (run ^ 1) * width;
        const int64_t begin = other < cols ? other : cols, end = other + width < cols ? other + width : cols;
        st(to, pair + (i - run * width) + entries_before(from, begin, end, rank), rank);
      }
      uint64_t* const swap = from;
      from = to;
      to = swap;
    }
    sync_block();
    for (int64_t i = thread_index(); i < cols; i += block_size()) st(out, i, int32_t(top_k_index_(ld(from, i))));
  }
}

}  // namespace

void argsort(Context& ctx, In x, Out indices, Int rows, Int cols, Int descending) {
  const int64_t most = int64_t(limits(ctx).multiprocessors) * (cols <= kSortRun ? 16 : 1);
  const int64_t grid = rows < most ? rows : most;
  if (cols == 0 || grid == 0) return;
  Workspace work(ctx, cols <= kSortRun ? 16 : size_t(grid) * size_t(cols) * 16);
  if (!work) return;
  launch(ctx, "argsort", argsort_rows, Launch{grid, kSortBlock}, x.as<float>(), indices.as<int32_t>(), work.as<uint64_t>(), rows, cols, descending != 0);
}

}  // namespace limbeck::cuda
