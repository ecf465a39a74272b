// The gradient of attention on the CPU: the probabilities come back from the scores and their log sums, some queries at a time.
#pragma once
#include "ops/attention/cpu.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <class V> constexpr Int attention_room(Int T, Int D) {
  return 2 * packed_size<V>(D, T) + packed_size<V>(T, D) + 2 * packed_size<V>(kQueries<V>, D) + 2 * kQueries<V> * T;
}

template <class V, class S> void attention_head_backward(const Heads& h, const S* q, const S* y, const S* log_sums, const S* g, S* dq, S* room) {
  const Int T = h.tokens, D = h.head_width, W = h.width(), line = 3 * W;
  const S *k = q + W, *v = k + W;
  S *dk = dq + W, *dv = dk + W;
  S* turned_keys = room;
  S* turned_values = turned_keys + packed_size<V>(D, T);
  S* keys = turned_values + packed_size<V>(D, T);
  S* queries = keys + packed_size<V>(T, D);
  S* upstream = queries + packed_size<V>(kQueries<V>, D);
  S* scores = upstream + packed_size<V>(kQueries<V>, D);
  S* slopes = scores + kQueries<V> * T;
  packed_whole<V, S>({k, 1, line}, turned_keys, D, T);
  packed_whole<V, S>({v, 1, line}, turned_values, D, T);
  packed_whole<V, S>({k, line, 1}, keys, T, D);
  for (Int t = 0; t < T; ++t)
    for (Int d = 0; d < D; ++d) dk[t * line + d] = dv[t * line + d] = 0;
  const V scale = splat<V>(h.scale);
  for (Int first = 0; first < T; first += kQueries<V>) {
    const Int rows = T - first < kQueries<V> ? T - first : kQueries<V>, most = h.keys(first + rows - 1);
    packed_product<V, S>(rows, D, {q + first * line, line, 1}, turned_keys, D, scores, T, most, false);
    packed_product<V, S>(rows, D, {g + first * W, W, 1}, turned_values, D, slopes, T, most, false);
    for (Int i = 0; i < rows; ++i) {
      S *p = scores + i * T, *slope = slopes + i * T;
      const S *out = y + (first + i) * W, *up = g + (first + i) * W;
      const Int n = h.keys(first + i);
      const V delta = splat<V>(sum_each<V, 1>(D, [&](Int d, auto span, V* part) LIMBECK_INLINE {
                                 part[0] = fma_(span.load(out + d, 0), span.load(up + d, 0), part[0]);
                               }).sum[0]);
      const V log_sum = splat<V>(log_sums[first + i]);
      each<V>(n, [&](Int j, auto span) LIMBECK_INLINE {
        const V share = exp_(fma_(span.load(p + j, 0), scale, -log_sum));
        span.store(p + j, share);
        span.store(slope + j, score_gradient_(share, span.load(slope + j, 0), delta, scale));
      });
      for (Int j = n; j < most; ++j) p[j] = slope[j] = 0;
    }
    packed_product<V, S>(rows, most, {slopes, T, 1}, keys, T, dq + first * line, line, D, false);
    packed_whole<V, S>({q + first * line, line, 1}, queries, rows, D);
    packed_product<V, S>(most, rows, {slopes, 1, T}, queries, rows, dk, line, D, true);
    packed_whole<V, S>({g + first * W, W, 1}, upstream, rows, D);
    packed_product<V, S>(most, rows, {scores, 1, T}, upstream, rows, dv, line, D, true);
  }
}

}  // namespace

void attention_backward(Context& ctx, In qkv, In y, In log_sums, In gradient_y, Out gradient_qkv, Int batch, Int tokens, Int heads, Int head_width, Int causal,
                        Float scale) {
  if (tokens == 0) return;
  Faults faults;
  const Heads h{tokens, heads, head_width, causal != 0, scale};
  by_dtype(qkv.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    const size_t bytes = static_cast<size_t>(attention_room<V>(tokens, head_width)) * sizeof(S);
    over_rows(batch * heads, 2 * tokens * (tokens + head_width), [&](Int begin, Int end) {
      S* room = static_cast<S*>(scratch(bytes));
      if (!room) return faults.out_of_memory(bytes);
      for (Int task = begin; task < end; ++task)
        attention_head_backward<V, S>(h, qkv.as<S>() + h.query(task), y.as<S>() + h.output(task), log_sums.as<S>() + task * tokens,
                                      gradient_y.as<S>() + h.output(task), gradient_qkv.as<S>() + h.query(task), room);
    });
  });
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
