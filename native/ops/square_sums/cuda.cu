// y[i] = Σ x² of tensor i on CUDA: a sum for each task of each tensor, those then merged in double in a fixed order.
#include "cuda/many.h"
#include "cuda/merge.h"
#include "cuda/workspace.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) square_sums_tasks(Many<1> many, double* partial) {
  SHARED(double, scratch, kScratch);
  BlockGroup group(scratch);
  const int tasks = many.first_task[many.count];
  for (int task = block_index(); task < tasks; task += grid_size()) {
    const Task run = task_of(many, task);
    const float* x = static_cast<const float*>(many.data[run.index][0]);
    float sum = 0;
    for (int64_t i = run.begin + thread_index() * 4; i < run.end; i += block_size() * 4) {
      float v[4];
      load_chunk(x, i, run.end, run.aligned, 0.0f, v);
      for (int j = 0; j < 4; j++) sum = fma_(v[j], v[j], sum);
    }
    const double all = merge_one(group, double(sum), Add{}, 0.0);
    if (thread_index() == 0) st(partial, task, all);
  }
}

// A warp for each tensor. Rounded to float32, as the sum of one tensor is.
LIMBECK_KERNEL void LIMBECK_BOUNDS(128) square_sums_tensors(Many<1> many, const double* partial, double* y) {
  for (int t = block_index() * 4 + warp(); t < many.count; t += grid_size() * 4) {
    double sum = 0;
    for (int task = many.first_task[t] + lane(); task < many.first_task[t + 1]; task += 32) sum += ld(partial, task);
    sum = merge_warp(sum, Add{});
    if (lane() == 0) st(y, t, double(float(sum)));
  }
}

}  // namespace

void square_sums(Context& ctx, Ins tensors, Ints sizes, Out y) {
  const auto arrays = [&](Int i, void** data) { data[0] = const_cast<void*>(tensors.items[i].data); };
  over_many<1>(sizes, arrays, [&](const Many<1>& many, Int first) {
    const Workspace partial(ctx, size_t(many.first_task[many.count]) * sizeof(double));
    if (!partial) return;
    launch(ctx, "square_sums", square_sums_tasks, plan_many(ctx, many), many, partial.as<double>());
    launch(ctx, "square_sums", square_sums_tensors, Launch{(many.count + 3) / 4, 128}, many, partial.as<double>(), y.as<double>() + first);
  });
}

}  // namespace limbeck::cuda
