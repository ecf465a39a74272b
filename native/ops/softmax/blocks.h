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
  double from_gradient;          // of a sparse row: what a gradient is times, to stand among the block's exponentials
};
struct BlockedRow {
  double max = -INFINITY, min = INFINITY, sum = 0;
  double total = NAN;  // of the logits themselves, where it was asked for and the row is an ordinary one
  double left_reference = NAN, left_scale = 1;  // of the block left last

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
  // Blocks share few references.
  void leave(RowBlock& block, double block_sum, double temperature) {
    if (block.reference != left_reference) {
      left_reference = block.reference;
      left_scale = block.reference == max ? 1 : exp((block.reference - max) / temperature);
    }
    block.scale = left_scale;
    block.sum = block_sum * block.scale;
    sum += block.sum;
  }
};

// The entries of a row that is 0 elsewhere, chained by block.
template <class S> struct Listed {
  const int32_t* ids;
  S* values;
  int32_t *next, *first;  // of an entry and of a block; -1: no other
  S* block;               // of kRowBlock zeros: what is written comes from the first cache

  void chain(Int count, Int cols) {
    std::fill_n(first, blocks_in(cols), -1);
    for (Int j = 0; j < count; ++j) {
      int32_t& head = first[static_cast<uint32_t>(ids[j]) / kRowBlock];
      next[j] = head;
      head = static_cast<int32_t>(j);
    }
  }
  const S* enter(Int begin) const {
    for (int32_t j = first[begin / kRowBlock]; j >= 0; j = next[j]) block[ids[j] - begin] = values[j];
    return block;
  }
  void leave(Int begin) const {
    for (int32_t j = first[begin / kRowBlock]; j >= 0; j = next[j]) block[ids[j] - begin] = 0;
  }
};

// What is left to write of a row: up to three arrays, each times a number of the block, and an offset; or a list. It may wait until the next row
// is walked and go out among its reading: memory does both at a time.
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
  bool streams = false;        // past the caches
  Factors* factors = nullptr;  // of each block
  const Listed<S>* listed = nullptr;  // in place of the first array

  void drop() { to = nullptr; }
  template <int N> bool flows() const { return to && streams && terms == N && !listed; }
  bool flows_from_list() const { return to && streams && listed; }
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
  template <int N> void put(Int begin) const;
};

// N terms of a block that waits, to be written vector by vector.
template <class V, int N> struct Outflow {
  using S = typename lane<V>::scalar;
  static constexpr Int W = lane<V>::width;
  S* to;
  const S* from[N];
  V on[N], offset;
  Int n, lead, end;  // from `lead` on whole vectors that start at one of memory's, `end` columns of them
  Int lag = 0;       // columns by which they follow the reading

  // `read`: what is loaded from meanwhile, in the same order. `block`: what the block of a list comes from.
  Outflow(const Waiting<V>& waiting, Int begin, std::initializer_list<const S*> read = {}, const S* block = nullptr)
      : to(waiting.to + begin), offset(spread<V>(waiting.offset)), n(block_cols(begin, waiting.cols)) {
    for (int k = 0; k < N; ++k) {
      from[k] = block ? block : waiting.from[k] + begin;
      on[k] = spread<V>(waiting.factors[begin / kRowBlock].on[k]);
    }
    lead = std::min(n, to_line(to));
    end = (n - lead) / W * W;
    // A store holds up the loads of about the same place of another page that follow it: better to come behind them.
    const auto ahead = [&](const S* at) { return ((reinterpret_cast<uintptr_t>(to + lead) - reinterpret_cast<uintptr_t>(at)) & 4095) < kBehind * sizeof(S); };
    if (std::any_of(read.begin(), read.end(), ahead)) lag = kBehind;
  }
  LIMBECK_FN void step(Int i) const {
    if (static_cast<uint64_t>(i - lag) < static_cast<uint64_t>(end)) put(i - lag);
  }
  // What is left after the steps for i < n: the last to come and what lies beside the vectors.
  void finish() const {
    for (Int i = std::max<Int>(0, n / W * W - lag); i < end; i += W) put(i);
    plainly(0, lead);
    plainly(lead + end, n);
  }
  void plainly(Int begin, Int stop) const {
    each<V>(stop - begin, [&](Int i, auto span) LIMBECK_INLINE { span.store(to + begin + i, value(begin + i, span)); });
  }

 private:
  static constexpr Int kBehind = 64;
  LIMBECK_FN void put(Int i) const { vec<V>::stream(to + lead + i, value(lead + i, Whole<V>{})); }
  template <class Span> LIMBECK_FN V value(Int i, Span span) const {
    V sum = fma_(span.load(from[0] + i, 0), on[0], offset);
    for (int k = 1; k < N; ++k) sum = fma_(span.load(from[k] + i, 0), on[k], sum);
    return sum;
  }
};
template <class V> struct Outflow<V, 0> {
  LIMBECK_FN void step(Int) const {}
  void finish() const {}
};

template <class V> template <int N> __attribute__((noinline)) void Waiting<V>::put(Int begin) const {
  const Outflow<V, N> flow(*this, begin, {}, listed ? listed->enter(begin) : nullptr);
  if (streams) {
    for (Int i = 0; i < flow.end; i += lane<V>::width) flow.step(i);
    flow.finish();
  } else {
    flow.plainly(0, flow.n);
  }
  if (listed) listed->leave(begin);
}

// A maximum far above its reference would not come out as exact as the 1 that it is beside itself: then the block is walked again.
template <class V, class S> bool serves(S reference, const Range<S>& range, const RowExp<V>& exponential) {
  return exponential.bits(static_cast<double>(range.max) - static_cast<double>(reference)) < 4;
}

// What a walk over a block adds up: its terms, and the logits less the reference where they are asked for.
struct NearSums {
  double terms, logits;
};

// A block against a reference, while the next one is fetched and what waits goes out. Good if the range that was met is.
template <class V, bool with_logits, int waiting, class S>
__attribute__((noinline)) NearSums near_terms(const S* x, S* e, Int n, S of, const RowExp<V>& scaled, Range<S>& range, const Outflow<V, waiting>& flow) {
  constexpr Int W = lane<V>::width;
  // Copies that no store can alias. A function of its own: its numbers then have the registers for themselves.
  const RowExp<V> exponential = scaled;
  const Outflow<V, waiting> before = flow;
  const V reference = spread<V>(of);
  V sum[2] = {splat<V>(0), splat<V>(0)}, logits[2] = {splat<V>(0), splat<V>(0)}, max = reference, min = reference;
  const auto step = [&](Int i, auto span, int k) LIMBECK_INLINE {
    fetch(x + i, kRowBlock * static_cast<Int>(sizeof(S)));
    const V at = span.load(x + i, of);
    max = max_(at, max);
    min = min_(at, min);
    const V centred = at - reference, term = exponential.near(centred);
    span.store(e + i, term);
    sum[k] = sum[k] + term;
    if constexpr (with_logits) logits[k] = logits[k] + centred;
    before.step(i);
  };
  Int i = 0;
  for (; i + 2 * W <= n; i += 2 * W) {
    step(i, Whole<V>{}, 0);
    step(i + W, Whole<V>{}, 1);
  }
  if (i + W <= n) {
    step(i, Whole<V>{}, 0);
    i += W;
  }
  // Behind the end is the reference, whose terms of 1 come off the sum.
  const double padding = i < n ? static_cast<double>(W - (n - i)) : 0;
  if (i < n) step(i, Tail<V>{n - i}, 1);
  before.finish();
  range.meet(vec<V>::largest(max), -vec<V>::largest(-min));
  return {vec<V>::total(sum[0] + sum[1]) - padding, with_logits ? vec<V>::total(logits[0] + logits[1]) : 0};
}

// Other work, of which a walk does a step after each block.
struct Aside {
  void (*step)(void*) = nullptr;
  void* of = nullptr;
  void operator()() const {
    if (step) step(of);
  }
};

// One row; sum is NaN where it has NaN or +inf or is -inf alone.
template <class V, bool with_logits = false, class S>
BlockedRow exp_blocks(const S* x, S* e, Int cols, double temperature, const RowExp<V>& exponential, RowBlock* blocks, Waiting<V>& before, Aside aside = {}) {
  constexpr Int W = lane<V>::width;
  BlockedRow row;
  double total = 0;
  bool near = W > 1;
  for (Int begin = 0; begin < cols; begin += kRowBlock) {
    RowBlock& block = blocks[begin / kRowBlock];
    const Int n = block_cols(begin, cols);
    bool good = false, written = false;
    if constexpr (W > 1) {
      S reference = row.template reference<V>(x, begin, n);
      while (near && !good) {
        Range<S> range{reference, reference, true};
        NearSums sums;
        if (!written && before.template flows<1>()) {
          sums = near_terms<V, with_logits>(x + begin, e + begin, n, reference, exponential, range, Outflow<V, 1>(before, begin, {x + begin}));
          written = true;
        } else {
          sums = near_terms<V, with_logits>(x + begin, e + begin, n, reference, exponential, range, Outflow<V, 0>{});
        }
        near = exponential.spares(range.span());
        good = near && serves(reference, range, exponential);
        if (good) {
          row.enter(block, range, reference);
          block.sum = sums.terms;
          total += sums.logits + static_cast<double>(n) * static_cast<double>(reference);
        }
        reference = range.max;
      }
    }
    if (!good) {
      const Range<S> range = range_of<V>(x + begin, n);
      row.enter(block, range);
      block.sum = exp_row<V>(x + begin, static_cast<S>(block.reference), exponential, e + begin, n, range.span());
    }
    if (!written) before.write(begin);
    aside();
  }
  before.drop();
  for (size_t k = 0; k < blocks_in(cols); ++k) row.leave(blocks[k], blocks[k].sum, temperature);
  if (row.sum == 0) row.sum = NAN;
  if (near) row.total = total;
  return row;
}

}  // namespace
}  // namespace limbeck::cpu::LIMBECK_ISA
