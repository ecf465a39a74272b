// The walk over a row of logits: block by block the maximum, exponentials relative to it and their sum, while the next block comes from memory
// and what is left to write of the row before goes there.
#pragma once
#include "ops/softmax/row.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

// Two sides and their exponentials of this many columns fit a core's first cache.
constexpr Int kRowBlock = 2048;
inline size_t blocks_in(Int cols) { return static_cast<size_t>((cols + kRowBlock - 1) / kRowBlock); }
inline Int block_cols(Int begin, Int cols) { return cols - begin < kRowBlock ? cols - begin : kRowBlock; }

struct RowBlock {
  double max, sum, scale;  // scale: from the block's maximum to the row's
};
struct BlockedRow {
  double max = -INFINITY, min = INFINITY, sum = 0;

  template <class S> void enter(RowBlock& block, const Range<S>& range) {
    // A block of -inf alone has terms of 0 beside any number.
    block.max = range.max > S(-1e30) ? static_cast<double>(range.max) : -1e30;
    max = block.max > max ? block.max : max;
    min = static_cast<double>(range.min) < min ? static_cast<double>(range.min) : min;
  }
  void leave(RowBlock& block, double block_sum, double temperature) {
    block.scale = block.max == max ? 1 : exp((block.max - max) / temperature);
    block.sum = block_sum * block.scale;
    sum += block.sum;
  }
};

// What is left to write of a row: up to three arrays, each times a number of the block, and an offset. It may wait until the next row is walked
// and go out block by block among its reading: memory does both at a time.
template <class V> struct Waiting {
  using S = typename lane<V>::scalar;
  struct Factors {
    S on[3];
  };

  S* to = nullptr;  // null: nothing waits
  const S* from[3];
  int terms = 0;
  S offset = 0;
  Int cols = 0;
  bool streams = false;         // past the caches
  Factors* factors = nullptr;   // of each block
  S* stage = nullptr;           // a block on its way past the caches to an address that is not a vector's

  void drop() { to = nullptr; }
  void write(Int begin) const {
    if (!to) return;
    if (terms == 1) put<1>(begin);
    else if (terms == 2) put<2>(begin);
    else put<3>(begin);
  }
  void finish() {
    for (Int begin = 0; to && begin < cols; begin += kRowBlock) write(begin);
    drop();
  }

 private:
  template <int N> __attribute__((noinline)) void put(Int begin) const {
    const Int n = block_cols(begin, cols);
    const Factors& factor = factors[begin / kRowBlock];
    V on[N];
    const S* at[N];
    for (int k = 0; k < N; ++k) {
      on[k] = spread<V>(factor.on[k]);
      at[k] = from[k] + begin;
    }
    const V off = spread<V>(offset);
    const auto value = [&](Int i, auto span) LIMBECK_INLINE {
      V sum = fma_(span.load(at[0] + i, 0), on[0], off);
      for (int k = 1; k < N; ++k) sum = fma_(span.load(at[k] + i, 0), on[k], sum);
      return sum;
    };
    S* out = to + begin;
    if (streams && reinterpret_cast<uintptr_t>(out) % 64 == 0) {
      each<V>(n, [&](Int i, auto span) LIMBECK_INLINE { span.stream(out + i, value(i, span)); });
    } else {
      S* near = streams ? stage : out;
      each<V>(n, [&](Int i, auto span) LIMBECK_INLINE { span.store(near + i, value(i, span)); });
      if (streams) stream_row<V>(out, stage, n);
    }
  }
};

// One row; sum is NaN where it has NaN or +inf or is -inf alone. `next`: from it to the row after it, 0 where there is none.
template <class V, class S>
BlockedRow exp_blocks(const S* x, S* e, Int cols, double temperature, const RowExp<V>& exponential, RowBlock* blocks, Waiting<V>& before, Int next) {
  BlockedRow row;
  for (Int begin = 0; begin < cols; begin += kRowBlock) {
    RowBlock& block = blocks[begin / kRowBlock];
    const Int n = block_cols(begin, cols);
    const Range<S> range = range_of<V>(x + begin, n);
    row.enter(block, range);
    block.sum = exp_row<V>(x + begin, static_cast<S>(block.max), exponential, e + begin, n, range.span(), begin + kRowBlock < cols ? kRowBlock : next ? next - begin : 0);
    before.write(begin);
  }
  before.drop();
  for (Int begin = 0; begin < cols; begin += kRowBlock) row.leave(blocks[begin / kRowBlock], blocks[begin / kRowBlock].sum, temperature);
  if (row.sum == 0) row.sum = NAN;
  return row;
}

}  // namespace
}  // namespace limbeck::cpu::LIMBECK_ISA
