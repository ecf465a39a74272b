// The walk over a row of logits: block by block the maximum, exponentials relative to it and their sum, while the next block comes from memory
// and what is left to write of the row before goes there.
#pragma once
#include "ops/softmax/row.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

// Two sides and their exponentials of this many columns fit a core's first cache.
constexpr Int kRowBlock = 2048;
// The first reference of a row is the largest of this many columns.
constexpr Int kGlance = 64;
inline size_t blocks_in(Int cols) { return static_cast<size_t>((cols + kRowBlock - 1) / kRowBlock); }
inline Int block_cols(Int begin, Int cols) { return cols - begin < kRowBlock ? cols - begin : kRowBlock; }

struct RowBlock {
  double reference, sum, scale;  // scale: from the block's reference to the row's maximum
};
struct BlockedRow {
  double max = -INFINITY, min = INFINITY, sum = 0;

  // What the terms of a block are relative to before its maximum is known: the largest so far, or of the first columns.
  template <class V, class S> S reference(const S* x, Int begin, Int n) const { return begin ? static_cast<S>(max) : largest<V>(x, n < kGlance ? n : kGlance); }
  template <class S> void enter(RowBlock& block, const Range<S>& range, S reference) {
    block.reference = static_cast<double>(reference);
    // A block of -inf alone has terms of 0 beside any number.
    const double top = range.max > S(-1e30) ? static_cast<double>(range.max) : -1e30;
    max = top > max ? top : max;
    min = static_cast<double>(range.min) < min ? static_cast<double>(range.min) : min;
  }
  // Relative to its own maximum.
  template <class S> void enter(RowBlock& block, const Range<S>& range) { enter(block, range, range.max > S(-1e30) ? range.max : S(-1e30)); }
  void leave(RowBlock& block, double block_sum, double temperature) {
    block.scale = block.reference == max ? 1 : exp((block.reference - max) / temperature);
    block.sum = block_sum * block.scale;
    sum += block.sum;
  }
};

template <class V, int N> struct Outflow;

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
  // Whether N terms of the block may go out among other stores, vector by vector.
  template <int N> bool flows(Int begin) const { return to && streams && terms == N && reinterpret_cast<uintptr_t>(to + begin) % 64 == 0; }
  void write(Int begin, Int from = 0) const {
    if (!to) return;
    if (terms == 1) put<1>(begin, from);
    else if (terms == 2) put<2>(begin, from);
    else put<3>(begin, from);
  }
  void finish() {
    for (Int begin = 0; to && begin < cols; begin += kRowBlock) write(begin);
    drop();
  }

 private:
  template <int N> __attribute__((noinline)) void put(Int begin, Int first) const {
    const Outflow<V, N> flow(*this, begin);
    const Int n = block_cols(begin, cols) - first;
    S* out = flow.to + first;
    if (streams && reinterpret_cast<uintptr_t>(out) % 64 == 0) {
      each<V>(n, [&](Int i, auto span) LIMBECK_INLINE { span.stream(out + i, flow.value(first + i, span)); });
    } else {
      S* near = streams ? stage : out;
      each<V>(n, [&](Int i, auto span) LIMBECK_INLINE { span.store(near + i, flow.value(first + i, span)); });
      if (streams) stream_row<V>(out, stage, n);
    }
  }
};

// What waits, of one block and N terms.
template <class V, int N> struct Outflow {
  using S = typename lane<V>::scalar;
  S* to;
  const S* from[N];
  V on[N], offset;

  Outflow(const Waiting<V>& waiting, Int begin) : to(waiting.to + begin), offset(spread<V>(waiting.offset)) {
    for (int k = 0; k < N; ++k) {
      from[k] = waiting.from[k] + begin;
      on[k] = spread<V>(waiting.factors[begin / kRowBlock].on[k]);
    }
  }
  template <class Span> LIMBECK_FN V value(Int i, Span span) const {
    V sum = fma_(span.load(from[0] + i, 0), on[0], offset);
    for (int k = 1; k < N; ++k) sum = fma_(span.load(from[k] + i, 0), on[k], sum);
    return sum;
  }
};
template <class V> struct Outflow<V, 0> {};

// Whole vectors of a block against a reference, while the next block is fetched and what waits goes out. Good if the range that was met is.
template <class V, int waiting, class S>
LIMBECK_FN double near_terms(const S* x, S* e, Int n, V reference, const RowExp<V>& exponential, Range<S>& range, const Outflow<V, waiting>& before) {
  constexpr Int W = lane<V>::width;
  V sum[2] = {splat<V>(0), splat<V>(0)}, max = reference, min = reference;
  const auto step = [&](Int i, V& part) LIMBECK_INLINE {
    fetch(x + i, kRowBlock * static_cast<Int>(sizeof(S)));
    const V at = vec<V>::load(x + i);
    max = max_(at, max);
    min = min_(at, min);
    const V term = exponential.near(at - reference);
    vec<V>::store(e + i, term);
    part = part + term;
    if constexpr (waiting > 0) vec<V>::stream(before.to + i, before.value(i, Whole<V>{}));
  };
  Int i = 0;
  for (; i + 2 * W <= n; i += 2 * W) {
    step(i, sum[0]);
    step(i + W, sum[1]);
  }
  if (i < n) step(i, sum[0]);
  range.meet(vec<V>::largest(max), -vec<V>::largest(-min));
  return vec<V>::total(sum[0] + sum[1]);
}

// One row; sum is NaN where it has NaN or +inf or is -inf alone.
template <class V, class S> BlockedRow exp_blocks(const S* x, S* e, Int cols, double temperature, const RowExp<V>& scaled, RowBlock* blocks, Waiting<V>& before) {
  constexpr Int W = lane<V>::width;
  const RowExp<V> exponential = scaled;  // a copy that no store can alias
  BlockedRow row;
  bool near = W > 1;
  for (Int begin = 0; begin < cols; begin += kRowBlock) {
    RowBlock& block = blocks[begin / kRowBlock];
    const Int n = block_cols(begin, cols), whole = n / W * W;
    Int written = 0;
    if constexpr (W > 1)
      if (near) {
        const S reference = row.template reference<V>(x, begin, n);
        Range<S> range{reference, reference, true};
        if (before.template flows<1>(begin)) {
          block.sum = near_terms<V, 1>(x + begin, e + begin, whole, splat<V>(reference), exponential, range, Outflow<V, 1>(before, begin));
          written = whole;
        } else {
          block.sum = near_terms<V, 0>(x + begin, e + begin, whole, splat<V>(reference), exponential, range, {});
        }
        if (whole < n) {
          const Range<S> rest = range_of<V>(x + begin + whole, n - whole);
          range.meet(rest.max, rest.min);
          block.sum += exp_row<V>(x + begin + whole, reference, exponential, e + begin + whole, n - whole);
        }
        near = exponential.spares(range.span()) && exponential.reaches(range.max - reference);
        if (near) row.enter(block, range, reference);
      }
    if (!near) {
      const Range<S> range = range_of<V>(x + begin, n);
      row.enter(block, range);
      block.sum = exp_row<V>(x + begin, static_cast<S>(block.reference), exponential, e + begin, n, range.span());
    }
    if (written < n) before.write(begin, written);
  }
  before.drop();
  for (Int begin = 0; begin < cols; begin += kRowBlock) row.leave(blocks[begin / kRowBlock], blocks[begin / kRowBlock].sum, temperature);
  if (row.sum == 0) row.sum = NAN;
  return row;
}

}  // namespace
}  // namespace limbeck::cpu::LIMBECK_ISA
