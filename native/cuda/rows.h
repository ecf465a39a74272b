// Rows in global and shared memory: four columns at a time, always the same columns for the same thread, aligned or not.
#pragma once
#include "core/tensor.h"
#include "cuda/device.h"
#include "cuda/limits.h"

namespace limbeck::cuda {

// Numbers stored as float32, float16 or bfloat16: which, is the same for all threads. They are computed on as floats and rounded once.
struct AnyIn {
  const void* data = nullptr;
  DType dtype = DType::float32;
  AnyIn() = default;
  AnyIn(In x) : data(x.data), dtype(x.dtype) {}
  LIMBECK_DEVICE AnyIn(const void* at, DType type) : data(at), dtype(type) {}
  LIMBECK_DEVICE explicit operator bool() const { return data != nullptr; }
};
struct AnyOut {
  void* data = nullptr;
  DType dtype = DType::float32;
  AnyOut() = default;
  AnyOut(Out y) : data(y.data), dtype(y.dtype) {}
  LIMBECK_DEVICE AnyOut(void* at, DType type) : data(at), dtype(type) {}
  LIMBECK_DEVICE explicit operator bool() const { return data != nullptr; }
};

// f(pointer of the type that is there).
template <class F> LIMBECK_DEVICE auto with_type(const AnyIn& x, F f) {
  if (x.dtype == DType::bfloat16) return f(static_cast<const BFloat16*>(x.data));
  if (x.dtype == DType::float16) return f(static_cast<const Float16*>(x.data));
  return f(static_cast<const float*>(x.data));
}
template <class F> LIMBECK_DEVICE auto with_type(const AnyOut& y, F f) {
  if (y.dtype == DType::bfloat16) return f(static_cast<BFloat16*>(y.data));
  if (y.dtype == DType::float16) return f(static_cast<Float16*>(y.data));
  return f(static_cast<float*>(y.data));
}

// The same, `i` elements further on; nothing stays nothing.
template <class Any> LIMBECK_DEVICE Any offset(const Any& x, int64_t i) {
  if (!x) return x;
  return with_type(x, [&](auto* p) { return Any(p + i, x.dtype); });
}

LIMBECK_DEVICE float ld(const AnyIn& x, int64_t i) {
  return with_type(x, [&](auto* p) { return to_float(ld(p, i)); });
}
LIMBECK_DEVICE void st(const AnyOut& y, int64_t i, float v) {
  with_type(y, [&](auto* p) { st(p, i, from_float<std::remove_pointer_t<decltype(p)>>(v)); });
}

// Whether four elements can be one access, from here and from every fourth element on.
template <class T> LIMBECK_DEVICE bool aligned4(const T* p) { return (reinterpret_cast<uintptr_t>(p) & (4 * sizeof(T) - 1)) == 0; }
LIMBECK_DEVICE bool aligned4(const AnyIn& x) {
  return with_type(x, [&](auto* p) { return aligned4(p); });
}
LIMBECK_DEVICE bool aligned4(const AnyOut& y) {
  return with_type(y, [&](auto* p) { return aligned4(p); });
}

// Columns first..first+3 of a row, `absent` beyond its end.
template <class T> LIMBECK_DEVICE void load_chunk(const T* row, int64_t first, int64_t cols, bool aligned, float absent, float (&out)[4]) {
  if (aligned && first + 4 <= cols) {
    const Float4 v = ld4(row, first);
    out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
  } else {
    for (int i = 0; i < 4; i++) out[i] = first + i < cols ? to_float(ld(row, first + i)) : absent;
  }
}
LIMBECK_DEVICE void load_chunk(const AnyIn& row, int64_t first, int64_t cols, bool aligned, float absent, float (&out)[4]) {
  with_type(row, [&](auto* p) { load_chunk(p, first, cols, aligned, absent, out); });
}

LIMBECK_DEVICE void load_chunk(const Shared<float>& row, int first, int cols, float absent, float (&out)[4]) {
  const Float4 v = ld4_shared(row, first);
  out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
  for (int i = 0; i < 4; i++) out[i] = first + i < cols ? out[i] : absent;
}

template <class T> LIMBECK_DEVICE void store_chunk(T* row, int64_t first, int64_t cols, bool aligned, const float (&v)[4]) {
  if (aligned && first + 4 <= cols) {
    st4(row, first, Float4{v[0], v[1], v[2], v[3]});
  } else {
    for (int i = 0; i < 4; i++)
      if (first + i < cols) st(row, first + i, from_float<T>(v[i]));
  }
}
LIMBECK_DEVICE void store_chunk(const AnyOut& row, int64_t first, int64_t cols, bool aligned, const float (&v)[4]) {
  with_type(row, [&](auto* p) { store_chunk(p, first, cols, aligned, v); });
}

// A run of a row in shared memory, in the type it came in: 16-byte aligned, room up to a multiple of 4 elements.
struct StagedRow {
  Shared<float> memory;
  DType dtype;
};

template <class F> LIMBECK_DEVICE auto with_type(const StagedRow& row, F f) {
  if (row.dtype == DType::bfloat16) return f(row.memory.slice<BFloat16>(0, row.memory.size * 2));
  if (row.dtype == DType::float16) return f(row.memory.slice<Float16>(0, row.memory.size * 2));
  return f(row.memory);
}

LIMBECK_DEVICE float staged_at(const StagedRow& row, int i) {
  return with_type(row, [&](const auto& s) { return to_float(ld_shared(s, i)); });
}
LIMBECK_DEVICE void stage_at(const StagedRow& row, int i, float v) {
  with_type(row, [&](const auto& s) { st_shared(s, i, from_float<std::remove_pointer_t<decltype(s.data)>>(v)); });
}
LIMBECK_DEVICE void load_chunk(const StagedRow& row, int first, int cols, float absent, float (&out)[4]) {
  const Float4 v = with_type(row, [&](const auto& s) { return ld4_shared(s, first); });
  out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
  for (int i = 0; i < 4; i++) out[i] = first + i < cols ? out[i] : absent;
}
// The same where what is absent beyond the end was staged with the row.
LIMBECK_DEVICE void load_staged(const StagedRow& row, int first, float (&out)[4]) {
  const Float4 v = with_type(row, [&](const auto& s) { return ld4_shared(s, first); });
  out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
}
LIMBECK_DEVICE void stage_chunk(const StagedRow& row, int first, const float (&v)[4]) {
  with_type(row, [&](const auto& s) { st4_shared(s, first, Float4{v[0], v[1], v[2], v[3]}); });
}

// f(column) for those of this block among a run's columns [from, to), neighbours by neighbours.
template <class Group, class F> LIMBECK_DEVICE void own_columns(const Group& group, int from, int to, F f) {
  for (int i = group.before_column(from) + group.own_rank();; i += group.own_size()) {
    const int c = group.column(i);
    if (c >= to) break;
    f(c);
  }
}

// This block's of `cols` elements as they are, 16 bytes at a time behind the threads' backs where the addresses allow it, and `absent` up to
// a multiple of four. A sync of the group must follow.
template <class Group> LIMBECK_DEVICE void stage(const Group& group, const AnyIn& from, int cols, const StagedRow& to, float absent) {
  with_type(from, [&](auto* p) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(p)>>;
    constexpr int kPiece = int(16 / sizeof(T));
    const Shared<T> row = to.memory.slice<T>(0, to.memory.size * int(4 / sizeof(T)));
    const int whole = (reinterpret_cast<uintptr_t>(p) & 15) == 0 ? cols / kPiece * kPiece : 0;
    for (int c = group.column(group.own_rank() * kPiece); c < whole; c += group.size() * kPiece) copy_async16(row, c, p, c);
    copy_async_commit();
    own_columns(group, whole, (cols + 3) & ~3, [&](int c) { st_shared(row, c, c < cols ? ld(p, c) : from_float<T>(absent)); });
    copy_async_wait<0>();
  });
}

template <class Group> LIMBECK_DEVICE void fill_row(const Group& group, const AnyOut& row, int64_t cols, float value) {
  const float v[4] = {value, value, value, value};
  with_type(row, [&](auto* p) {
    if (aligned4(p)) {
      for (int64_t c = int64_t(group.rank()) * 4; c < cols; c += int64_t(group.size()) * 4) store_chunk(p, c, cols, true, v);
    } else {
      for (int64_t c = group.rank(); c < cols; c += group.size()) st(p, c, from_float<std::remove_pointer_t<decltype(p)>>(value));
    }
  });
}

// How rows of `cols` columns are dealt out: a function of the shape and the device only, so a row's bits depend on nothing else.
struct RowPlan {
  bool block = false;  // a block per row, else a warp
  Launch launch;
};

inline RowPlan plan_rows(const Context& ctx, int64_t rows, int64_t cols) {
  RowPlan plan;
  plan.block = cols > 1024;
  const int rows_per_block = plan.block ? 1 : 4;
  plan.launch.block = !plan.block ? 128 : cols <= 2048 ? 128 : cols <= 8192 ? 256 : 512;
  const int64_t blocks = (rows + rows_per_block - 1) / rows_per_block, most = int64_t(limits(ctx).multiprocessors) * 64;
  plan.launch.grid = blocks < most ? blocks : most;
  return plan;
}

// How rows are dealt out to clusters: the fewest blocks with which two fit a multiprocessor, so that one loads while the other computes;
// else as many as there can be; else the row is read from global memory in every walk. A function of the shape and the device only.
struct ClusterPlan {
  bool cluster = false;  // a cluster of blocks per row, else a warp
  bool staged = false;
  int64_t segment = 0;  // columns of a block's run, a multiple of 8
  int parts = 1;        // blocks that share a run
  Launch launch;
};

// `bytes_per_col`: staged bytes of a column. fixed(columns): shared memory of a run in any case. Rows up to `warp_cols` get a warp.
template <class Fixed> ClusterPlan plan_clusters(const Context& ctx, int64_t rows, int64_t cols, int64_t bytes_per_col, Fixed fixed, int64_t warp_cols = 1024) {
  const Limits device = limits(ctx);
  ClusterPlan plan;
  plan.cluster = cols > warp_cols;
  const int most_blocks = plan.cluster && device.clusters ? 8 : 1, rows_per_block = plan.cluster ? 1 : 4;
  auto bytes = [&](int64_t segment) { return (segment * bytes_per_col + fixed(segment)) * rows_per_block; };
  int size = 1;
  auto segment_of = [&](int blocks) { return ((cols + blocks - 1) / blocks + 7) / 8 * 8; };
  while (size < most_blocks && bytes(segment_of(size)) > device.shared_bytes / 2) size *= 2;
  plan.staged = bytes(segment_of(size)) <= device.shared_bytes;
  if (!plan.staged) size = 1;
  plan.segment = segment_of(size);
  plan.launch.cluster = size;
  plan.launch.block = !plan.cluster || plan.segment <= 2048 ? 128 : 256;
  plan.launch.shared_bytes = size_t(plan.staged ? bytes(plan.segment) : fixed(plan.segment) * rows_per_block);
  const int64_t blocks = plan.cluster ? rows * size : (rows + 3) / 4, most = int64_t(device.multiprocessors) * 64;
  plan.launch.grid = blocks < most ? blocks : most / size * size;
  return plan;
}

// Fewer rows than the device has room for: several blocks to a run, each with a part of the warps. Every thread keeps its columns and every
// merge its order, so the number of rows, which decides, does not show in a row's bits. A block asks for a whole run's memory and leaves the
// others' columns of it empty: there is memory enough where there are fewer blocks than multiprocessors.
inline void share_runs(const Context& ctx, int64_t rows, ClusterPlan& plan) {
  const Limits device = limits(ctx);
  if (!plan.cluster || !device.clusters) return;
  while (plan.launch.cluster < 8 && plan.launch.block > 32 && rows * plan.launch.cluster * 2 <= device.multiprocessors) {
    plan.parts *= 2, plan.launch.cluster *= 2, plan.launch.block /= 2;
  }
  if (plan.parts > 1) plan.launch.grid = rows * plan.launch.cluster;
}

// The same where no bit depends on how the row is cut, as sums are integers: shorter runs, of `least_cols` at least.
inline void shorten_runs(const Context& ctx, int64_t rows, int64_t cols, int64_t least_cols, ClusterPlan& plan) {
  const Limits device = limits(ctx);
  if (!plan.cluster || !device.clusters || !plan.staged) return;
  while (plan.launch.cluster < 8 && rows * plan.launch.cluster * 2 <= device.multiprocessors && plan.segment >= 2 * least_cols) {
    plan.launch.cluster *= 2;
    plan.segment = ((cols + plan.launch.cluster - 1) / plan.launch.cluster + 7) / 8 * 8;
    plan.launch.grid = rows * plan.launch.cluster;
  }
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
