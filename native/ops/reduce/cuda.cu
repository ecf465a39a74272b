// Reductions on CUDA: float32 partial results over at most 1024 terms, merged in double in a fixed order.
#include "cuda/merge.h"
#include "cuda/rows.h"
#include "cuda/workspace.h"
#include "ops/reduce/math.h"

namespace limbeck::cuda {
namespace {

constexpr int64_t kRowsPerBlock = 1024, kTerms = 256;

template <Reduce f> struct Merge {
  LIMBECK_DEVICE double operator()(double a, double b) const { return reduce_merge_<f>(a, b); }
};

template <Reduce f, class Group> LIMBECK_DEVICE void reduce_row(Group& group, const float* x, float* y, int64_t row, int64_t cols) {
  const bool aligned = aligned4(x);
  const int64_t step = int64_t(group.size()) * 4;
  double all = reduce_empty_<f, double>();
  for (int64_t block = 0; block < cols; block += step * kTerms) {
    const int64_t end = block + step * kTerms < cols ? block + step * kTerms : cols;
    float part[4];
    for (float& p : part) p = reduce_empty_<f, float>();
    for (int64_t c = block + int64_t(group.rank()) * 4; c < end; c += step) {
      float v[4];
      load_chunk(x, c, end, aligned, 0.0f, v);
      for (int i = 0; i < 4; i++)
        if (c + i < end) part[i] = reduce_push_<f>(part[i], v[i]);
    }
    all = reduce_merge_<f>(all, double(reduce_merge_<f>(reduce_merge_<f>(part[0], part[1]), reduce_merge_<f>(part[2], part[3]))));
  }
  all = merge_one(group, all, Merge<f>{}, reduce_empty_<f, double>());
  if (group.rank() == 0) st(y, row, float(reduce_finish_<f>(all, double(cols))));
}

template <class Group> LIMBECK_KERNEL void LIMBECK_BOUNDS(512) reduce_rows(const float* x, float* y, int64_t rows, int64_t cols, Reduce function) {
  SHARED(double, scratch, kScratch);
  Group group(scratch);
  for (int64_t row = group.first_row(); row < rows; row += group.row_step()) switch (function) {
#define LIMBECK_CASE(name) \
  case Reduce::name: reduce_row<Reduce::name>(group, x + row * cols, y, row, cols); break;
    LIMBECK_REDUCES(LIMBECK_CASE)
#undef LIMBECK_CASE
  }
}

// A block takes 32 columns and up to 1024 rows: 8 warps walk the rows, lane = column.
template <Reduce f> LIMBECK_DEVICE void reduce_tile(const Shared<double>& parts, const float* x, double* partial, float* y, int64_t rows, int64_t cols, int64_t segment, int64_t column) {
  const int64_t first = segment * kRowsPerBlock, last = first + kRowsPerBlock < rows ? first + kRowsPerBlock : rows;
  float part = reduce_empty_<f, float>();
  if (column < cols)
    for (int64_t r = first + warp(); r < last; r += 8) part = reduce_push_<f>(part, ld(x, r * cols + column));
  sync_block();
  parts[thread_index()] = double(part);
  sync_block();
  if (warp() != 0 || column >= cols) return;
  double all = reduce_empty_<f, double>();
  for (int w = 0; w < 8; w++) all = reduce_merge_<f>(all, double(parts[w * 32 + lane()]));
  if (partial != nullptr) st(partial, segment * cols + column, all);
  else st(y, column, float(reduce_finish_<f>(all, double(rows))));
}

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) reduce_columns(const float* x, double* partial, float* y, int64_t rows, int64_t cols, int64_t tiles, int64_t count, Reduce function) {
  SHARED(double, parts, 256);
  for (int64_t task = block_index(); task < count; task += grid_size()) {
    const int64_t segment = task / tiles, column = (task - segment * tiles) * 32 + lane();
    switch (function) {
#define LIMBECK_CASE(name) \
  case Reduce::name: reduce_tile<Reduce::name>(parts, x, partial, y, rows, cols, segment, column); break;
      LIMBECK_REDUCES(LIMBECK_CASE)
#undef LIMBECK_CASE
    }
  }
}

template <Reduce f> LIMBECK_DEVICE void reduce_segments_of(const double* partial, float* y, int64_t rows, int64_t cols, int64_t segments, int64_t column) {
  double all = reduce_empty_<f, double>();
  for (int64_t s = 0; s < segments; s++) all = reduce_merge_<f>(all, ld(partial, s * cols + column));
  st(y, column, float(reduce_finish_<f>(all, double(rows))));
}

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) reduce_segments(const double* partial, float* y, int64_t rows, int64_t cols, int64_t segments, Reduce function) {
  for (int64_t column = first_element(); column < cols; column += element_step()) switch (function) {
#define LIMBECK_CASE(name) \
  case Reduce::name: reduce_segments_of<Reduce::name>(partial, y, rows, cols, segments, column); break;
    LIMBECK_REDUCES(LIMBECK_CASE)
#undef LIMBECK_CASE
  }
}

}  // namespace

void reduce(Context& ctx, In x, Out y, Int rows, Int cols, Int function, Int axis) {
  if (axis == 1) {
    const RowPlan plan = plan_rows(ctx, rows, cols);
    launch(ctx, "reduce_rows", plan.block ? reduce_rows<BlockGroup> : reduce_rows<WarpGroup>, plan.launch, x.as<float>(), y.as<float>(), rows, cols, Reduce(function));
    return;
  }
  if (cols == 0) return;
  const int64_t segments = rows <= kRowsPerBlock ? 1 : (rows + kRowsPerBlock - 1) / kRowsPerBlock, tiles = (cols + 31) / 32;
  const int64_t most = int64_t(limits(ctx).multiprocessors) * 64, count = segments * tiles;
  const Launch columns{count < most ? count : most, 256};
  if (segments == 1) {
    launch(ctx, "reduce_columns", reduce_columns, columns, x.as<float>(), nullptr, y.as<float>(), rows, cols, tiles, count, Reduce(function));
    return;
  }
  const Workspace partial(ctx, size_t(segments * cols) * sizeof(double));
  if (!partial) return;
  launch(ctx, "reduce_columns", reduce_columns, columns, x.as<float>(), partial.as<double>(), y.as<float>(), rows, cols, tiles, count, Reduce(function));
  launch(ctx, "reduce_segments", reduce_segments, plan_elements(ctx, cols), partial.as<double>(), y.as<float>(), rows, cols, segments, Reduce(function));
}

}  // namespace limbeck::cuda
