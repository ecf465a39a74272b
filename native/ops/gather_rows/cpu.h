// Rows of x picked by index.
#pragma once

namespace limbeck::cpu::LIMBECK_ISA {

void gather_rows(Context& ctx, In x, In indices, Out y, Int rows, Int cols, Int count) {
  Faults faults;
  const Int bytes = cols * kDTypeBytes[int(x.dtype)];
  const int32_t* index = indices.as<int32_t>();
  over_rows(count, cols, [&](Int begin, Int end) {
    for (Int i = begin; i < end; ++i) {
      if (index[i] < 0 || index[i] >= rows) {
        faults.refuse(i, "indices must be in [0, %lld): index %lld is %d", static_cast<long long>(rows), static_cast<long long>(i), index[i]);
        return;
      }
      if (bytes) memcpy(y.as<char>() + i * bytes, x.as<char>() + index[i] * bytes, static_cast<size_t>(bytes));
    }
  });
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
