// Teacher rows that know their label, on CUDA. A label that names no column gives a row of NaN.
#include "cuda/merge.h"
#include "cuda/rows.h"
#include "ops/label_target/math.h"
#include "ops/top_k/math.h"

namespace limbeck::cuda {
namespace {

LIMBECK_DEVICE uint64_t rank_of(const float* row, int64_t column) { return top_k_rank_(top_k_key_(ld(row, column)), uint32_t(column)); }

template <LabelTarget f, class Group> LIMBECK_DEVICE void blend_row(const Group& group, const float* x, float* y, int64_t cols, int64_t label, double parameter) {
  for (int64_t c = group.rank(); c < cols; c += group.size()) {
    const float v = ld(x, c);
    st(y, c, c == label ? at_label_<f>(v, parameter) : off_label_<f>(v, parameter));
  }
}

// The column that stands next behind a rank is found by walking the row again: only for columns before the label, mostly few.
LIMBECK_DEVICE float next_value(const float* x, int64_t cols, uint64_t rank) {
  uint64_t next = 0;
  for (int64_t c = 0; c < cols; c++) {
    const uint64_t other = rank_of(x, c);
    if (other < rank && other > next) next = other;
  }
  return ld(x, int64_t(top_k_index_(next)));
}

template <class Group> LIMBECK_DEVICE void correct_row(Group& group, const float* x, float* y, int64_t cols, int64_t label, bool sorts) {
  uint64_t best = 0;
  for (int64_t c = group.rank(); c < cols; c += group.size()) best = Max{}(best, rank_of(x, c));
  best = merge_one(group, best, Max{}, uint64_t(0));
  const uint64_t own = rank_of(x, label);
  const int64_t top = top_k_index_(best);
  for (int64_t c = group.rank(); c < cols; c += group.size()) {
    float v = ld(x, c);
    if (c == label) v = ld(x, top);
    else if (sorts) {
      const uint64_t rank = rank_of(x, c);
      if (rank > own) v = next_value(x, cols, rank);
    } else if (c == top) v = ld(x, label);
    st(y, c, v);
  }
}

template <class Group>
LIMBECK_KERNEL void LIMBECK_BOUNDS(512) label_target_rows(const float* x, const int32_t* labels, float* y, int64_t rows, int64_t cols, LabelTarget function, double parameter, int64_t ignore_index, int64_t unlabelled_index) {
  SHARED(double, scratch, kScratch);
  Group group(scratch);
  for (int64_t row = group.first_row(); row < rows; row += group.row_step()) {
    const int64_t label = ld_warp(labels, row);
    const float* from = x + row * cols;
    float* to = y + row * cols;
    if (label == ignore_index || label == unlabelled_index) {
      for (int64_t c = group.rank(); c < cols; c += group.size()) st(to, c, ld(from, c));
    } else if (label < 0 || label >= cols) {
      for (int64_t c = group.rank(); c < cols; c += group.size()) st(to, c, NAN);
    } else {
      switch (function) {
        case LabelTarget::swap: correct_row(group, from, to, cols, label, false); break;
        case LabelTarget::sort: correct_row(group, from, to, cols, label, true); break;
        case LabelTarget::mix: blend_row<LabelTarget::mix>(group, from, to, cols, label, parameter); break;
        case LabelTarget::enhance: blend_row<LabelTarget::enhance>(group, from, to, cols, label, parameter); break;
      }
    }
  }
}

}  // namespace

void label_target(Context& ctx, In x, In labels, Out y, Int rows, Int cols, Int function, Float parameter, Int ignore_index, Int unlabelled_index) {
  const RowPlan plan = plan_rows(ctx, rows, cols);
  launch(ctx, "label_target", plan.block ? label_target_rows<BlockGroup> : label_target_rows<WarpGroup>, plan.launch, x.as<float>(), labels.as<int32_t>(),
         y.as<float>(), rows, cols, LabelTarget(function), parameter, ignore_index, unlabelled_index);
}

}  // namespace limbeck::cuda
