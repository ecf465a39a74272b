// Reductions on the CPU: float32 partial results over at most 1024 terms per lane, double above.
#pragma once
#include "ops/reduce/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

// One row to one number.
template <Reduce f, class V, class S> double reduce_row(const S* x, Int cols) {
  constexpr Int W = lane<V>::width;
  double all = reduce_empty_<f, double>();
  for (Int block = 0; block < cols; block += kBlock) {
    const Int end = cols - block < kBlock ? cols : block + kBlock;
    V part[4];
    for (V& p : part) p = reduce_empty_<f, V>();
    Int i = block;
    for (; i + 4 * W <= end; i += 4 * W)
      for (int k = 0; k < 4; ++k) part[k] = reduce_push_<f>(part[k], vec<V>::load(x + i + k * W));
    for (; i + W <= end; i += W) part[0] = reduce_push_<f>(part[0], vec<V>::load(x + i));
    const V merged = reduce_merge_<f>(reduce_merge_<f>(part[0], part[1]), reduce_merge_<f>(part[2], part[3]));
    S lanes[W];
    vec<V>::store(lanes, merged);
    for (Int k = 0; k < W; ++k) all = reduce_merge_<f>(all, static_cast<double>(lanes[k]));
    for (; i < end; ++i) all = reduce_push_<f>(all, static_cast<double>(x[i]));
  }
  return reduce_finish_<f>(all, static_cast<double>(cols));
}

// A block of at most 1024 rows to one row of partial results, for columns [first, last).
template <Reduce f, class V, class S> void reduce_columns(const S* x, S* partial, Int rows, Int cols, Int first, Int last) {
  constexpr Int W = lane<V>::width;
  Int c = first;
  for (; c + 4 * W <= last; c += 4 * W) {
    V part[4];
    for (V& p : part) p = reduce_empty_<f, V>();
    for (Int r = 0; r < rows; ++r)
      for (int k = 0; k < 4; ++k) part[k] = reduce_push_<f>(part[k], vec<V>::load(x + r * cols + c + k * W));
    for (int k = 0; k < 4; ++k) vec<V>::store(partial + c + k * W, part[k]);
  }
  each<V>(last - c, [&](Int i, auto span) LIMBECK_INLINE {
    V part = reduce_empty_<f, V>();
    for (Int r = 0; r < rows; ++r) part = reduce_push_<f>(part, span.load(x + r * cols + c + i, 0));
    span.store(partial + c + i, part);
  });
}

template <Reduce f, class V, class S> void reduce_loop(Context& ctx, const S* x, S* y, Int rows, Int cols, Int axis) {
  if (axis == 1) {
    over_rows(rows, cols, [=](Int begin, Int end) {
      for (Int r = begin; r < end; ++r) y[r] = static_cast<S>(reduce_row<f, V, S>(x + r * cols, cols));
    });
    return;
  }
  if (cols == 0) return;
  constexpr Int kRows = 1024, kCols = 1024;
  const Int row_blocks = (rows + kRows - 1) / kRows, col_blocks = (cols + kCols - 1) / kCols;
  const size_t bytes = static_cast<size_t>(row_blocks * cols) * sizeof(S);
  S* partial = static_cast<S*>(malloc(bytes + 64));
  if (!partial) {
    Faults faults;
    faults.out_of_memory(bytes);
    faults.report(ctx);
    return;
  }
  over_rows(row_blocks * col_blocks, (rows < kRows ? rows : kRows) * (cols < kCols ? cols : kCols), [=](Int begin, Int end) {
    for (Int task = begin; task < end; ++task) {
      const Int first_row = task / col_blocks * kRows, first = task % col_blocks * kCols;
      const Int count = rows - first_row < kRows ? rows - first_row : kRows, last = cols - first < kCols ? cols : first + kCols;
      reduce_columns<f, V, S>(x + first_row * cols, partial + task / col_blocks * cols, count, cols, first, last);
    }
  });
  for (Int c = 0; c < cols; ++c) {
    double all = reduce_empty_<f, double>();
    for (Int b = 0; b < row_blocks; ++b) all = reduce_merge_<f>(all, static_cast<double>(partial[b * cols + c]));
    y[c] = static_cast<S>(reduce_finish_<f>(all, static_cast<double>(rows)));
  }
  free(partial);
}

}  // namespace

void reduce(Context& ctx, In x, Out y, Int rows, Int cols, Int function, Int axis) {
  by_dtype(x.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    switch (Reduce(function)) {
#define LIMBECK_CASE(name) \
  case Reduce::name: return reduce_loop<Reduce::name, V, S>(ctx, x.as<S>(), y.as<S>(), rows, cols, axis);
      LIMBECK_REDUCES(LIMBECK_CASE)
#undef LIMBECK_CASE
    }
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
