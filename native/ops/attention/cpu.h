// Attention on the CPU: a head is one thread's; some queries at a time meet all keys in matrix products whose right side is packed once.
#pragma once
#include "ops/attention/math.h"
#include "ops/matmul/cpu.h"
#include "ops/softmax/row.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <class V> constexpr Int kQueries = 4 * kTileRows<V>;
template <class V> constexpr Int kStripCols = lane<V>::width * kTileVectors;
template <class V> constexpr Int strips_of(Int cols) { return (cols + kStripCols<V> - 1) / kStripCols<V>; }
// Numbers that a packed depth × cols matrix takes.
template <class V> constexpr Int packed_size(Int depth, Int cols) { return strips_of<V>(cols) * kStripCols<V> * depth; }

template <class V, class S> const S* packed_whole(Matrix<const S> b, S* to, Int depth, Int cols) {
  pack_strips<V>(b, to, depth, cols, 0, strips_of<V>(cols));
  return to;
}

// c (+)= a·b for a packed b of `packed_depth` rows, of which the first `depth` count.
template <class V, class S>
void packed_product(Int rows, Int depth, Matrix<const S> a, const S* packed, Int packed_depth, S* c, Int c_row, Int cols, bool add) {
  for (Int strip = 0; strip < strips_of<V>(cols); ++strip) {
    const Int begin = strip * kStripCols<V>, width = cols - begin < kStripCols<V> ? cols - begin : kStripCols<V>;
    matmul_rows<V, S>(rows, depth, a, packed + strip * kStripCols<V> * packed_depth, c + begin, c_row, width, add);
  }
}

template <class V, class S> void attention_head(const Heads& h, const S* q, S* y, S* log_sums, S* room) {
  const Int T = h.tokens, D = h.head_width, line = 3 * h.width();
  const S *k = q + h.width(), *v = k + h.width();
  S *keys = room, *values = keys + packed_size<V>(D, T), *scores = values + packed_size<V>(T, D);
  packed_whole<V, S>({k, 1, line}, keys, D, T);
  packed_whole<V, S>({v, line, 1}, values, T, D);
  const auto scaled = RowExp<V>::of(1 / h.scale);
  for (Int first = 0; first < T; first += kQueries<V>) {
    const Int rows = T - first < kQueries<V> ? T - first : kQueries<V>, most = h.keys(first + rows - 1);
    packed_product<V, S>(rows, D, {q + first * line, line, 1}, keys, D, scores, T, most, false);
    S inverse[kQueries<V>];
    for (Int i = 0; i < rows; ++i) {
      S* row = scores + i * T;
      const Int n = h.keys(first + i);
      const S max = largest<V>(row, n);
      const double sum = exp_row<V>(row, max, scaled, row, n);
      inverse[i] = static_cast<S>(1 / sum);
      log_sums[first + i] = static_cast<S>(static_cast<double>(max) * h.scale + log(sum));
      for (Int j = n; j < most; ++j) row[j] = 0;
    }
    packed_product<V, S>(rows, most, {scores, T, 1}, values, T, y + first * h.width(), h.width(), D, false);
    for (Int i = 0; i < rows; ++i) {
      S* out = y + (first + i) * h.width();
      const V share = splat<V>(inverse[i]);
      each<V>(D, [&](Int d, auto span) LIMBECK_INLINE { span.store(out + d, span.load(out + d, 0) * share); });
    }
  }
}

}  // namespace

void attention(Context& ctx, In qkv, Out y, Out log_sums, Int batch, Int tokens, Int heads, Int head_width, Int causal, Float scale) {
  if (tokens == 0) return;
  Faults faults;
  const Heads h{tokens, heads, head_width, causal != 0, scale};
  by_dtype(qkv.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    const size_t bytes = static_cast<size_t>(packed_size<V>(head_width, tokens) + packed_size<V>(tokens, head_width) + kQueries<V> * tokens) * sizeof(S);
    over_rows(batch * heads, tokens * (tokens + head_width), [&](Int begin, Int end) {
      S* room = static_cast<S*>(scratch(bytes));
      if (!room) return faults.out_of_memory(bytes);
      for (Int task = begin; task < end; ++task)
        attention_head<V, S>(h, qkv.as<S>() + h.query(task), y.as<S>() + h.output(task), log_sums.as<S>() + task * tokens, room);
    });
  });
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
