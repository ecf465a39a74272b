// Running sums and running ln Σ e^x of each row on CUDA.
#include "cuda/scan.h"
#include "ops/scan/math.h"

namespace limbeck::cuda {
namespace {

struct Rows {
  const float* x;
  float* y;
  int64_t rows, cols;
  Scan function;
  bool reverse;
};

struct SumOfRow {
  const float* x;
  float* y;
  int64_t cols;
  bool reverse;

  LIMBECK_DEVICE Stretch empty() const { return {0, 0}; }
  LIMBECK_DEVICE Stretch join(const Stretch& a, const Stretch& b) const { return {a.a + b.a, 0}; }
  LIMBECK_DEVICE int64_t column(int64_t position) const { return reverse ? cols - 1 - position : position; }
  LIMBECK_DEVICE Stretch load(int64_t position) const { return {double(ld(x, column(position))), 0}; }
  LIMBECK_DEVICE void finish(int64_t position, const Stretch& before) const {
    const int64_t c = column(position);
    st(y, c, float(before.a + double(ld(x, c))));
  }
};

struct LseOfRow : SumOfRow {
  using Lse = RunningLse<float>;
  bool relative;

  LIMBECK_DEVICE LseOfRow(const SumOfRow& row, bool relative) : SumOfRow(row), relative(relative) {}
  LIMBECK_DEVICE static Stretch pack(const Lse& s) { return {double(s.max), s.sum}; }
  LIMBECK_DEVICE static Lse unpack(const Stretch& s) { return {float(s.a), s.b}; }
  LIMBECK_DEVICE Stretch empty() const { return pack(Lse::empty()); }
  LIMBECK_DEVICE Stretch join(const Stretch& a, const Stretch& b) const { return pack(Lse::join(unpack(a), unpack(b))); }
  LIMBECK_DEVICE Stretch load(int64_t position) const { return pack(Lse::of(ld(x, column(position)))); }
  LIMBECK_DEVICE void finish(int64_t position, const Stretch& before) const {
    const int64_t c = column(position);
    const float own = ld(x, c);
    st(y, c, relative ? unpack(before).beyond(own) : Lse::join(unpack(before), Lse::of(own)).log());
  }
};

template <class Group> LIMBECK_KERNEL void LIMBECK_BOUNDS(512) scan_rows(Rows a) {
  SHARED(double, scratch, kScratch);
  Group group(scratch);
  int turn = 0;
  for (int64_t row = group.first_row(); row < a.rows; row += group.row_step()) {
    const SumOfRow of{a.x + row * a.cols, a.y + row * a.cols, a.cols, a.reverse};
    if (a.function == Scan::sum) scan_row(group, scratch, turn, a.cols, of);
    else scan_row(group, scratch, turn, a.cols, LseOfRow(of, a.function == Scan::log_sum_exp_relative));
  }
}

}  // namespace

void scan(Context& ctx, In x, Out y, Int rows, Int cols, Int function, Int reverse) {
  const RowPlan plan = plan_rows(ctx, rows, cols);
  const Rows a{x.as<float>(), y.as<float>(), rows, cols, Scan(function), reverse != 0};
  launch(ctx, "scan", plan.block ? scan_rows<BlockGroup> : scan_rows<WarpGroup>, plan.launch, a);
}

}  // namespace limbeck::cuda
