// Who works on one row, a warp or a block, and how its threads merge partial results: butterflies of fixed shape, so the same bits every time.
#pragma once
#include "core/lanes.h"
#include "cuda/device.h"

namespace limbeck::cuda {

struct Add {
  template <class T> LIMBECK_DEVICE T operator()(T a, T b) const { return a + b; }
};
struct Max {
  template <class T> LIMBECK_DEVICE T operator()(T a, T b) const { return a > b ? a : b; }
};

// Every lane gets the result: both partners of a step compute the same sum of the same two numbers.
template <class T, class Op> LIMBECK_DEVICE T merge_warp(T v, Op op) {
  for (int step = 16; step > 0; step >>= 1) {
    const T other = shuffle_xor(v, step);
    v = op(v, other);
  }
  return v;
}

// Columns [begin, end) of a row.
struct Run {
  int64_t begin, end;
};

// One warp per row. `most_threads` and `blocks_beside`: what a block is launched with at most, and how many of them are to fit a
// multiprocessor where a kernel needs so many registers that it must say (LIMBECK_BOUNDS_OF). Three blocks of four warps leave a thread 168.
struct WarpGroup {
  static constexpr int most_threads = 128, blocks_beside = 3;
  LIMBECK_DEVICE explicit WarpGroup(const Shared<double>&, int = 1) {}
  static constexpr bool whole_block = false;
  LIMBECK_DEVICE int rank() const { return lane(); }
  LIMBECK_DEVICE int size() const { return 32; }
  LIMBECK_DEVICE int slot() const { return warp(); }  // which of the block's groups
  LIMBECK_DEVICE int64_t first_row() const { return int64_t(block_index()) * (block_size() >> 5) + warp(); }
  LIMBECK_DEVICE int64_t row_step() const { return int64_t(grid_size()) * (block_size() >> 5); }
  LIMBECK_DEVICE void sync(LIMBECK_SITE) const { sync_warp(LIMBECK_AT); }
  template <class T, int n, class Op> LIMBECK_DEVICE void merge(T (&v)[n], Op op, T) {
    for (int i = 0; i < n; i++) v[i] = merge_warp(v[i], op);
  }
  LIMBECK_DEVICE bool any(bool p) { return any_warp(p); }
  // The whole row is its own, and one of its threads speaks for it.
  LIMBECK_DEVICE Run run(int64_t cols, int64_t) const { return {0, cols}; }
  LIMBECK_DEVICE int own_rank() const { return lane(); }
  LIMBECK_DEVICE int own_size() const { return 32; }
  LIMBECK_DEVICE int column(int i) const { return i; }
  LIMBECK_DEVICE int before_column(int column) const { return column; }
  LIMBECK_DEVICE bool leader() const { return lane() == 0; }
  LIMBECK_DEVICE void finish() const {}
};

// Doubles of static shared memory a group needs: two halves used in turn, so that one barrier per merge is enough.
inline constexpr int kScratch = 2 * 4 * 32;

// One block per row. Merges up to four values at a time.
struct BlockGroup {
  Shared<double> scratch;
  int turn = 0;
  LIMBECK_DEVICE explicit BlockGroup(const Shared<double>& scratch) : scratch(scratch) {}
  static constexpr bool whole_block = true;
  LIMBECK_DEVICE int rank() const { return thread_index(); }
  LIMBECK_DEVICE int size() const { return block_size(); }
  LIMBECK_DEVICE int slot() const { return 0; }
  LIMBECK_DEVICE int64_t first_row() const { return block_index(); }
  LIMBECK_DEVICE int64_t row_step() const { return grid_size(); }
  LIMBECK_DEVICE void sync(LIMBECK_SITE) const { sync_block(LIMBECK_AT); }
  template <class T, int n, class Op> LIMBECK_DEVICE void merge(T (&v)[n], Op op, T empty) {
    static_assert(n <= 4 && sizeof(T) <= 8);
    const Shared<T> half = scratch.template slice<T>(turn * 1024, int(1024 / sizeof(T)));
    turn ^= 1;
    for (int i = 0; i < n; i++) {
      v[i] = merge_warp(v[i], op);
      if (lane() == 0) half[i * 32 + warp()] = v[i];
    }
    sync_block();
    for (int i = 0; i < n; i++) {
      T part = empty;
      if (lane() < (block_size() >> 5)) part = half[i * 32 + lane()];
      v[i] = merge_warp(part, op);
    }
  }
  LIMBECK_DEVICE bool any(bool p) { return any_block(p); }
};

// Doubles of static shared memory a ClusterGroup needs: a BlockGroup's, and two mailboxes used in turn.
inline constexpr int kClusterScratch = kScratch + 2 * 4;

// A cluster of blocks per row, each with a run of columns of its own. A cluster of one block is a BlockGroup, and all there is on devices
// without clusters. Where rows are few, `parts` blocks, a power of two, share a run: each has a part of the warps that one block would have, with the same
// columns, and merges go over the same warps in the same order. rank and size are those within the run, own_rank and own_size within the block.
struct ClusterGroup {
  static constexpr int most_threads = 256, blocks_beside = 2;
  BlockGroup block;
  int parts, turn = 0;
  LIMBECK_DEVICE explicit ClusterGroup(const Shared<double>& scratch, int parts = 1) : block(scratch), parts(parts) {}
  static constexpr bool whole_block = true;
  LIMBECK_DEVICE int part() const { return cluster_rank() & (parts - 1); }
  LIMBECK_DEVICE int rank() const { return part() * block_size() + thread_index(); }
  LIMBECK_DEVICE int size() const { return block_size() * parts; }
  LIMBECK_DEVICE int slot() const { return 0; }
  LIMBECK_DEVICE int64_t first_row() const { return block_index() / cluster_size(); }
  LIMBECK_DEVICE int64_t row_step() const { return grid_size() / cluster_size(); }
  LIMBECK_DEVICE void sync(LIMBECK_SITE) const { sync_block(LIMBECK_AT); }
  LIMBECK_DEVICE Run run(int64_t cols, int64_t segment) const {
    const int64_t begin = segment * (cluster_rank() / parts), end = begin + segment;
    return {begin < cols ? begin : cols, end < cols ? end : cols};
  }
  LIMBECK_DEVICE int own_rank() const { return thread_index(); }
  LIMBECK_DEVICE int own_size() const { return block_size(); }
  // The i-th of this block's columns of the run: four neighbours for each of its threads out of the four for each thread of the run.
  LIMBECK_DEVICE int column(int i) const {
    const int span = 4 * block_size();
    return parts == 1 ? i : (i / span * parts + part()) * span + i % span;
  }
  // How many of its columns stand before this one.
  LIMBECK_DEVICE int before_column(int column) const {
    if (parts == 1) return column;
    const int span = 4 * block_size(), rest = column % (span * parts) - part() * span;
    return column / (span * parts) * span + (rest < 0 ? 0 : rest < span ? rest : span);
  }
  LIMBECK_DEVICE bool leader() const { return thread_index() == 0 && cluster_rank() == 0; }
  template <class T, int n, class Op> LIMBECK_DEVICE void merge(T (&v)[n], Op op, T empty) {
    if (parts > 1) return merge_parts(v, op, empty);
    block.merge(v, op, empty);
    if (cluster_size() == 1) return;
    const Shared<T> theirs = exchange(v);
    for (int i = 0; i < n; i++) {
      T part = empty;
      if (lane() < cluster_size()) part = theirs[i];
      v[i] = merge_warp(part, op);
    }
  }
  // Over the warps of each run, then over the runs: as merge() does where each run has one block. A half is filled again two merges later.
  template <class T, int n, class Op> LIMBECK_DEVICE void merge_parts(T (&v)[n], Op op, T empty) {
    static_assert(n <= 4 && sizeof(T) <= 8);
    const Shared<T> half = block.scratch.template slice<T>(block.turn * 1024, int(1024 / sizeof(T)));
    block.turn ^= 1;
    for (int i = 0; i < n; i++) {
      v[i] = merge_warp(v[i], op);
      if (lane() == 0) half[i * 32 + warp()] = v[i];
    }
    sync_cluster();
    const int warps = block_size() >> 5, runs = cluster_size() / parts;
    const bool there = lane() < warps * parts;
    for (int i = 0; i < n; i++) {
      T whole = empty;
      LIMBECK_ROLLED
      for (int r = 0; r < runs; r++) {
        T one = empty;
        if (there) one = map_rank(half, r * parts + lane() / warps)[i * 32 + lane() % warps];
        one = merge_warp(one, op);
        if (lane() == r || runs == 1) whole = one;
      }
      v[i] = runs == 1 ? whole : merge_warp(whole, op);
    }
  }
  // The sum of a number that each block has one of, over the blocks before this one; `all` over all of them.
  template <class T> LIMBECK_DEVICE T before(T v, T& all) {
    all = v;
    if (cluster_size() == 1) return T(0);
    const T values[1] = {v};
    const Shared<T> theirs = exchange(values);
    T part = T(0);
    if (lane() < cluster_size()) part = theirs[0];
    all = merge_warp(part, Add{});
    return merge_warp(lane() < cluster_rank() ? part : T(0), Add{});
  }
  LIMBECK_DEVICE bool any(bool p) {
    const bool here = block.any(p);
    if (cluster_size() == 1) return here;
    float found[1] = {here ? 1.0f : 0.0f};
    merge(found, Max{}, 0.0f);
    return found[0] > 0;
  }
  // Each block's values in its mailbox; gives the one of the block whose rank is this lane's number.
  template <class T, int n> LIMBECK_DEVICE Shared<T> exchange(const T (&v)[n]) {
    // A mailbox is filled again two exchanges later: by then every block has been through the barrier in between.
    const Shared<T> mail = block.scratch.template slice<T>(kScratch * 8 + turn * 32, int(32 / sizeof(T)));
    turn ^= 1;
    if (thread_index() == 0)
      for (int i = 0; i < n; i++) mail[i] = v[i];
    sync_cluster();
    return map_rank(mail, lane() < cluster_size() ? lane() : 0);
  }
  // The others may still look into this block's mailbox.
  LIMBECK_DEVICE void finish() const {
    if (cluster_size() > 1) sync_cluster();
  }
};

// One value.
template <class Group, class T, class Op> LIMBECK_DEVICE T merge_one(Group& group, T v, Op op, T empty) {
  T values[1] = {v};
  group.merge(values, op, empty);
  return values[0];
}

// One load per warp instead of one per thread.
template <class T> LIMBECK_DEVICE T ld_warp(const T* p, int64_t i) {
  T v = T(0);
  if (lane() == 0) v = ld(p, i);
  return shuffle(v, 0);
}

}  // namespace limbeck::cuda
