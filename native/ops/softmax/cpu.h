// softmax and log softmax on the CPU: exponentials block by block, then one scaling, which goes to memory while the next row comes from it.
#pragma once
#include "ops/softmax/blocks.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <class V, class S> void log_softmax_row(const S* x, S* y, Int cols, double temperature) {
  const S max = largest<V>(x, cols);
  const auto inverse = InverseTemperature<S>::of(temperature);
  const V log_sum = splat<V>(log(exp_row<V>(x, max, RowExp<V>::of(temperature), static_cast<S*>(nullptr), cols)));
  const V m = splat<V>(max), hi = splat<V>(inverse.hi), lo = splat<V>(inverse.lo);
  each<V>(cols, [&](Int i, auto span) LIMBECK_INLINE { span.store(y + i, log_softmax_(span.load(x + i, 0), m, hi, lo, log_sum)); });
}

// Working memory of one thread. A row of S has room for the numbers of its blocks.
template <class V> struct SoftmaxScratch {
  using S = typename lane<V>::scalar;
  static constexpr Int kRows = 6;
  S *student, *out, *e, *waiting_e;
  RowBlock* blocks;
  typename Waiting<V>::Factors* factors;

  explicit SoftmaxScratch(const RowRoom<S>& room)
      : student(room.row(0)), out(room.row(1)), e(room.row(2)), waiting_e(room.row(3)), blocks(reinterpret_cast<RowBlock*>(room.row(4))),
        factors(reinterpret_cast<typename Waiting<V>::Factors*>(room.row(5))) {}
};

}  // namespace

void softmax(Context& ctx, In x, In row_temperature, Out y, Int rows, Int cols, Float temperature, Int is_log) {
  Faults faults;
  by_dtype(x.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    const bool streams = sizeof(S) == 4 && !is_half(y.dtype) && static_cast<size_t>(rows) * static_cast<size_t>(cols) * sizeof(S) > last_cache() / 4;
    over_row_pieces(rows, cols, [&](Pieces& pieces) {
      const RowRoom<S> room(faults, cols, SoftmaxScratch<V>::kRows);
      if (!room) return;
      SoftmaxScratch<V> memory(room);
      Waiting<V> waiting;
      const auto take = [&](Int r) {
        const double t = temperature_of(faults, row_temperature, temperature, r);
        if (!(t == t)) return;
        const S* from = widened<V>(x, r * cols, cols, memory.student);
        S* to = is_half(y.dtype) ? memory.out : y.as<S>() + r * cols;
        if (is_log) {
          log_softmax_row<V>(from, to, cols, t);
        } else {
          // What is taken again is read again: not where it was written over.
          S* e = streams || from == to ? memory.e : to;
          const BlockedRow row = exp_blocks<V>(from, e, cols, t, RowExp<V>::of(t), memory.blocks, waiting);
          for (size_t k = 0; k < blocks_in(cols); ++k) memory.factors[k].on[0] = static_cast<S>(memory.blocks[k].scale / row.sum);
          waiting = {to, {e}, 1, 0, cols, streams, memory.factors};
          if (streams) std::swap(memory.e, memory.waiting_e);
          else waiting.finish();
        }
        if (is_half(y.dtype)) narrowed<V>(to, y, r * cols, cols);
      };
      for (Int begin, end; pieces.next(begin, end);)
        for (Int r = begin; r < end && !faults.beyond(r); ++r) take(r);
      waiting.finish();
      if (streams) stream_fence();
    });
  });
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
