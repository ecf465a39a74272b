// softmax and log softmax on CUDA: one read and one write where the row fits the shared memory of a cluster, else two reads.
#include "cuda/row_sum.h"
#include "cuda/rows.h"

namespace limbeck::cuda {
namespace {

struct Rows {
  AnyIn x;
  const float* row_temperature;
  AnyOut y;
  int64_t rows, cols;
  double temperature;
  int64_t segment;  // columns of a run
  int parts;        // blocks that share it
  int row_floats;   // shared memory of a staged run
  bool is_log;
};

template <class Group> LIMBECK_KERNEL void LIMBECK_BOUNDS(256) softmax_rows(Rows a) {
  SHARED(double, scratch, kClusterScratch);
  SHARED_DYN(float, memory);
  Group group(scratch, a.parts);
  const bool staged = a.row_floats > 0;
  const Run run = group.run(a.cols, a.segment);
  const int own_cols = int(run.end - run.begin);
  const StagedRow own{memory.slice<float>(group.slot() * a.row_floats * 4, a.row_floats), a.x.dtype};
  const int64_t step = int64_t(group.size()) * 4;
  for (int64_t row = group.first_row(); row < a.rows; row += group.row_step()) {
    const AnyIn x_row = offset(a.x, row * a.cols);
    const AnyOut y_row = offset(a.y, row * a.cols);
    const bool x_aligned = aligned4(x_row), y_aligned = aligned4(y_row);
    const double temperature = a.row_temperature != nullptr ? double(ld_warp(a.row_temperature, row)) : a.temperature;
    const Inverse inverse = Inverse::of(temperature);
    if (staged) {
      group.sync();
      stage(group, offset(x_row, run.begin), own_cols, own, -INFINITY);
      group.sync();
    }
    auto load = [&](int64_t c, float (&x)[4]) {
      if (staged) load_staged(own, int(c - run.begin), x);
      else load_chunk(x_row, c, a.cols, x_aligned, -INFINITY, x);
    };
    RowSum sum;
    for (int64_t c = run.begin + int64_t(group.rank()) * 4; c < run.end; c += step) {
      float x[4];
      load(c, x);
      sum.push(x, inverse);
    }
    merge_row(group, sum, inverse);
    if (!(temperature > 0 && temperature < INFINITY && sum.valid())) {
      fill_row(group, offset(y_row, run.begin), own_cols, NAN);
      continue;
    }
    const float scale = 1.0f / sum.sum(), log_sum = sum.log_sum();
    for (int64_t c = run.begin + int64_t(group.rank()) * 4; c < run.end; c += step) {
      float x[4];
      load(c, x);
      for (int i = 0; i < 4; i++)
        x[i] = a.is_log ? log_softmax_(x[i], sum.max, inverse.hi, inverse.lo, log_sum) : exp_scaled_(x[i] - sum.max, inverse.hi, inverse.lo) * scale;
      if (staged && !y_aligned) stage_chunk(own, int(c - run.begin), x);
      else store_chunk(y_row, c, a.cols, y_aligned, x);
    }
    if (staged && !y_aligned) {
      group.sync();
      own_columns(group, 0, own_cols, [&](int c) { st(y_row, run.begin + c, staged_at(own, c)); });
    }
  }
  group.finish();
}

}  // namespace

void softmax(Context& ctx, In x, In row_temperature, Out y, Int rows, Int cols, Float temperature, Int is_log) {
  const Int width = kDTypeBytes[int(x.dtype)];
  ClusterPlan plan = plan_clusters(ctx, rows, cols, width, [](int64_t) { return int64_t(0); });
  share_runs(ctx, rows, plan);
  const Rows a{x, row_temperature.as<float>(), y, rows, cols, temperature, plan.segment, plan.parts, plan.staged ? int(plan.segment * width / 4) : 0, is_log != 0};
  launch(ctx, "softmax", plan.cluster ? softmax_rows<ClusterGroup> : softmax_rows<WarpGroup>, plan.launch, a);
}

}  // namespace limbeck::cuda
