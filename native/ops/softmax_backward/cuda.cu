// The gradient of softmax and log softmax on CUDA: one sum per row, then one formula per element; one read of both where they fit the shared
// memory of a cluster, else two.
#include "cuda/merge.h"
#include "cuda/rows.h"
#include "ops/softmax/math.h"

namespace limbeck::cuda {
namespace {

struct Rows {
  AnyIn y, gradient_y;
  const float* row_temperature;
  AnyOut gradient_x;
  int64_t rows, cols;
  double temperature;
  int64_t segment;  // columns of a run
  int parts;        // blocks that share it
  int row_floats;   // shared memory of a staged run of either
  bool is_log;
};

template <class Group> LIMBECK_KERNEL void LIMBECK_BOUNDS(256) softmax_backward_rows(Rows a) {
  SHARED(double, scratch, kClusterScratch);
  SHARED_DYN(float, memory);
  Group group(scratch, a.parts);
  const bool staged = a.row_floats > 0;
  const Run run = group.run(a.cols, a.segment);
  const int own_cols = int(run.end - run.begin);
  const Shared<float> own = memory.slice<float>(group.slot() * a.row_floats * 8, 2 * a.row_floats);
  const StagedRow own_y{own.slice<float>(0, a.row_floats), a.y.dtype}, own_g{own.slice<float>(a.row_floats * 4, a.row_floats), a.gradient_y.dtype};
  const int64_t step = int64_t(group.size()) * 4;
  for (int64_t row = group.first_row(); row < a.rows; row += group.row_step()) {
    const AnyIn y_row = offset(a.y, row * a.cols), g_row = offset(a.gradient_y, row * a.cols);
    const AnyOut out = offset(a.gradient_x, row * a.cols);
    const bool y_aligned = aligned4(y_row), g_aligned = aligned4(g_row), out_aligned = aligned4(out);
    const double temperature = a.row_temperature != nullptr ? double(ld_warp(a.row_temperature, row)) : a.temperature;
    const float inverse = temperature > 0 && temperature < INFINITY ? float(1 / temperature) : NAN;
    if (staged) {
      group.sync();
      stage(group, offset(y_row, run.begin), own_cols, own_y, 0.0f);
      stage(group, offset(g_row, run.begin), own_cols, own_g, 0.0f);
      group.sync();
    }
    auto load = [&](int64_t c, float (&y)[4], float (&g)[4]) {
      if (staged) {
        load_staged(own_y, int(c - run.begin), y);
        load_staged(own_g, int(c - run.begin), g);
      } else {
        load_chunk(y_row, c, a.cols, y_aligned, 0.0f, y);
        load_chunk(g_row, c, a.cols, g_aligned, 0.0f, g);
      }
    };
    float part = 0;
    for (int64_t c = run.begin + int64_t(group.rank()) * 4; c < run.end; c += step) {
      float y[4], g[4];
      load(c, y, g);
      for (int i = 0; i < 4; i++) g[i] = a.is_log ? g[i] : g[i] * y[i];
      part += (g[0] + g[1]) + (g[2] + g[3]);
    }
    const float sum = float(merge_one(group, double(part), Add{}, 0.0));
    for (int64_t c = run.begin + int64_t(group.rank()) * 4; c < run.end; c += step) {
      float y[4], g[4];
      load(c, y, g);
      for (int i = 0; i < 4; i++) g[i] = a.is_log ? log_softmax_gradient_(y[i], g[i], sum, inverse) : softmax_gradient_(y[i], g[i], sum, inverse);
      if (staged && !out_aligned) stage_chunk(own_g, int(c - run.begin), g);
      else store_chunk(out, c, a.cols, out_aligned, g);
    }
    if (staged && !out_aligned) {
      group.sync();
      own_columns(group, 0, own_cols, [&](int c) { st(out, run.begin + c, staged_at(own_g, c)); });
    }
  }
  group.finish();
}

}  // namespace

void softmax_backward(Context& ctx, In y, In gradient_y, In row_temperature, Out gradient_x, Int rows, Int cols, Float temperature, Int is_log) {
  const Int width = kDTypeBytes[int(y.dtype)];
  ClusterPlan plan = plan_clusters(ctx, rows, cols, 2 * width, [](int64_t) { return int64_t(0); });
  share_runs(ctx, rows, plan);
  const Rows a{y, gradient_y, row_temperature.as<float>(), gradient_x, rows, cols, temperature, plan.segment, plan.parts, plan.staged ? int(plan.segment * width / 4) : 0, is_log != 0};
  launch(ctx, "softmax_backward", plan.cluster ? softmax_backward_rows<ClusterGroup> : softmax_backward_rows<WarpGroup>, plan.launch, a);
}

}  // namespace limbeck::cuda
