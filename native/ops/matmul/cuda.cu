// c = scale·op(a)·op(b) on CUDA, added to c where asked for: cuBLAS where the host has it, else tiles through shared memory in a fixed order of sums.
// Two operands of one half type are multiplied on tensor cores; everything else in float32, widened as it is loaded.
#include "core/lanes.h"
#include "cuda/cublas.h"
#include "cuda/rows.h"
#include "cuda/tiles.h"

namespace limbeck::cuda {
namespace {

// ---- float32 and mixed types

constexpr int kTile = 64, kDepth = 16;
constexpr int64_t kTerms = 512;  // products summed before they join the total

// An element of a matrix is at row·row_step + col·col_step: a transpose is the two steps exchanged.
template <class Data> struct Matrix {
  Data data;
  int64_t row_step, col_step;
};

LIMBECK_DEVICE float element(const float* x, int64_t i) { return ld(x, i); }
LIMBECK_DEVICE float element(const AnyIn& x, int64_t i) { return ld(x, i); }

// Four neighbours of a row of c: what was summed times scale, and what is there already.
LIMBECK_DEVICE void finish_chunk(const AnyOut& c, int64_t row, int64_t col, int64_t n, int64_t stride, bool accumulate, float scale, float (&v)[4]) {
  const AnyOut c_row = offset(c, row * stride);
  const bool aligned = aligned4(c_row);
  float there[4] = {0, 0, 0, 0};
  if (accumulate) load_chunk(AnyIn(c_row.data, c_row.dtype), col, n, aligned, 0.0f, there);
  for (int j = 0; j < 4; j++) v[j] = there[j] + scale * v[j];
  store_chunk(c_row, col, n, aligned, v);
}

template <class Data>
LIMBECK_KERNEL void LIMBECK_BOUNDS_OF(256, 3) matmul_tiles(Matrix<Data> a, Matrix<Data> b, AnyOut c, int64_t m, int64_t n, int64_t k, int64_t c_stride, int64_t tiles_n, int64_t tiles,
                                                     bool accumulate, float scale) {
  SHARED(float, a_tile, kDepth * kTile);
  SHARED(float, b_tile, kDepth * kTile);
  const int tx = thread_index() % 16, ty = thread_index() / 16;
  for (int64_t tile = block_index(); tile < tiles; tile += grid_size()) {
    const int64_t row0 = tile / tiles_n * kTile, col0 = tile % tiles_n * kTile;
    float total[4][4] = {}, part[4][4] = {};
    for (int64_t depth = 0; depth < k; depth += kDepth) {
      sync_block();
      for (int i = thread_index(); i < kTile * kDepth; i += 256) {
        // Neighbouring threads follow the step that is 1.
        const int ad = a.col_step == 1 ? i % kDepth : i / kTile, ar = a.col_step == 1 ? i / kDepth : i % kTile;
        a_tile[ad * kTile + ar] = row0 + ar < m && depth + ad < k ? element(a.data, (row0 + ar) * a.row_step + (depth + ad) * a.col_step) : 0.0f;
        const int bd = b.col_step == 1 ? i / kTile : i % kDepth, bc = b.col_step == 1 ? i % kTile : i / kDepth;
        b_tile[bd * kTile + bc] = col0 + bc < n && depth + bd < k ? element(b.data, (depth + bd) * b.row_step + (col0 + bc) * b.col_step) : 0.0f;
      }
      sync_block();
      for (int d = 0; d < kDepth; d++) {
        const Float4 u = ld4_shared(a_tile, d * kTile + ty * 4), v = ld4_shared(b_tile, d * kTile + tx * 4);
        const float us[4] = {u.x, u.y, u.z, u.w}, vs[4] = {v.x, v.y, v.z, v.w};
        for (int i = 0; i < 4; i++)
          for (int j = 0; j < 4; j++) part[i][j] = fma_(us[i], vs[j], part[i][j]);
      }
      if ((depth + kDepth) % kTerms != 0 && depth + kDepth < k) continue;
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) total[i][j] += part[i][j], part[i][j] = 0;
    }
    for (int i = 0; i < 4; i++) {
      const int64_t row = row0 + ty * 4 + i, col = col0 + tx * 4;
      if (row < m && col < n) finish_chunk(c, row, col, n, c_stride, accumulate, scale, total[i]);
    }
  }
}

// A block's tile of c where there are tiles enough for all multiprocessors, and how many steps of it are in shared memory or on their way.
constexpr int kSide = 128, kStages = 3;
constexpr int kGroup = 8;  // rows of tiles that walk the columns together, so that both operands stay in L2

struct Origin {
  int64_t row, col;
};

LIMBECK_DEVICE Origin origin_of_block(int64_t m, int64_t n) {
  const int64_t tiles_m = (m + kSide - 1) / kSide, tiles_n = (n + kSide - 1) / kSide, in_group = kGroup * tiles_n;
  const int64_t group0 = block_index() / in_group * kGroup, group = tiles_m - group0 < kGroup ? tiles_m - group0 : kGroup;
  return {(group0 + block_index() % in_group % group) * kSide, block_index() % in_group / group * kSide};
}

// A step of an operand from (side0, depth0) on into shared memory, zeros beyond the matrix: 16 bytes at a time behind the threads' backs where its
// lines begin at multiples of them; only where a line ends, elements one by one.
template <class Part, class T>
LIMBECK_DEVICE void stage_step(const Shared<T>& to, const T* from, int64_t side0, int64_t depth0, int64_t sides, int64_t depths, int64_t stride, bool aligned) {
  constexpr int kWide = 16 / int(sizeof(T)), kLines = Part::kDeep ? kSide : Part::kDepth, kRun = Part::kDeep ? Part::kDepth : kSide;
  const int64_t line0 = Part::kDeep ? side0 : depth0, first = Part::kDeep ? depth0 : side0, lines = Part::kDeep ? sides : depths, run = Part::kDeep ? depths : sides;
  const auto place = [](int line, int at) { return Part::kDeep ? Part::at(line, at) : Part::at(at, line); };
  if (aligned) {
    LIMBECK_ROLLED
    for (int i = thread_index(); i < kLines * kRun / kWide; i += 256) {
      const int line = i / (kRun / kWide), at = i % (kRun / kWide) * kWide, to_at = place(line, at);
      const int64_t from_at = (line0 + line) * stride + first + at, left = line0 + line < lines ? run - first - at : 0;
      if (left >= kWide) {
        copy_async16(to, to_at, from, from_at);
      } else {
        LIMBECK_ROLLED
        for (int j = 0; j < kWide; j++) st_shared(to, to_at + j, j < left ? ld_readonly(from, from_at + j) : T{});
      }
    }
  } else {
    LIMBECK_ROLLED
    for (int i = thread_index(); i < kLines * kRun; i += 256) {
      const int line = i / kRun, at = i % kRun;
      st_shared(to, place(line, at), line0 + line < lines && first + at < run ? ld_readonly(from, (line0 + line) * stride + first + at) : T{});
    }
  }
}

// ---- float32, where there are many tiles: 8×8 sums of a thread, and steps that arrive while others are multiplied

// A step of an operand in shared memory, of 10,240 bytes at most. Lines along the depth lie so that neighbouring threads' ones follow each other,
// 20 elements apart: their reads of 16 bytes meet in no bank.
template <bool deep> struct FloatStep {
  static constexpr bool kDeep = deep;
  static constexpr int kDepth = cuda::kDepth, kElements = deep ? kSide * (kDepth + 4) : kDepth * kSide;
  LIMBECK_DEVICE static int at(int side, int depth) { return deep ? (side % 4 * (kSide / 4) + side / 4) * (kDepth + 4) + depth : depth * kSide + side; }
};

// Four neighbours of a side by four of the depth.
template <bool deep> LIMBECK_DEVICE void load_floats(const Shared<float>& from, int side, int depth, float (&v)[4][4]) {
  LIMBECK_UNROLL
  for (int i = 0; i < 4; i++) {
    const Float4 u = ld4_shared(from, deep ? FloatStep<deep>::at(side + i, depth) : FloatStep<deep>::at(side, depth + i));
    const float us[4] = {u.x, u.y, u.z, u.w};
    LIMBECK_UNROLL
    for (int j = 0; j < 4; j++) (deep ? v[i][j] : v[j][i]) = us[j];
  }
}

// left_deep: a is [m, k], else [k, m]. right_deep: b is [n, k], else [k, n]. Sums are taken in the order of matmul_tiles: the same bits.
template <bool left_deep, bool right_deep>
LIMBECK_KERNEL void LIMBECK_BOUNDS_OF(256, 1) matmul_floats(const float* a, const float* b, AnyOut c, int64_t m, int64_t n, int64_t k, int64_t a_stride, int64_t b_stride, int64_t c_stride, bool accumulate, float scale) {
  constexpr int kLeft = FloatStep<left_deep>::kElements, kBoth = kLeft + FloatStep<right_deep>::kElements;
  SHARED_DYN(float, memory);
  const auto left_of = [&](int64_t step) { return memory.template slice<float>(int(step % kStages) * kBoth * 4, kLeft); };
  const auto right_of = [&](int64_t step) { return memory.template slice<float>((int(step % kStages) * kBoth + kLeft) * 4, kBoth - kLeft); };
  const auto [row0, col0] = origin_of_block(m, n);
  // A thread's rows and columns are four from here on, and four half a tile further.
  const int row = thread_index() / 16 * 4, col = thread_index() % 16 * 4;
  const bool is_busy = row0 + row < m && col0 + col < n;
  const int64_t steps = (k + kDepth - 1) / kDepth;
  const bool left_aligned = a_stride % 4 == 0 && (reinterpret_cast<uintptr_t>(a) & 15) == 0, right_aligned = b_stride % 4 == 0 && (reinterpret_cast<uintptr_t>(b) & 15) == 0;
  const auto stage = [&](int64_t step) {
    if (step < steps) {
      stage_step<FloatStep<left_deep>>(left_of(step), a, row0, step * kDepth, m, k, a_stride, left_aligned);
      stage_step<FloatStep<right_deep>>(right_of(step), b, col0, step * kDepth, n, k, b_stride, right_aligned);
    }
    copy_async_commit();
  };

  float total[8][8] = {}, part[8][8] = {};
  for (int step = 0; step < kStages - 1; step++) stage(step);
  for (int64_t step = 0; step < steps; step++) {
    // The step has arrived, and nobody reads any more where the one after the next goes.
    copy_async_wait<kStages - 2>();
    sync_block();
    stage(step + kStages - 1);
    if (!is_busy) continue;
    const Shared<float> left_step = left_of(step), right_step = right_of(step);
    LIMBECK_ROLLED
    for (int depth = 0; depth < kDepth; depth += 4) {
      float left[2][4][4];
      load_floats<left_deep>(left_step, row, depth, left[0]);
      load_floats<left_deep>(left_step, row + kSide / 2, depth, left[1]);
      LIMBECK_UNROLL
      for (int half = 0; half < 2; half++) {
        float right[4][4];
        load_floats<right_deep>(right_step, col + half * (kSide / 2), depth, right);
        LIMBECK_UNROLL
        for (int d = 0; d < 4; d++)
          LIMBECK_UNROLL
          for (int i = 0; i < 8; i++)
            LIMBECK_UNROLL
            for (int j = 0; j < 4; j++) part[i][half * 4 + j] = fma_(left[i / 4][i % 4][d], right[j][d], part[i][half * 4 + j]);
      }
    }
    if ((step + 1) * kDepth % kTerms != 0 && step + 1 < steps) continue;
    LIMBECK_UNROLL
    for (int i = 0; i < 8; i++)
      LIMBECK_UNROLL
      for (int j = 0; j < 8; j++) total[i][j] += part[i][j], part[i][j] = 0;
  }
  if (!is_busy) return;
  LIMBECK_UNROLL
  for (int i = 0; i < 8; i++) {
    const int64_t line = row0 + row + i / 4 * (kSide / 2) + i % 4;
    LIMBECK_UNROLL
    for (int half = 0; half < 2; half++) {
      const int64_t first = col0 + col + half * (kSide / 2);
      float v[4] = {total[i][half * 4], total[i][half * 4 + 1], total[i][half * 4 + 2], total[i][half * 4 + 3]};
      if (line < m && first < n) finish_chunk(c, line, first, n, c_stride, accumulate, scale, v);
    }
  }
}

// ---- half types on tensor cores

// The depth of a step: 61,440 bytes of shared memory at most, as sm_75 has no more.
constexpr int kStep = 32;
constexpr int kWarpRows = 4, kWarpCols = 2;  // 16×16 tiles of a warp: 64×32 of the block's 128×128
constexpr int kOutStride = 36;               // of a row of tiles on its way out: 32 columns and padding

// A step of an operand in shared memory, lines as they are in global memory. Eight elements of padding: lines begin in different banks.
template <bool deep> struct Step {
  static constexpr bool kDeep = deep;
  static constexpr int kDepth = kStep, kStride = (deep ? kStep : kSide) + 8, kElements = (deep ? kSide : kStep) * kStride;
  // Where the element lies that is `side` rows (columns, for the right operand) and `depth` into the step.
  LIMBECK_DEVICE static int at(int side, int depth) { return deep ? side * kStride + depth : depth * kStride + side; }
};

// left_deep: a is [m, k], else [k, m]. right_deep: b is [n, k], else [k, n].
template <class T, bool left_deep, bool right_deep>
LIMBECK_KERNEL void LIMBECK_BOUNDS_OF(256, 2) matmul_halves(const T* a, const T* b, AnyOut c, int64_t m, int64_t n, int64_t k, int64_t a_stride, int64_t b_stride, int64_t c_stride, bool accumulate, float scale) {
  using Left = Step<left_deep>;
  using Right = Step<right_deep>;
  SHARED_DYN(T, memory);
  const auto left_of = [&](int64_t step) { return memory.template slice<T>(int(step % kStages) * (Left::kElements + Right::kElements) * 2, Left::kElements); };
  const auto right_of = [&](int64_t step) {
    return memory.template slice<T>((int(step % kStages) * (Left::kElements + Right::kElements) + Left::kElements) * 2, Right::kElements);
  };
  const auto [row0, col0] = origin_of_block(m, n);
  const int warp_row = warp() / 4 * 16 * kWarpRows, warp_col = warp() % 4 * 16 * kWarpCols;
  const bool is_busy = row0 + warp_row < m && col0 + warp_col < n;
  const int64_t steps = (k + kStep - 1) / kStep;
  const bool left_aligned = a_stride % 8 == 0 && (reinterpret_cast<uintptr_t>(a) & 15) == 0, right_aligned = b_stride % 8 == 0 && (reinterpret_cast<uintptr_t>(b) & 15) == 0;
  const auto stage = [&](int64_t step) {
    if (step < steps) {
      stage_step<Left>(left_of(step), a, row0, step * kStep, m, k, a_stride, left_aligned);
      stage_step<Right>(right_of(step), b, col0, step * kStep, n, k, b_stride, right_aligned);
    }
    copy_async_commit();
  };

  SumTile<T> sum[kWarpRows][kWarpCols];
  LIMBECK_UNROLL
  for (int i = 0; i < kWarpRows; i++)
    LIMBECK_UNROLL
    for (int j = 0; j < kWarpCols; j++) clear_tile(sum[i][j]);
  for (int step = 0; step < kStages - 1; step++) stage(step);
  for (int64_t step = 0; step < steps; step++) {
    // The step has arrived, and nobody reads any more where the one after the next goes.
    copy_async_wait<kStages - 2>();
    sync_block();
    stage(step + kStages - 1);
    if (!is_busy) continue;
    const Shared<T> left_step = left_of(step), right_step = right_of(step);
    for (int depth = 0; depth < kStep; depth += 16) {
      RightTile<T, right_deep> right[kWarpCols];
      LIMBECK_UNROLL
      for (int j = 0; j < kWarpCols; j++) load_tile(right[j], right_step, Right::at(warp_col + j * 16, depth), Right::kStride);
      LIMBECK_UNROLL
      for (int i = 0; i < kWarpRows; i++) {
        LeftTile<T, left_deep> left;
        load_tile(left, left_step, Left::at(warp_row + i * 16, depth), Left::kStride);
        LIMBECK_UNROLL
        for (int j = 0; j < kWarpCols; j++) multiply_add(sum[i][j], left, right[j]);
      }
    }
  }

  // A row of tiles at a time through the warp's own piece of the memory that the steps had.
  sync_block();
  if (!is_busy) return;
  const Shared<float> out = memory.template slice<float>(warp() * 16 * kOutStride * 4, 16 * kOutStride);
  LIMBECK_UNROLL
  for (int i = 0; i < kWarpRows; i++) {
    sync_warp();
    LIMBECK_UNROLL
    for (int j = 0; j < kWarpCols; j++) store_tile(out, j * 16, kOutStride, sum[i][j]);
    sync_warp();
    LIMBECK_ROLLED
    for (int line = lane() / 8; line < 16; line += 4) {
      const int64_t row = row0 + warp_row + i * 16 + line, col = col0 + warp_col + lane() % 8 * 4;
      if (row >= m || col >= n) continue;
      const Float4 u = ld4_shared(out, line * kOutStride + lane() % 8 * 4);
      float v[4] = {u.x, u.y, u.z, u.w};
      finish_chunk(c, row, col, n, c_stride, accumulate, scale, v);
    }
  }
}

template <class T, bool left_deep, bool right_deep> void launch_halves(Context& ctx, const Product& p) {
  const int64_t tiles = ((p.m + kSide - 1) / kSide) * ((p.n + kSide - 1) / kSide);
  const size_t bytes = size_t(kStages) * (Step<left_deep>::kElements + Step<right_deep>::kElements) * sizeof(T);
  launch(ctx, "matmul_halves", matmul_halves<T, left_deep, right_deep>, Launch{tiles, 256, 1, bytes}, p.a.as<T>(), p.b.as<T>(), p.c, p.m, p.n, p.k, p.a_stride, p.b_stride, p.c_stride, p.accumulate, p.scale);
}

template <class T> void multiply_halves(Context& ctx, const Product& p) {
  if (p.transpose_a) p.transpose_b ? launch_halves<T, false, true>(ctx, p) : launch_halves<T, false, false>(ctx, p);
  else p.transpose_b ? launch_halves<T, true, true>(ctx, p) : launch_halves<T, true, false>(ctx, p);
}

template <class Data> void multiply_floats(Context& ctx, const Product& p, Data a, Data b) {
  const Matrix<Data> left{a, p.transpose_a ? 1 : p.a_stride, p.transpose_a ? p.a_stride : 1}, right{b, p.transpose_b ? 1 : p.b_stride, p.transpose_b ? p.b_stride : 1};
  const int64_t tiles_n = (p.n + kTile - 1) / kTile, tiles = (p.m + kTile - 1) / kTile * tiles_n, most = int64_t(limits(ctx).multiprocessors) * 64;
  launch(ctx, "matmul", matmul_tiles<Data>, Launch{tiles < most ? tiles : most, 256}, left, right, p.c, p.m, p.n, p.k, p.c_stride, tiles_n, tiles, p.accumulate, p.scale);
}

template <bool left_deep, bool right_deep> void launch_floats(Context& ctx, const Product& p, int64_t tiles) {
  constexpr size_t bytes = size_t(kStages) * (FloatStep<left_deep>::kElements + FloatStep<right_deep>::kElements) * sizeof(float);
  launch(ctx, "matmul_floats", matmul_floats<left_deep, right_deep>, Launch{tiles, 256, 1, bytes}, p.a.as<float>(), p.b.as<float>(), p.c, p.m, p.n, p.k, p.a_stride, p.b_stride, p.c_stride, p.accumulate, p.scale);
}

// Fewer large tiles than multiprocessors leave some idle, and narrow products half of a tile: small ones then.
void multiply_float32(Context& ctx, const Product& p) {
  const int64_t tiles = ((p.m + kSide - 1) / kSide) * ((p.n + kSide - 1) / kSide);
  if (tiles < limits(ctx).multiprocessors || p.m <= kTile || p.n <= kTile) return multiply_floats(ctx, p, p.a.as<float>(), p.b.as<float>());
  if (p.transpose_a) p.transpose_b ? launch_floats<false, true>(ctx, p, tiles) : launch_floats<false, false>(ctx, p, tiles);
  else p.transpose_b ? launch_floats<true, true>(ctx, p, tiles) : launch_floats<true, false>(ctx, p, tiles);
}

}  // namespace

void matmul(Context& ctx, In a, In b, Out c, Int m, Int n, Int k, Int a_stride, Int b_stride, Int c_stride, Int transpose_a, Int transpose_b, Int accumulate, Float scale) {
  const Product product{a, b, c, m, n, k, a_stride, b_stride, c_stride, transpose_a != 0, transpose_b != 0, accumulate != 0, float(scale)};
  if (m == 0 || n == 0 || multiplied_by_cublas(ctx, product) || !ctx.ok()) return;
  if (a.dtype == DType::bfloat16 && b.dtype == DType::bfloat16) multiply_halves<BFloat16>(ctx, product);
  else if (a.dtype == DType::float16 && b.dtype == DType::float16) multiply_halves<Float16>(ctx, product);
  else if (a.dtype == DType::float32 && b.dtype == DType::float32) multiply_float32(ctx, product);
  else multiply_floats<AnyIn>(ctx, product, a, b);
}

}  // namespace limbeck::cuda
