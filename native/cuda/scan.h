// Running results along a row: each thread joins four neighbours, the group scans the threads' stretches, a carry goes from tile to tile.
#pragma once
#include "cuda/merge.h"
#include "cuda/rows.h"

namespace limbeck::cuda {

// Two numbers, as any stretch of a scan is described here; the type between warps.
struct Stretch {
  double a, b;
};

LIMBECK_DEVICE Stretch shuffle_stretch(const Stretch& s, int source) { return {shuffle(s.a, source), shuffle(s.b, source)}; }

// What comes before this lane in the warp, and the whole warp.
template <class Op> LIMBECK_DEVICE Stretch scan_warp(Op op, const Stretch& mine, Stretch& whole) {
  Stretch all = mine;
  for (int step = 1; step < 32; step <<= 1) {
    const Stretch other{shuffle_up(all.a, step), shuffle_up(all.b, step)};
    if (lane() >= step) all = op.join(other, all);
  }
  whole = shuffle_stretch(all, 31);
  const Stretch before{shuffle_up(all.a, 1), shuffle_up(all.b, 1)};
  return lane() == 0 ? op.empty() : before;
}

// `turn` alternates between two halves of the scratch memory, so that one barrier per tile is enough.
template <class Group, class Op> LIMBECK_DEVICE Stretch scan_group(Group& group, const Shared<double>& scratch, int turn, Op op, const Stretch& mine, Stretch& whole) {
  const Stretch before = scan_warp(op, mine, whole);
  if constexpr (Group::whole_block) {
    const int half = turn * 64;
    if (lane() == 0) {
      scratch[half + 2 * warp()] = whole.a;
      scratch[half + 2 * warp() + 1] = whole.b;
    }
    group.sync();
    Stretch part = op.empty();
    if (lane() < (block_size() >> 5)) part = Stretch{scratch[half + 2 * lane()], scratch[half + 2 * lane() + 1]};
    const Stretch warps = scan_warp(op, part, whole);
    return op.join(shuffle_stretch(warps, warp()), before);
  }
  return before;
}

// op: empty(), join(earlier, later), load(position) of an element, finish(position, before) with all that came before it.
template <class Group, class Op> LIMBECK_DEVICE void scan_row(Group& group, const Shared<double>& scratch, int& turn, int64_t cols, Op op) {
  Stretch carry = op.empty();
  for (int64_t base = 0; base < cols; base += int64_t(group.size()) * 4) {
    const int64_t first = base + int64_t(group.rank()) * 4;
    Stretch each[4], mine = op.empty(), whole;
    for (int i = 0; i < 4; i++) {
      each[i] = first + i < cols ? op.load(first + i) : op.empty();
      mine = op.join(mine, each[i]);
    }
    Stretch before = op.join(carry, scan_group(group, scratch, turn, op, mine, whole));
    turn ^= 1;
    for (int i = 0; i < 4; i++) {
      if (first + i < cols) op.finish(first + i, before);
      before = op.join(before, each[i]);
    }
    carry = op.join(carry, whole);
  }
}

}  // namespace limbeck::cuda
