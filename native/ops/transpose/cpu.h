// [batch, rows, cols] to [batch, cols, rows], in tiles whose lines stay in the first-level cache.
#pragma once

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

constexpr Int kTransposeTile = 32;

template <class S> void transpose_strip(const S* x, S* y, Int rows, Int cols, Int first, Int last) {
  for (Int c = 0; c < cols; c += kTransposeTile) {
    const Int end = c + kTransposeTile < cols ? c + kTransposeTile : cols;
    for (Int j = c; j < end; ++j)
      for (Int i = first; i < last; ++i) y[j * rows + i] = x[i * cols + j];
  }
}

}  // namespace

void transpose(Context&, In x, Out y, Int batch, Int rows, Int cols) {
  const Int strips = (rows + kTransposeTile - 1) / kTransposeTile;
  by_dtype(x.dtype, [&](auto lanes) {
    using S = typename lane<typename decltype(lanes)::type>::scalar;
    over_rows(batch * strips, kTransposeTile * cols, [&](Int begin, Int end) {
      for (Int task = begin; task < end; ++task) {
        const Int plane = task / strips, first = task % strips * kTransposeTile, last = first + kTransposeTile < rows ? first + kTransposeTile : rows;
        transpose_strip(x.as<S>() + plane * rows * cols, y.as<S>() + plane * rows * cols, rows, cols, first, last);
      }
    });
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
