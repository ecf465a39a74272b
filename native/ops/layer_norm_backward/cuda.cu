// The gradient of layer normalisation on CUDA: two sums per row, then the element formula. `scaled` gets g·x̂, whose sum over rows is ∂w.
#include "cuda/merge.h"
#include "cuda/rows.h"
#include "ops/layer_norm/math.h"

namespace limbeck::cuda {
namespace {

struct Norm {
  const float *x, *weight, *mean, *inverse_deviation, *gradient_y;
  float *gradient_x, *scaled;
  int64_t rows, cols;
};

template <class Group> LIMBECK_KERNEL void LIMBECK_BOUNDS(512) layer_norm_backward_rows(Norm a) {
  SHARED(double, scratch, kScratch);
  Group group(scratch);
  const int64_t step = int64_t(group.size()) * 4;
  const bool weight_aligned = aligned4(a.weight);
  for (int64_t row = group.first_row(); row < a.rows; row += group.row_step()) {
    const float *x = a.x + row * a.cols, *g = a.gradient_y + row * a.cols;
    float *out = a.gradient_x + row * a.cols, *product = a.scaled != nullptr ? a.scaled + row * a.cols : nullptr;
    const bool x_aligned = aligned4(x), g_aligned = aligned4(g), out_aligned = aligned4(out), product_aligned = aligned4(product);
    const float centre = a.mean != nullptr ? ld_warp(a.mean, row) : 0.0f, inverse = ld_warp(a.inverse_deviation, row);
    auto load = [&](int64_t c, float (&v)[4], float (&w)[4], float (&u)[4]) {
      load_chunk(x, c, a.cols, x_aligned, centre, v);
      load_chunk(a.weight, c, a.cols, weight_aligned, 0.0f, w);
      load_chunk(g, c, a.cols, g_aligned, 0.0f, u);
      for (int i = 0; i < 4; i++) v[i] = normalized_(v[i], centre, inverse);
    };
    double sums[2] = {0, 0};
    for (int64_t c = int64_t(group.rank()) * 4; c < a.cols; c += step) {
      float v[4], w[4], u[4];
      load(c, v, w, u);
      for (int i = 0; i < 4; i++) w[i] *= u[i];
      sums[0] += double((w[0] + w[1]) + (w[2] + w[3]));
      sums[1] += double((w[0] * v[0] + w[1] * v[1]) + (w[2] * v[2] + w[3] * v[3]));
    }
    group.merge(sums, Add{}, 0.0);
    const float mean_weighted = a.mean != nullptr ? float(sums[0] / double(a.cols)) : 0.0f, mean_product = float(sums[1] / double(a.cols));
    for (int64_t c = int64_t(group.rank()) * 4; c < a.cols; c += step) {
      float v[4], w[4], u[4];
      load(c, v, w, u);
      for (int i = 0; i < 4; i++) {
        w[i] = layer_norm_gradient_(u[i] * w[i], v[i], inverse, mean_weighted, mean_product);
        u[i] *= v[i];
      }
      store_chunk(out, c, a.cols, out_aligned, w);
      if (product != nullptr) store_chunk(product, c, a.cols, product_aligned, u);
    }
  }
}

}  // namespace

void layer_norm_backward(Context& ctx, In x, In weight, In mean, In inverse_deviation, In gradient_y, Out gradient_x, Out scaled, Int rows, Int cols) {
  const RowPlan plan = plan_rows(ctx, rows, cols);
  launch(ctx, "layer_norm_backward", plan.block ? layer_norm_backward_rows<BlockGroup> : layer_norm_backward_rows<WarpGroup>, plan.launch,
         Norm{x.as<float>(), weight.as<float>(), mean.as<float>(), inverse_deviation.as<float>(), gradient_y.as<float>(), gradient_x.as<float>(),
              scaled.as<float>(), rows, cols});
}

}  // namespace limbeck::cuda
