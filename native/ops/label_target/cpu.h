// Teacher rows that know their label, on the CPU.
#pragma once
#include "ops/label_target/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

// A type of this file's own keeps the sort local to this instruction set.
template <class S> struct Standing {
  S value;
  int32_t column;
  bool operator<(const Standing& other) const { return stands_before_(value, column, other.value, other.column); }
};

template <LabelTarget f, class V, class S> void blend_row(const S* x, S* y, Int cols, Int label, double parameter) {
  each<V>(cols, [&](Int i, auto span) LIMBECK_INLINE { span.store(y + i, off_label_<f>(span.load(x + i, 1), parameter)); });
  y[label] = at_label_<f>(x[label], parameter);
}

// y is a copy of x. The label takes the largest value, the column that had it the label's.
template <class V, class S> void swap_row(const S* x, S* y, Int cols, Int label) {
  const S most = largest<V>(x, cols);
  if (x[label] == most) return;
  // A row of NaN alone has no largest.
  Int top = 0;
  while (top < cols - 1 && x[top] != most) ++top;
  y[label] = x[top];
  y[top] = x[label];
}

// y is a copy of x. The label takes the largest value; all that stood before it take the value of the next.
template <class S> void sort_row(const S* x, S* y, Int cols, Int label, Standing<S>* before) {
  Int count = 0;
  for (Int c = 0; c < cols; ++c)
    if (stands_before_(x[c], c, x[label], label)) before[count++] = {x[c], static_cast<int32_t>(c)};
  if (count == 0) return;
  std::sort(before, before + count);
  y[label] = before[0].value;
  for (Int i = 0; i + 1 < count; ++i) y[before[i].column] = before[i + 1].value;
  y[before[count - 1].column] = x[label];
}

}  // namespace

void label_target(Context& ctx, In x, In labels, Out y, Int rows, Int cols, Int function, Float parameter, Int ignore_index, Int unlabelled_index) {
  Faults faults;
  by_dtype(x.dtype, [&](auto lanes) {
    using V = typename decltype(lanes)::type;
    using S = typename lane<V>::scalar;
    over_rows(rows, cols, [&](Int begin, Int end) {
      Standing<S>* before = nullptr;
      if (LabelTarget(function) == LabelTarget::sort) {
        const size_t bytes = static_cast<size_t>(cols) * sizeof(Standing<S>);
        before = static_cast<Standing<S>*>(scratch(bytes));
        if (!before) return faults.out_of_memory(bytes);
      }
      for (Int r = begin; r < end; ++r) {
        const Int label = labels.as<int32_t>()[r];
        const S* from = x.as<S>() + r * cols;
        S* to = y.as<S>() + r * cols;
        const bool is_labelled = label != ignore_index && label != unlabelled_index;
        if (is_labelled && (label < 0 || label >= cols))
          return faults.refuse(r, "labels must be in [0, %lld): label %lld is %lld", (long long)cols, (long long)r, (long long)label);
        const LabelTarget f = LabelTarget(function);
        if (!is_labelled || f == LabelTarget::swap || f == LabelTarget::sort) memcpy(to, from, static_cast<size_t>(cols) * sizeof(S));
        if (!is_labelled) continue;
        switch (f) {
          case LabelTarget::swap: swap_row<V>(from, to, cols, label); break;
          case LabelTarget::sort: sort_row(from, to, cols, label, before); break;
          case LabelTarget::mix: blend_row<LabelTarget::mix, V>(from, to, cols, label, parameter); break;
          case LabelTarget::enhance: blend_row<LabelTarget::enhance, V>(from, to, cols, label, parameter); break;
        }
      }
    });
  });
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
