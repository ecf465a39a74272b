// Columns of each row of x picked by index.
#pragma once

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

bool names_column(Faults& faults, Int row, Int i, int32_t column, Int cols) {
  if (column >= 0 && column < cols) return true;
  faults.refuse(row, "indices must be in [0, %lld): index %lld of row %lld is %d", static_cast<long long>(cols), static_cast<long long>(i),
                static_cast<long long>(row), column);
  return false;
}

template <class S> void gather_cols_loop(Faults& faults, const S* x, const int32_t* indices, S* y, Int rows, Int cols, Int count, Int index_stride) {
  over_rows(rows, count, [&, x, indices, y, cols, count, index_stride](Int begin, Int end) {
    for (Int r = begin; r < end && !faults.beyond(r); ++r)
      for (Int i = 0; i < count; ++i) {
        const int32_t column = indices[r * index_stride + i];
        if (!names_column(faults, r, i, column, cols)) return;
        y[r * count + i] = x[r * cols + column];
      }
  });
}

}  // namespace

void gather_cols(Context& ctx, In x, In indices, Out y, Int rows, Int cols, Int count, Int index_stride) {
  Faults faults;
  const int32_t* index = indices.as<int32_t>();
  if (x.dtype == DType::float64) gather_cols_loop(faults, x.as<double>(), index, y.as<double>(), rows, cols, count, index_stride);
  else gather_cols_loop(faults, x.as<uint32_t>(), index, y.as<uint32_t>(), rows, cols, count, index_stride);
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
