// y[r] = Σ x[i] over the i with indices[i] = r, in the order of i: the gradient of picking rows. Rows that nothing names become 0.
#pragma once

namespace limbeck::cpu::LIMBECK_ISA {

void add_rows(Context& ctx, In x, In indices, Out y, Int rows, Int cols, Int count) {
  Faults faults;
  const int32_t* index = indices.as<int32_t>();
  by_dtype(x.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    // A thread owns rows of y and walks all indices: no row is shared, whatever the threads.
    over_rows(rows, cols + count / (rows < 1 ? 1 : rows), [&](Int begin, Int end) {
      memset(static_cast<void*>(y.as<S>() + begin * cols), 0, static_cast<size_t>((end - begin) * cols) * sizeof(S));
      for (Int i = 0; i < count; ++i) {
        if (index[i] < 0 || index[i] >= rows) {
          faults.refuse(i, "indices must be in [0, %lld): index %lld is %d", static_cast<long long>(rows), static_cast<long long>(i), index[i]);
          return;
        }
        if (index[i] < begin || index[i] >= end) continue;
        const S* from = x.as<S>() + i * cols;
        S* to = y.as<S>() + index[i] * cols;
        each<V>(cols, [&](Int c, auto span) LIMBECK_INLINE { span.store(to + c, span.load(to + c, 0) + span.load(from + c, 0)); });
      }
    });
  });
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
