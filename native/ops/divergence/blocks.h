// Walks over the rows of student and teacher side by side: block by block exponentials, their sums and extremes,
// while the next block comes from memory and the gradient of the row before goes there.
#pragma once
#include "ops/divergence/far.h"
#include "ops/softmax/blocks.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

// Third array: e·gap or √(e·e) of an outcome.
constexpr unsigned kThird = kSumQD | kSumRoot;
constexpr int kMostSums = 8;
// Arrays that a row's gradient is a sum of.
constexpr bool has_second(unsigned needs) { return (needs & kFromOutcomes) || !(needs & kThird) || (needs & kSumPD); }
template <unsigned needs> constexpr int kTerms = 1 + has_second(needs) + ((needs & kThird) != 0);

struct PairBlock {
  RowBlock student, teacher;
  double shift;  // what the gap of the centred logits is more in the row than in the block
  double sums[kMostSums];
};

struct Pair {
  BlockedRow student, teacher;
  bool finite = true, near = true;
  double log_ratio = 0;  // ln Σ of the teacher less that of the student
  double p_gap = 0, p_size = 0, q_gap = 0, q_size = 0, p_centred = 0, root = 0;

  // Probabilities and their ratios are ordinary numbers.
  template <class V> bool is_narrow(const RowExp<V>& exponential) const {
    return near && exponential.bits(student.max - student.min) < 100 && exponential.bits(teacher.max - teacher.min) < 100;
  }
};

// A row none of whose terms is wanted is only read: sum is 0, or NaN where it has NaN or +inf.
template <class V, class S> BlockedRow no_exponentials(const S* x, Int cols, Waiting<V>& before, Aside aside) {
  const V zero = splat<V>(0), infinity = splat<V>(INFINITY);
  BlockedRow row;
  for (Int begin = 0; begin < cols; begin += kRowBlock) {
    const auto walk = [&](const auto& flow) LIMBECK_INLINE {
      row.sum += sum_each<V, 1>(block_cols(begin, cols), [&](Int i, auto span, V* part) LIMBECK_INLINE {
                   fetch(x + begin + i, kRowBlock * static_cast<Int>(sizeof(S)));
                   const V v = span.load(x + begin + i, 0);
                   part[0] = part[0] + select_(lt_(v, infinity), zero, v);
                   flow.step(i);
                 }).sum[0];
      flow.finish();
    };
    if (before.flows_from_list()) {
      walk(Outflow<V, 1>(before, begin, {x + begin}, before.listed->enter(begin)));
      before.listed->leave(begin);
    } else {
      walk(Outflow<V, 0>{});
      before.write(begin);
    }
    aside();
  }
  before.drop();
  if (!(row.sum == 0)) row.sum = NAN;
  return row;
}

// Brings the terms of all blocks to the row's maximum.
template <class V, class S> void level(S* e, Int cols, RowBlock* blocks) {
  for (Int begin = 0; begin < cols; begin += kRowBlock) {
    RowBlock& block = blocks[begin / kRowBlock];
    if (block.scale == 1) continue;
    const V scale = splat<V>(block.scale);
    S* at = e + begin;
    each<V>(block_cols(begin, cols), [&](Int i, auto span) LIMBECK_INLINE { span.store(at + i, span.load(at + i, 0) * scale); });
    block.scale = 1;
  }
}

template <class S> struct Exponentials {
  S *student, *teacher, *third;
};

// A block against references, while the next one is fetched and what waits goes out. Good if the ranges that were met are.
// sums: Σ of the student, of the teacher, and what `needs` says in its order.
template <class V, unsigned needs, int waiting, class S>
LIMBECK_FN void near_block(const S* x, const S* t, const Exponentials<S>& to, Int n, S x_reference, S t_reference, const RowExp<V>& exponential, double* sums,
                           Range<S>& range_x, Range<S>& range_t, const Outflow<V, waiting>& before) {
  constexpr Int W = lane<V>::width;
  constexpr bool used[kMostSums] = {true, true, (needs & kSumPD) != 0, (needs & kSumPD) != 0, (needs & kSumQD) != 0, (needs & kSumQD) != 0, (needs & kSumPLogQ) != 0, (needs & kSumRoot) != 0};
  const V x_ref = spread<V>(x_reference), t_ref = spread<V>(t_reference);
  V part[2][kMostSums];
  for (int k = 0; k < kMostSums; ++k) part[0][k] = part[1][k] = splat<V>(0);
  V x_max = x_ref, x_min = x_ref, t_max = t_ref, t_min = t_ref;
  const auto step = [&](Int i, auto span, V* sum) LIMBECK_INLINE {
    fetch(x + i, kRowBlock * static_cast<Int>(sizeof(S)));
    fetch(t + i, kRowBlock * static_cast<Int>(sizeof(S)));
    const V xs = span.load(x + i, x_reference), ts = span.load(t + i, t_reference);
    x_max = max_(xs, x_max);
    x_min = min_(xs, x_min);
    t_max = max_(ts, t_max);
    t_min = min_(ts, t_min);
    const V zs = xs - x_ref, zt = ts - t_ref;
    const V q = exponential.nearly(zs), p = exponential.nearly(zt);
    [[maybe_unused]] const V gap = zs - zt;
    span.store(to.student + i, q);
    span.store(to.teacher + i, p);
    sum[0] = sum[0] + q;
    sum[1] = sum[1] + p;
    if constexpr (used[2]) {
      sum[2] = fma_(p, gap, sum[2]);
      sum[3] = fma_(p, abs_(gap), sum[3]);
    }
    if constexpr (used[4]) {
      const V product = q * gap;
      sum[4] = sum[4] + product;
      sum[5] = sum[5] + abs_(product);
      span.store(to.third + i, product);
    }
    if constexpr (used[6]) sum[6] = fma_(p, zs, sum[6]);
    if constexpr (used[7]) {
      const V root = sqrt_(q * p);
      sum[7] = sum[7] + root;
      span.store(to.third + i, root);
    }
    before.step(i);
  };
  Int i = 0;
  for (; i + 2 * W <= n; i += 2 * W) {
    step(i, Whole<V>{}, part[0]);
    step(i + W, Whole<V>{}, part[1]);
  }
  if (i + W <= n) {
    step(i, Whole<V>{}, part[0]);
    i += W;
  }
  // Behind the end are the references, whose terms of 1 come off the sums.
  const double padding = i < n ? static_cast<double>(W - (n - i)) : 0;
  if (i < n) step(i, Tail<V>{n - i}, part[1]);
  before.finish();
  for (int k = 0; k < kMostSums; ++k) sums[k] = used[k] ? vec<V>::total(part[0][k] + part[1][k]) - (k < 2 || k == 7 ? padding : 0) : 0;
  range_x.meet(vec<V>::largest(x_max), -vec<V>::largest(-x_min));
  range_t.meet(vec<V>::largest(t_max), -vec<V>::largest(-t_min));
}

// Sums are NaN for a row with NaN or +inf or of -inf alone.
template <class V, unsigned needs, class S>
Pair exp_pair(const S* x, const S* t, const Exponentials<S>& to, Int cols, double temperature, const RowExp<V>& scaled, PairBlock* blocks, Waiting<V>& before) {
  const RowExp<V> exponential = scaled;  // a copy that no store can alias
  Pair row;
  for (Int begin = 0; begin < cols; begin += kRowBlock) {
    const Int n = block_cols(begin, cols);
    PairBlock& block = blocks[begin / kRowBlock];
    const S *from_x = x + begin, *from_t = t + begin;
    const Exponentials<S> at{to.student + begin, to.teacher + begin, to.third + begin};
    bool good = false, written = false;
    S x_ref = row.student.template reference<V>(x, begin, n), t_ref = row.teacher.template reference<V>(t, begin, n);
    while (row.near && !good) {
      Range<S> range_x{x_ref, x_ref, true}, range_t{t_ref, t_ref, true};
      const auto walk = [&](const auto& flow) {
        near_block<V, needs>(from_x, from_t, at, n, x_ref, t_ref, exponential, block.sums, range_x, range_t, flow);
      };
      if (!written && before.template flows<kTerms<needs>>()) {
        walk(Outflow<V, kTerms<needs>>(before, begin, {from_x, from_t}));
        written = true;
      } else {
        walk(Outflow<V, 0>{});
      }
      // Under a root the two meet in a product.
      const double x_span = range_x.span(), t_span = range_t.span();
      row.near = exponential.spares(needs & kSumRoot ? x_span + t_span : std::max(x_span, t_span));
      good = row.near && serves(x_ref, range_x, exponential) && serves(t_ref, range_t, exponential);
      if (good) {
        row.student.enter(block.student, range_x, x_ref);
        row.teacher.enter(block.teacher, range_t, t_ref);
      }
      x_ref = range_x.max;
      t_ref = range_t.max;
    }
    if (!good) {
      const Range<S> range_x = range_of<V>(from_x, n), range_t = range_of<V>(from_t, n);
      row.finite = row.finite && range_x.finite && range_t.finite;
      row.student.enter(block.student, range_x);
      row.teacher.enter(block.teacher, range_t);
      block.sums[0] = exp_row<V>(from_x, static_cast<S>(block.student.reference), exponential, at.student, n, range_x.span());
      block.sums[1] = exp_row<V>(from_t, static_cast<S>(block.teacher.reference), exponential, at.teacher, n, range_t.span());
    }
    if (!written) before.write(begin);
  }
  before.drop();
  for (Int begin = 0; begin < cols; begin += kRowBlock) {
    PairBlock& block = blocks[begin / kRowBlock];
    const double* sums = block.sums;
    row.student.leave(block.student, sums[0], temperature);
    row.teacher.leave(block.teacher, sums[1], temperature);
    if (!row.near) continue;
    const double q = block.student.scale, p = block.teacher.scale;
    block.shift = (block.student.reference - row.student.max) - (block.teacher.reference - row.teacher.max);
    row.p_gap += p * sums[2] + block.shift * block.teacher.sum;
    row.p_size += p * sums[3] + fabs(block.shift) * block.teacher.sum;
    row.q_gap += q * sums[4] + block.shift * block.student.sum;
    row.q_size += q * sums[5] + fabs(block.shift) * block.student.sum;
    row.p_centred += p * sums[6] + (block.student.reference - row.student.max) * block.teacher.sum;
    row.root += sqrt(q * p) * sums[7];
  }
  if (row.student.sum == 0) row.student.sum = NAN;
  if (row.teacher.sum == 0) row.teacher.sum = NAN;
  row.log_ratio = log(row.teacher.sum / row.student.sum);
  return row;
}

// The teacher's exponentials, where something else was written over them.
template <class V, class S> void exp_again(const S* t, S* e, Int cols, const RowExp<V>& exponential, const PairBlock* blocks) {
  for (Int begin = 0; begin < cols; begin += kRowBlock)
    exp_row<V>(t + begin, static_cast<S>(blocks[begin / kRowBlock].teacher.reference), exponential, e + begin, block_cols(begin, cols));
}

inline FarRow far_row(const Pair& row, double temperature) {
  const double p = 1 / (temperature * row.teacher.sum), q = 1 / (temperature * row.student.sum);
  FarRow far;
  far.p_d = row.p_gap * p + row.log_ratio;
  far.p_size = row.p_size * p + fabs(row.log_ratio);
  far.q_d = row.q_gap * q + row.log_ratio;
  far.q_size = row.q_size * q + fabs(row.log_ratio);
  far.p_log_q = row.p_centred * p - log(row.student.sum);
  far.root = row.root / sqrt(row.student.sum * row.teacher.sum);
  return far;
}

}  // namespace
}  // namespace limbeck::cpu::LIMBECK_ISA
