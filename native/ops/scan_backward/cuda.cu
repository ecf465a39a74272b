// The gradient of a running ln Σ e^x on CUDA: the same walk the other way.
#include "cuda/scan.h"
#include "ops/scan/math.h"

namespace limbeck::cuda {
namespace {

struct Rows {
  const float *y, *gradient_y;
  float* gradient_x;
  int64_t rows, cols;
  bool relative, reverse;
};

struct GradientOfRow {
  const float *y, *g;
  float* out;
  int64_t cols;
  bool relative, reverse;

  LIMBECK_DEVICE static Stretch pack(const RunningGradient& s) { return {s.factor, s.term}; }
  LIMBECK_DEVICE static RunningGradient unpack(const Stretch& s) { return {s.a, s.b}; }
  LIMBECK_DEVICE int64_t column(int64_t position) const { return reverse ? position : cols - 1 - position; }
  LIMBECK_DEVICE Stretch empty() const { return pack(RunningGradient::empty()); }
  LIMBECK_DEVICE Stretch join(const Stretch& a, const Stretch& b) const { return pack(RunningGradient::join(unpack(a), unpack(b))); }
  LIMBECK_DEVICE Stretch load(int64_t position) const {
    const int64_t c = column(position);
    return pack(RunningGradient::of(LseShare::of(ld(y, c)), double(ld(g, c))));
  }
  LIMBECK_DEVICE void finish(int64_t position, const Stretch& before) const {
    const int64_t c = column(position);
    st(out, c, float(unpack(before).gradient(LseShare::of(ld(y, c)), double(ld(g, c)), relative)));
  }
};

template <class Group> LIMBECK_KERNEL void LIMBECK_BOUNDS(512) scan_backward_rows(Rows a) {
  SHARED(double, scratch, kScratch);
  Group group(scratch);
  int turn = 0;
  for (int64_t row = group.first_row(); row < a.rows; row += group.row_step()) {
    const int64_t at = row * a.cols;
    scan_row(group, scratch, turn, a.cols, GradientOfRow{a.y + at, a.gradient_y + at, a.gradient_x + at, a.cols, a.relative, a.reverse});
  }
}

}  // namespace

void scan_backward(Context& ctx, In y, In gradient_y, Out gradient_x, Int rows, Int cols, Int relative, Int reverse) {
  const RowPlan plan = plan_rows(ctx, rows, cols);
  const Rows a{y.as<float>(), gradient_y.as<float>(), gradient_x.as<float>(), rows, cols, relative != 0, reverse != 0};
  launch(ctx, "scan_backward", plan.block ? scan_backward_rows<BlockGroup> : scan_backward_rows<WarpGroup>, plan.launch, a);
}

}  // namespace limbeck::cuda
