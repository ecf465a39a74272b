// Numbers added into the columns their indices name, all others 0.
#pragma once
#include "ops/gather_cols/cpu.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <class S> void scatter_cols_loop(Faults& faults, const S* x, const int32_t* indices, S* y, Int rows, Int cols, Int count, Int index_stride) {
  over_rows(rows, cols + count, [&, x, indices, y, cols, count, index_stride](Int begin, Int end) {
    for (Int r = begin; r < end && !faults.beyond(r); ++r) {
      S* row = y + r * cols;
      for (Int c = 0; c < cols; ++c) row[c] = 0;
      // In the order of the indices: the sum of a repeated one has the same bits everywhere.
      for (Int i = 0; i < count; ++i) {
        const int32_t column = indices[r * index_stride + i];
        if (!names_column(faults, r, i, column, cols)) return;
        row[column] += x[r * count + i];
      }
    }
  });
}

}  // namespace

void scatter_cols(Context& ctx, In x, In indices, Out y, Int rows, Int cols, Int count, Int index_stride, Int) {
  Faults faults;
  const int32_t* index = indices.as<int32_t>();
  if (x.dtype == DType::float64) scatter_cols_loop(faults, x.as<double>(), index, y.as<double>(), rows, cols, count, index_stride);
  else scatter_cols_loop(faults, x.as<float>(), index, y.as<float>(), rows, cols, count, index_stride);
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
