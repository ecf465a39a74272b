// Walks over the rows of student and teacher side by side: block by block the maxima, exponentials relative to them and their sums,
// while the next block comes from memory and the gradient of the row before goes there.
#pragma once
#include "ops/divergence/far.h"
#include "ops/softmax/blocks.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

// Third array: e·gap or √(e·e) of an outcome.
constexpr unsigned kThird = kSumQD | kSumRoot;
constexpr int kMostSums = 8;

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

// The same for a row none of whose terms is wanted: they are 0.
template <class V, class S> BlockedRow no_exponentials(const S* x, S* e, Int cols, RowBlock* blocks, Waiting<V>& before) {
  before.finish();
  const V zero = splat<V>(0), infinity = splat<V>(INFINITY);
  BlockedRow row;
  row.sum = sum_each<V, 1>(cols, [&](Int i, auto span, V* part) LIMBECK_INLINE {
              const V v = span.load(x + i, 0);
              part[0] = part[0] + select_(lt_(v, infinity), zero, v);
              span.store(e + i, zero);
            }).sum[0];
  if (!(row.sum == 0)) row.sum = NAN;
  for (size_t k = 0; k < blocks_in(cols); ++k) blocks[k].scale = 1;
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

// Whole vectors of a block whose terms are ordinary numbers, while what lies ahead is fetched. sums: Σ of the student, of the teacher, and what `needs` says in its order.
template <class V, unsigned needs, class S>
LIMBECK_FN void near_block(const S* x, const S* t, const S* next_x, const S* next_t, const Exponentials<S>& to, Int n, V x_max, V t_max, const RowExp<V>& exponential, double* sums) {
  constexpr Int W = lane<V>::width;
  V part[2][kMostSums];
  for (int k = 0; k < kMostSums; ++k) part[0][k] = part[1][k] = splat<V>(0);
  const auto step = [&](Int i, V* sum) LIMBECK_INLINE {
    __builtin_prefetch(next_x + i, 0, 2);
    __builtin_prefetch(next_t + i, 0, 2);
    const V zs = vec<V>::load(x + i) - x_max, zt = vec<V>::load(t + i) - t_max;
    const V q = exponential.nearly(zs), p = exponential.nearly(zt);
    [[maybe_unused]] const V gap = zs - zt;
    vec<V>::store(to.student + i, q);
    vec<V>::store(to.teacher + i, p);
    sum[0] = sum[0] + q;
    sum[1] = sum[1] + p;
    if constexpr ((needs & kSumPD) != 0) {
      sum[2] = fma_(p, gap, sum[2]);
      sum[3] = fma_(p, abs_(gap), sum[3]);
    }
    if constexpr ((needs & kSumQD) != 0) {
      const V product = q * gap;
      sum[4] = sum[4] + product;
      sum[5] = sum[5] + abs_(product);
      vec<V>::store(to.third + i, product);
    }
    if constexpr ((needs & kSumPLogQ) != 0) sum[6] = fma_(p, zs, sum[6]);
    if constexpr ((needs & kSumRoot) != 0) {
      const V root = sqrt_(q * p);
      sum[7] = sum[7] + root;
      vec<V>::store(to.third + i, root);
    }
  };
  Int i = 0;
  for (; i + 2 * W <= n; i += 2 * W) {
    step(i, part[0]);
    step(i + W, part[1]);
  }
  if (i < n) step(i, part[0]);
  for (int k = 0; k < kMostSums; ++k) sums[k] = vec<V>::total(part[0][k] + part[1][k]);
}

// The last n < W elements of a block: behind them its maxima again, whose terms are known and come off the sums.
template <class V, unsigned needs, class S>
void near_tail(const S* x, const S* t, const Exponentials<S>& to, Int n, S x_max, S t_max, const RowExp<V>& exponential, double* sums) {
  constexpr Int W = lane<V>::width;
  S room[5][W];
  for (Int k = 0; k < W; ++k) {
    room[0][k] = k < n ? x[k] : x_max;
    room[1][k] = k < n ? t[k] : t_max;
  }
  double rest[kMostSums];
  near_block<V, needs>(room[0], room[1], room[0], room[1], Exponentials<S>{room[2], room[3], room[4]}, W, splat<V>(x_max), splat<V>(t_max), exponential, rest);
  const double padding = static_cast<double>(W - n);
  rest[0] -= padding;
  rest[1] -= padding;
  if (needs & kSumRoot) rest[7] -= padding;
  for (int k = 0; k < kMostSums; ++k) sums[k] += rest[k];
  const size_t bytes = static_cast<size_t>(n) * sizeof(S);
  memcpy(to.student, room[2], bytes);
  memcpy(to.teacher, room[3], bytes);
  if (needs & kThird) memcpy(to.third, room[4], bytes);
}

// Sums are NaN for a row with NaN or +inf or of -inf alone.
template <class V, unsigned needs, class S>
Pair exp_pair(const S* x, const S* t, const Exponentials<S>& to, Int cols, double temperature, const RowExp<V>& scaled, PairBlock* blocks, Waiting<V>& before,
              Int next_x, Int next_t) {
  constexpr Int W = lane<V>::width;
  const RowExp<V> exponential = scaled;  // a copy that no store can alias
  Pair row;
  for (Int begin = 0; begin < cols; begin += kRowBlock) {
    const Int n = block_cols(begin, cols), whole = n / W * W;
    PairBlock& block = blocks[begin / kRowBlock];
    const Range<S> range_x = range_of<V>(x + begin, n), range_t = range_of<V>(t + begin, n);
    row.student.enter(block.student, range_x);
    row.teacher.enter(block.teacher, range_t);
    row.finite = row.finite && range_x.finite && range_t.finite;
    const S x_max = static_cast<S>(block.student.max), t_max = static_cast<S>(block.teacher.max);
    const Exponentials<S> at{to.student + begin, to.teacher + begin, to.third + begin};
    // Under a root the two meet in a product.
    const double span = needs & kSumRoot ? range_x.span() + range_t.span() : std::max(range_x.span(), range_t.span());
    if (exponential.spares(span)) {
      const bool last = begin + kRowBlock >= cols;
      near_block<V, needs>(x + begin, t + begin, last ? x + next_x : x + begin + kRowBlock, last ? t + next_t : t + begin + kRowBlock, at, whole, splat<V>(x_max), splat<V>(t_max), exponential, block.sums);
      if (whole < n)
        near_tail<V, needs>(x + begin + whole, t + begin + whole, Exponentials<S>{at.student + whole, at.teacher + whole, at.third + whole}, n - whole, x_max, t_max,
                            exponential, block.sums);
    } else {
      row.near = false;
      block.sums[0] = exp_row<V>(x + begin, x_max, exponential, at.student, n);
      block.sums[1] = exp_row<V>(t + begin, t_max, exponential, at.teacher, n);
    }
    before.write(begin);
  }
  before.drop();
  for (Int begin = 0; begin < cols; begin += kRowBlock) {
    PairBlock& block = blocks[begin / kRowBlock];
    const double* sums = block.sums;
    row.student.leave(block.student, sums[0], temperature);
    row.teacher.leave(block.teacher, sums[1], temperature);
    if (!row.near) continue;
    const double q = block.student.scale, p = block.teacher.scale;
    block.shift = (block.student.max - row.student.max) - (block.teacher.max - row.teacher.max);
    row.p_gap += p * sums[2] + block.shift * block.teacher.sum;
    row.p_size += p * sums[3] + fabs(block.shift) * block.teacher.sum;
    row.q_gap += q * sums[4] + block.shift * block.student.sum;
    row.q_size += q * sums[5] + fabs(block.shift) * block.student.sum;
    row.p_centred += p * sums[6] + (block.student.max - row.student.max) * block.teacher.sum;
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
    exp_row<V>(t + begin, static_cast<S>(blocks[begin / kRowBlock].teacher.max), exponential, e + begin, block_cols(begin, cols));
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
