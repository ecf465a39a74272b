// The k best of a row, exactly: a stream of ranks against a threshold, the survivors in shared memory, sorted when they fill it.
#pragma once
#include "cuda/merge.h"
#include "cuda/rows.h"
#include "ops/top_k/math.h"

namespace limbeck::cuda {

inline constexpr int kSelectBuffer = 4096;  // ranks in shared memory
inline constexpr int kSelectBatch = 1024;   // the most that one walk over the row finds
inline constexpr int kSelectBlock = 256;
inline constexpr int kSelectTile = 4 * kSelectBlock;  // columns per step

LIMBECK_DEVICE float rank_value(uint64_t rank) {
  const uint32_t key = uint32_t(rank >> 32), bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// Bitonic, best first. n: a power of two. The whole block takes part.
LIMBECK_DEVICE void sort_ranks(const Shared<uint64_t>& ranks, int n) {
  for (int size = 2; size <= n; size <<= 1)
    for (int stride = size >> 1; stride > 0; stride >>= 1) {
      sync_block();
      for (int i = thread_index(); i < n / 2; i += block_size()) {
        const int low = 2 * i - (i & (stride - 1)), high = low + stride;
        const uint64_t a = ranks[low], b = ranks[high];
        if ((a < b) == ((low & size) == 0)) {
          ranks[low] = b;
          ranks[high] = a;
        }
      }
    }
  sync_block();
}

// Finds the `wanted` best ranks below `bound` and leaves them at the front of `ranks`, best first; needs wanted <= kSelectBatch and
// as many columns below the bound. drop(x) gets every element below the bound that is not among them, once; -inf fills its four places.
template <class Drop>
LIMBECK_DEVICE void select_best(const AnyIn& row, int64_t cols, int wanted, uint64_t bound, const Shared<uint64_t>& ranks, const Shared<float>& tile, const Shared<int>& count, Drop drop) {
  const bool aligned = aligned4(row);
  uint64_t threshold = 0;  // the wanted-th best so far: below it nothing can win
  if (thread_index() == 0) count[0] = 0;
  sync_block();
  // Sorts what is there and drops all but the best.
  auto trim = [&]() {
    const int n = count[0];
    int padded = 1;
    while (padded < n) padded <<= 1;
    for (int i = n + thread_index(); i < padded; i += block_size()) ranks[i] = uint64_t(0);
    sort_ranks(ranks, padded);
    for (int i = wanted + thread_index(); i < n; i += block_size()) {
      const uint64_t rank = ranks[i];
      float x[4] = {rank_value(rank), -INFINITY, -INFINITY, -INFINITY};
      drop(x);
    }
    if (n >= wanted) {
      if (wanted > 0) threshold = ranks[wanted - 1];
      if (thread_index() == 0) count[0] = wanted;
    }
    sync_block();
  };
  for (int64_t base = 0; base < cols; base += kSelectTile) {
    const int held = count[0];
    // A row that is not aligned comes through shared memory: neighbours read neighbours, and a thread still gets the same columns.
    if (!aligned)
      for (int i = thread_index(); i < kSelectTile; i += kSelectBlock) tile[i] = base + i < cols ? ld(row, base + i) : 0.0f;
    if (held + kSelectTile > kSelectBuffer) trim();
    else sync_block();
    const int64_t first = base + int64_t(thread_index()) * 4;
    float x[4];
    if (aligned) load_chunk(row, first, cols, true, 0.0f, x);
    else load_chunk(tile, thread_index() * 4, kSelectTile, 0.0f, x);
    for (int i = 0; i < 4; i++) {
      const uint64_t rank = first + i < cols ? top_k_rank_(top_k_key_(x[i]), uint32_t(first + i)) : bound;
      const bool kept = rank < bound && wanted > 0 && rank > threshold;
      if (kept) {
        const int slot = atomic_add(count, 0, 1);
        ranks[slot] = rank;
      }
      if (kept || rank >= bound) x[i] = -INFINITY;
    }
    drop(x);
    sync_block();
  }
  trim();
}

}  // namespace limbeck::cuda
