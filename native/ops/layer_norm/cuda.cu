// Layer normalisation on CUDA: a warp or a block per row, which it reads from the caches in its second and third walk.
#include "cuda/merge.h"
#include "cuda/rows.h"
#include "ops/layer_norm/math.h"

namespace limbeck::cuda {
namespace {

struct Norm {
  const float *x, *weight, *bias;
  float *y, *mean, *inverse_deviation;
  int64_t rows, cols;
  double epsilon;
};

template <class Group> LIMBECK_KERNEL void LIMBECK_BOUNDS(512) layer_norm_rows(Norm a) {
  SHARED(double, scratch, kScratch);
  Group group(scratch);
  const int64_t step = int64_t(group.size()) * 4;
  const bool weight_aligned = aligned4(a.weight), bias_aligned = aligned4(a.bias);
  for (int64_t row = group.first_row(); row < a.rows; row += group.row_step()) {
    const float* x = a.x + row * a.cols;
    float* y = a.y + row * a.cols;
    const bool x_aligned = aligned4(x), y_aligned = aligned4(y);
    float centre = 0;
    if (a.mean != nullptr) {
      double sum = 0;
      for (int64_t c = int64_t(group.rank()) * 4; c < a.cols; c += step) {
        float v[4];
        load_chunk(x, c, a.cols, x_aligned, 0.0f, v);
        sum += double((v[0] + v[1]) + (v[2] + v[3]));
      }
      centre = float(merge_one(group, sum, Add{}, 0.0) / double(a.cols));
    }
    double squares = 0;
    for (int64_t c = int64_t(group.rank()) * 4; c < a.cols; c += step) {
      float v[4];
      load_chunk(x, c, a.cols, x_aligned, centre, v);
      for (int i = 0; i < 4; i++) v[i] -= centre;
      squares += double((v[0] * v[0] + v[1] * v[1]) + (v[2] * v[2] + v[3] * v[3]));
    }
    const float inverse = float(1 / sqrt(merge_one(group, squares, Add{}, 0.0) / double(a.cols) + a.epsilon));
    if (group.rank() == 0) {
      if (a.mean != nullptr) st(a.mean, row, centre);
      st(a.inverse_deviation, row, inverse);
    }
    for (int64_t c = int64_t(group.rank()) * 4; c < a.cols; c += step) {
      float v[4], w[4], b[4] = {0, 0, 0, 0};
      load_chunk(x, c, a.cols, x_aligned, 0.0f, v);
      load_chunk(a.weight, c, a.cols, weight_aligned, 0.0f, w);
      if (a.bias != nullptr) load_chunk(a.bias, c, a.cols, bias_aligned, 0.0f, b);
      for (int i = 0; i < 4; i++) v[i] = fma_(normalized_(v[i], centre, inverse), w[i], b[i]);
      store_chunk(y, c, a.cols, y_aligned, v);
    }
  }
}

}  // namespace

void layer_norm(Context& ctx, In x, In weight, In bias, Out y, Out mean, Out inverse_deviation, Int rows, Int cols, Float epsilon) {
  const RowPlan plan = plan_rows(ctx, rows, cols);
  launch(ctx, "layer_norm", plan.block ? layer_norm_rows<BlockGroup> : layer_norm_rows<WarpGroup>, plan.launch,
         Norm{x.as<float>(), weight.as<float>(), bias.as<float>(), y.as<float>(), mean.as<float>(), inverse_deviation.as<float>(), rows, cols, epsilon});
}

}  // namespace limbeck::cuda
