// Σ e^{(x − max)/T} of a row, in one pass: each thread keeps its own maximum, the group agrees on one at the end.
#pragma once
#include "cuda/merge.h"
#include "ops/softmax/math.h"

namespace limbeck::cuda {

using Inverse = InverseTemperature<float>;

// Elements equal to the maximum are counted, the others summed, so that ln Σ near 0 keeps its digits.
struct RowSum {
  float max = -INFINITY, rest = 0, ties = 0;

  LIMBECK_DEVICE void push(const float (&x)[4], const Inverse& inverse) {
    const float top = max_(max_(max_(x[0], x[1]), max_(x[2], x[3])), max);
    if (top > max) {
      if (max > -INFINITY) rest = (rest + ties) * exp_scaled_(max - top, inverse.hi, inverse.lo);
      ties = 0;
      max = top;
    }
    float part[4];
    for (int i = 0; i < 4; i++) {
      // NaN and +inf give NaN; -inf adds nothing, also where nothing else was seen yet.
      const float centred = x[i] - max;
      const float e = exp_scaled_(centred, inverse.hi, inverse.lo);
      part[i] = x[i] == -INFINITY || centred == 0.0f ? 0.0f : e;
      ties += centred == 0.0f ? 1.0f : 0.0f;
    }
    rest += (part[0] + part[1]) + (part[2] + part[3]);
  }

  // This thread's share, brought to the group's maximum.
  LIMBECK_DEVICE void rescale(float top, const Inverse& inverse) {
    if (max == top) return;
    rest = max > -INFINITY ? (rest + ties) * exp_scaled_(max - top, inverse.hi, inverse.lo) : rest;
    ties = 0;
    max = top;
  }

  // 0 for a row of -inf, NaN for one with NaN or +inf.
  LIMBECK_DEVICE float sum() const { return ties + rest; }
  LIMBECK_DEVICE float log_sum() const { return log1p_((ties - 1.0f) + rest); }
  // A row that has a softmax.
  LIMBECK_DEVICE bool valid() const { return ties > 0 && rest == rest; }
};

template <class Group, int n> LIMBECK_DEVICE void merge_rows(Group& group, RowSum (&rows)[n], const Inverse (&inverse)[n]) {
  float top[n];
  for (int i = 0; i < n; i++) top[i] = rows[i].max;
  group.merge(top, Max{}, -INFINITY);
  float sums[2 * n];
  for (int i = 0; i < n; i++) {
    rows[i].rescale(top[i], inverse[i]);
    sums[2 * i] = rows[i].rest;
    sums[2 * i + 1] = rows[i].ties;
  }
  group.merge(sums, Add{}, 0.0f);
  for (int i = 0; i < n; i++) rows[i].rest = sums[2 * i], rows[i].ties = sums[2 * i + 1];
}

template <class Group> LIMBECK_DEVICE void merge_row(Group& group, RowSum& row, const Inverse& inverse) {
  RowSum rows[1] = {row};
  const Inverse inverses[1] = {inverse};
  merge_rows(group, rows, inverses);
  row = rows[0];
}

}  // namespace limbeck::cuda
