// Rows in global and shared memory: four columns at a time, always the same columns for the same thread, aligned or not.
#pragma once
#include "core/tensor.h"
#include "cuda/device.h"
#include "cuda/limits.h"

namespace limbeck::cuda {

LIMBECK_DEVICE bool aligned16(const void* p) { return (reinterpret_cast<uintptr_t>(p) & 15) == 0; }

// Columns first..first+3 of a row, `absent` beyond its end.
LIMBECK_DEVICE void load_chunk(const float* row, int64_t first, int64_t cols, bool aligned, float absent, float (&out)[4]) {
  if (aligned && first + 4 <= cols) {
    const Float4 v = ld4(row, first);
    out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
  } else {
    for (int i = 0; i < 4; i++) out[i] = first + i < cols ? ld(row, first + i) : absent;
  }
}

LIMBECK_DEVICE void load_chunk(const Shared<float>& row, int first, int cols, float absent, float (&out)[4]) {
  const Float4 v = ld4_shared(row, first);
  out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
  for (int i = 0; i < 4; i++) out[i] = first + i < cols ? out[i] : absent;
}

LIMBECK_DEVICE void store_chunk(float* row, int64_t first, int64_t cols, bool aligned, const float (&v)[4]) {
  if (aligned && first + 4 <= cols) {
    st4(row, first, Float4{v[0], v[1], v[2], v[3]});
  } else {
    for (int i = 0; i < 4; i++)
      if (first + i < cols) st(row, first + i, v[i]);
  }
}

// A whole row into shared memory (padded to a multiple of 4). Neighbouring threads read neighbouring addresses either way.
template <class Group> LIMBECK_DEVICE void stage(const Group& group, const float* row, int cols, const Shared<float>& to) {
  if (aligned16(row)) {
    for (int c = group.rank() * 4; c + 4 <= cols; c += group.size() * 4) st4_shared(to, c, ld4(row, c));
    const int c = (cols & ~3) + group.rank();
    if (c < ((cols + 3) & ~3)) to[c] = c < cols ? ld(row, c) : 0.0f;
  } else {
    for (int c = group.rank(); c < ((cols + 3) & ~3); c += group.size()) to[c] = c < cols ? ld(row, c) : 0.0f;
  }
}

template <class Group> LIMBECK_DEVICE void fill_row(const Group& group, float* row, int64_t cols, float value) {
  const bool aligned = aligned16(row);
  const float v[4] = {value, value, value, value};
  if (aligned) {
    for (int64_t c = int64_t(group.rank()) * 4; c < cols; c += int64_t(group.size()) * 4) store_chunk(row, c, cols, true, v);
  } else {
    for (int64_t c = group.rank(); c < cols; c += group.size()) st(row, c, value);
  }
}

// How rows of `cols` columns are dealt out: a function of the shape and the device only, so a row's bits depend on nothing else.
struct RowPlan {
  bool block = false;   // a block per row, else a warp
  bool staged = false;  // the row waits in shared memory
  Launch launch;
};

// `row_bytes`: staged bytes of one row. `fixed_bytes`: shared memory needed in any case, per row.
inline RowPlan plan_rows(const Context& ctx, int64_t rows, int64_t cols, int64_t row_bytes, int64_t fixed_bytes) {
  const Limits& device = limits(ctx);
  RowPlan plan;
  plan.block = cols > 1024;
  const int rows_per_block = plan.block ? 1 : 4;
  plan.launch.block = !plan.block ? 128 : cols <= 2048 ? 128 : cols <= 8192 ? 256 : 512;
  plan.staged = row_bytes > 0 && (row_bytes + fixed_bytes) * rows_per_block <= device.shared_bytes;
  plan.launch.shared_bytes = size_t((plan.staged ? row_bytes + fixed_bytes : fixed_bytes) * rows_per_block);
  const int64_t blocks = (rows + rows_per_block - 1) / rows_per_block, most = int64_t(device.multiprocessors) * 64;
  plan.launch.grid = blocks < most ? blocks : most;
  return plan;
}

// Element-wise launches: a grid that strides over any size.
inline Launch plan_elements(const Context& ctx, int64_t size) {
  Launch launch;
  const int64_t blocks = (size + 1023) / 1024, most = int64_t(limits(ctx).multiprocessors) * 16;
  launch.grid = blocks < most ? blocks : most;
  return launch;
}
LIMBECK_DEVICE int64_t first_element() { return int64_t(block_index()) * block_size() + thread_index(); }
LIMBECK_DEVICE int64_t element_step() { return int64_t(grid_size()) * block_size(); }

}  // namespace limbeck::cuda
