// Σ e^{(x − max)/T} of a row, in one pass: each thread keeps its own maximum, the group agrees on one at the end.
#pragma once
#include "cuda/merge.h"
#include "ops/softmax/math.h"

namespace limbeck::cuda {

using Inverse = InverseTemperature<float>;

// Elements equal to the maximum are counted, the others summed, so that ln Σ near 0 keeps its digits. With S = double the sum can
// also be taken in double: where a loss is a difference of logarithms that nearly cancel, as with a truncated target.
template <class S> struct RowSumOf {
  float max = -INFINITY, ties = 0;
  S rest = 0;

  // NaN and +inf give NaN; -inf adds nothing, also where nothing else was seen yet.
  LIMBECK_DEVICE void push(const float (&x)[4], const Inverse& inverse) {
    raise(max_(max_(max_(x[0], x[1]), max_(x[2], x[3])), max), inverse);
    // Nothing seen yet: the lowest number in the maximum's place, from which -inf is still -inf away.
    const float top = max_(max, -3.402823466e38f);
    float part[4];
    for (int i = 0; i < 4; i++) {
      const float centred = x[i] - top, e = exp_of_(centred, inverse.hi);
      part[i] = centred == 0.0f ? 0.0f : e;
      ties += centred == 0.0f ? 1.0f : 0.0f;
    }
    rest += S((part[0] + part[1]) + (part[2] + part[3]));
  }

  // As push, but every exponential that can be seen in the sum is taken in double.
  LIMBECK_DEVICE void push_exact(const float (&x)[4], double inverse) {
    const float top = max_(max_(max_(x[0], x[1]), max_(x[2], x[3])), max);
    if (top > max) {
      if (max > -INFINITY) rest = (rest + ties) * exp_((double(max) - double(top)) * inverse);
      ties = 0;
      max = top;
    }
    for (int i = 0; i < 4; i++) {
      const double centred = (double(x[i]) - double(max)) * inverse;
      if (x[i] == max) ties += x[i] - x[i] == 0.0f ? 1.0f : 0.0f;
      if (x[i] != -INFINITY && !(x[i] == max && x[i] - x[i] == 0.0f)) rest += centred < -12 ? S(exp_(float(centred))) : S(exp_(centred));
    }
  }

  // This thread's share, brought to the group's maximum.
  LIMBECK_DEVICE void raise(float top, const Inverse& inverse) {
    if (!(top > max)) return;
    if (max > -INFINITY) rest = (rest + S(ties)) * scale(max - top, inverse);
    ties = 0;
    max = top;
  }

  // 0 for a row of -inf, NaN for one with NaN or +inf.
  LIMBECK_DEVICE float sum() const { return ties + float(rest); }
  LIMBECK_DEVICE float log_sum() const { return log1p_((ties - 1.0f) + float(rest)); }
  // A row that has a softmax.
  LIMBECK_DEVICE bool valid() const { return ties > 0 && rest == rest; }

 private:
  LIMBECK_DEVICE static S scale(float centred, const Inverse& inverse) {
    if constexpr (sizeof(S) == 8) return exp_(double(centred) * (double(inverse.hi) + double(inverse.lo)));
    else return exp_scaled_(centred, inverse.hi, inverse.lo);
  }
};

using RowSum = RowSumOf<float>;

template <class Group, class S, int n> LIMBECK_DEVICE void merge_rows(Group& group, RowSumOf<S> (&rows)[n], const Inverse (&inverse)[n]) {
  float top[n];
  for (int i = 0; i < n; i++) top[i] = rows[i].max;
  group.merge(top, Max{}, -INFINITY);
  S sums[2 * n];
  for (int i = 0; i < n; i++) {
    rows[i].raise(top[i], inverse[i]);
    sums[2 * i] = rows[i].rest;
    sums[2 * i + 1] = S(rows[i].ties);
  }
  group.merge(sums, Add{}, S(0));
  for (int i = 0; i < n; i++) rows[i].rest = sums[2 * i], rows[i].ties = float(sums[2 * i + 1]);
}

template <class Group, class S> LIMBECK_DEVICE void merge_row(Group& group, RowSumOf<S>& row, const Inverse& inverse) {
  RowSumOf<S> rows[1] = {row};
  const Inverse inverses[1] = {inverse};
  merge_rows(group, rows, inverses);
  row = rows[0];
}

}  // namespace limbeck::cuda
