// c = scale·op(a)·op(b) on the CPU: blocks of b packed once, tiles of c kept in registers. An element's sum runs over k in order, whatever the threads.
// Half types are widened a block at a time and multiplied as floats.
#pragma once

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

// Tile height by lane width: accumulators, two vectors of b and one of a fill the registers.
template <class V> constexpr int kTileRows = lane<V>::width == 16 ? 14 : lane<V>::width == 8 ? 6 : lane<V>::width == 4 ? 8 : 4;
constexpr int kTileVectors = 2;
constexpr Int kDepth = 256, kPanelCols = 4096;

template <class S> struct Matrix {
  S* data;
  Int row, col;  // strides
};

// A matrix as it lies, `row` elements from line to line, and whether it is read transposed.
template <class S> struct Stored {
  const S* data;
  Int row;
  bool transposed;
  Matrix<const S> matrix() const { return transposed ? Matrix<const S>{data, 1, row} : Matrix<const S>{data, row, 1}; }
};

// R rows by N vectors of c; `part` columns of the last vector exist. b is packed in rows of kTileVectors vectors.
template <class V, class S, int R, int N>
__attribute__((noinline)) void matmul_tile(Int depth, Matrix<const S> a, const S* b, S* c, Int c_row, Int part, bool add) {
  constexpr Int W = lane<V>::width;
  V sum[R][N];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) sum[i][j] = splat<V>(0);
  for (Int p = 0; p < depth; ++p) {
    V row[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) row[j] = vec<V>::load(b + p * kTileVectors * W + j * W);
    const S* left = a.data + p * a.col;
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const V value = spread<V>(left[i * a.row]);
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) sum[i][j] = fma_(value, row[j], sum[i][j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) {
      S* at = c + i * c_row + j * W;
      if (j + 1 < N || part == W) vec<V>::store(at, add ? vec<V>::load(at) + sum[i][j] : sum[i][j]);
      else vec<V>::store(at, add ? vec<V>::load(at, part, S(0)) + sum[i][j] : sum[i][j], part);
    }
  }
}

template <class V, class S, int R> void matmul_strip(Int depth, Matrix<const S> a, const S* b, S* c, Int c_row, Int cols, bool add) {
  constexpr Int W = lane<V>::width;
  if (cols > W) matmul_tile<V, S, R, 2>(depth, a, b, c, c_row, cols - W, add);
  else matmul_tile<V, S, R, 1>(depth, a, b, c, c_row, cols, add);
}

// The shortest tile that holds the rows: a is read past its end for none of them.
template <class V, class S> void matmul_rows(Int rows, Int depth, Matrix<const S> a, const S* b, S* c, Int c_row, Int cols, bool add) {
  constexpr int R = kTileRows<V>;
  while (rows > 0) {
    int taken = R;
    if (rows >= R) matmul_strip<V, S, R>(depth, a, b, c, c_row, cols, add);
    else if (R > 10 && rows >= 10) taken = 10, matmul_strip<V, S, 10>(depth, a, b, c, c_row, cols, add);
    else if (R > 6 && rows >= 6) taken = 6, matmul_strip<V, S, 6>(depth, a, b, c, c_row, cols, add);
    else if (rows >= 4) taken = 4, matmul_strip<V, S, 4>(depth, a, b, c, c_row, cols, add);
    else if (rows >= 2) taken = 2, matmul_strip<V, S, 2>(depth, a, b, c, c_row, cols, add);
    else taken = 1, matmul_strip<V, S, 1>(depth, a, b, c, c_row, cols, add);
    rows -= taken;
    a.data += taken * a.row;
    c += taken * c_row;
  }
}

// Columns [first, last) of a depth × cols block of b into strips of one tile's width, zeros behind the last column.
template <class V, class S> void pack_strips(Matrix<const S> b, S* packed, Int depth, Int cols, Int first, Int last) {
  constexpr Int N = lane<V>::width * kTileVectors;
  if (b.col == 1) {
    // Some strips side by side: short reads far apart would leave the prefetcher out.
    for (Int group = first; group < last; group += 4)
      for (Int p = 0; p < depth; ++p)
        for (Int strip = group; strip < last && strip < group + 4; ++strip) {
          const Int begin = strip * N, count = cols - begin < N ? cols - begin : N;
          const S* from = b.data + p * b.row + begin;
          S* to = packed + strip * N * depth + p * N;
          if (count == N) {
            memcpy(to, from, N * sizeof(S));
            continue;
          }
          for (Int j = 0; j < N; ++j) to[j] = j < count ? from[j] : S(0);
        }
    return;
  }
  for (Int strip = first; strip < last; ++strip) {
    const Int begin = strip * N, count = cols - begin < N ? cols - begin : N;
    S* to = packed + strip * N * depth;
    // A few lines of the strip at a time, so that its columns meet them in the first-level cache.
    for (Int first_row = 0; first_row < depth; first_row += 16)
      for (Int j = 0; j < N; ++j) {
        const S* from = b.data + (begin + (j < count ? j : 0)) * b.col;
        const Int end = depth - first_row < 16 ? depth : first_row + 16;
        for (Int p = first_row; p < end; ++p) to[p * N + j] = j < count ? from[p * b.row] : S(0);
      }
  }
}

template <class V, class S> void matmul_loop(Faults& faults, Matrix<const S> a, Matrix<const S> b, S* c, Int c_row, Int m, Int n, Int k, bool accumulate) {
  constexpr Int N = lane<V>::width * kTileVectors, R = kTileRows<V>;
  if (k == 0 && !accumulate)
    for (Int i = 0; i < m * n; ++i) c[i / n * c_row + i % n] = 0;
  const Int widest = n < kPanelCols ? (n + N - 1) / N * N : kPanelCols, deepest = k < kDepth ? k : kDepth;
  S* packed = nullptr;
  if (m > 0 && n > 0 && k > 0) {
    const size_t bytes = static_cast<size_t>(widest * deepest) * sizeof(S);
    packed = static_cast<S*>(scratch(bytes, 1));
    if (!packed) return faults.out_of_memory(bytes);
  }
  for (Int column = 0; packed && column < n; column += kPanelCols) {
    const Int cols = n - column < kPanelCols ? n - column : kPanelCols, strips = (cols + N - 1) / N;
    for (Int start = 0; start < k; start += kDepth) {
      const Int depth = k - start < kDepth ? k - start : kDepth;
      const Matrix<const S> right{b.data + start * b.row + column * b.col, b.row, b.col};
      auto pack = [&](Int first, Int last) { pack_strips<V>(right, packed, depth, cols, first, last); };
      parallel(strips, kGrain / (N * depth) + 1, pack);

      // Blocks of rows that fit the second-level cache; columns are split where rows alone leave threads idle.
      const Int tile_rows = (m + R - 1) / R, block = R * (tile_rows < 12 ? tile_rows : 12), blocks = (m + block - 1) / block;
      Int pieces = blocks >= 4 * threads() ? 1 : (4 * threads() + blocks - 1) / blocks;
      if (pieces > strips) pieces = strips;
      const Int piece = (strips + pieces - 1) / pieces;
      pieces = (strips + piece - 1) / piece;
      // a is packed where its rows are used for many strips.
      const bool pack_a = piece > 4;
      auto work = [&](Int first, Int last) {
        for (Int task = first; task < last; ++task) {
          const Int row = task / pieces * block, rows = m - row < block ? m - row : block;
          const Int from = task % pieces * piece, to = from + piece < strips ? from + piece : strips;
          const Matrix<const S> whole{a.data + row * a.row + start * a.col, a.row, a.col};
          S* tiles = nullptr;
          if (pack_a) {
            tiles = static_cast<S*>(scratch(static_cast<size_t>(block * kDepth) * sizeof(S), 0));
            if (!tiles) return faults.out_of_memory(static_cast<size_t>(block * kDepth) * sizeof(S));
            for (Int tile = 0; tile < rows; tile += R) {
              const Int height = rows - tile < R ? rows - tile : R;
              S* at = tiles + tile * depth;
              for (Int p = 0; p < depth; ++p)
                for (Int i = 0; i < height; ++i) at[p * height + i] = whole.data[(tile + i) * whole.row + p * whole.col];
            }
          }
          const bool add = accumulate || start > 0;
          for (Int strip = from; strip < to; ++strip) {
            const Int begin = strip * N, width = cols - begin < N ? cols - begin : N;
            for (Int tile = 0; tile < rows; tile += R) {
              const Int height = rows - tile < R ? rows - tile : R;
              const Matrix<const S> left = pack_a ? Matrix<const S>{tiles + tile * depth, 1, height}
                                                  : Matrix<const S>{whole.data + tile * whole.row, whole.row, whole.col};
              matmul_rows<V, S>(height, depth, left, packed + strip * N * depth, c + (row + tile) * c_row + column + begin, c_row, width, add);
            }
          }
        }
      };
      const Int cost = (block < m ? block : m) * piece * N * depth;
      parallel(blocks * pieces, (Int(1) << 19) / (cost + 1) + 1, work);
    }
  }
}

#if defined(LIMBECK_CBLAS)
inline void cblas_product(Stored<float> a, Stored<float> b, float* c, int c_row, int m, int n, int k, bool add) {
  cblas_sgemm(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans, b.transposed ? CblasTrans : CblasNoTrans, m, n, k, 1, a.data, int(a.row), b.data, int(b.row), add ? 1.0f : 0.0f, c, c_row);
}
inline void cblas_product(Stored<double> a, Stored<double> b, double* c, int c_row, int m, int n, int k, bool add) {
  cblas_dgemm(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans, b.transposed ? CblasTrans : CblasNoTrans, m, n, k, 1, a.data, int(a.row), b.data, int(b.row), add ? 1.0 : 0.0, c, c_row);
}
#endif

template <class V, class S> void multiply(Faults& faults, Stored<S> a, Stored<S> b, S* c, Int c_row, Int m, Int n, Int k, bool add) {
#if defined(LIMBECK_CBLAS)
  const auto fits = [](Int size) { return size > 0 && size <= INT32_MAX; };
  if (fits(m) && fits(n) && fits(k) && fits(a.row) && fits(b.row) && fits(c_row)) return cblas_product(a, b, c, int(c_row), int(m), int(n), int(k), add);
#endif
  matmul_loop<V, S>(faults, a.matrix(), b.matrix(), c, c_row, m, n, k, add);
}

// A block of a matrix of any of the three short types: lines [line, line + lines) and columns from `first` on, as floats where they lie or in `room`.
template <class V> Stored<float> widened_block(In x, Int x_row, bool transposed, Int line, Int lines, Int first, Int run, float* room) {
  if (x.dtype == DType::float32) return {x.as<float>() + line * x_row + first, x_row, transposed};
  auto widen = [&](Int begin, Int end) {
    for (Int i = begin; i < end; ++i) widened<V>(x, (line + i) * x_row + first, run, room + i * run);
  };
  parallel(lines, kGrain / (run + 1) + 1, widen);
  return {room, run, transposed};
}

// Blocks of c as floats, each summed over blocks of k in order. Sizes are multiples of kDepth, so that sums are those of floats as they lie.
template <class V> void multiply_mixed(Faults& faults, In a, In b, Out c, Int m, Int n, Int k, Int a_row, Int b_row, Int c_row, bool ta, bool tb, bool accumulate, float scale) {
  constexpr Int kRows = 512, kCols = 1024, kBlock = 2 * kDepth;
  const Int rows_most = std::min(m, kRows), cols_most = std::min(n, kCols), depth_most = std::min(k, kBlock);
  const size_t floats = static_cast<size_t>(rows_most * depth_most + depth_most * cols_most + rows_most * cols_most);
  if (m == 0 || n == 0) return;
  auto* room = static_cast<float*>(scratch(floats * sizeof(float), 2));
  if (!room) return faults.out_of_memory(floats * sizeof(float));
  float *b_room = room + rows_most * depth_most, *c_room = b_room + depth_most * cols_most;
  // Floats that are only added to need no block of their own.
  const bool direct = c.dtype == DType::float32 && scale == 1;
  for (Int col = 0; col < n; col += kCols)
    for (Int row = 0; row < m; row += kRows) {
      const Int rows = std::min(kRows, m - row), cols = std::min(kCols, n - col);
      float* block = direct ? c.as<float>() + row * c_row + col : c_room;
      const Int block_row = direct ? c_row : cols;
      Int depth = 0;
      do {
        const Int part = std::min(kBlock, k - depth);
        const Stored<float> left = ta ? widened_block<V>(a, a_row, true, depth, part, row, rows, room) : widened_block<V>(a, a_row, false, row, rows, depth, part, room);
        // With one block along k, b's serves all rows.
        const bool is_there = row > 0 && k <= kBlock && b.dtype != DType::float32;
        const Stored<float> right = is_there ? Stored<float>{b_room, tb ? part : cols, tb}
                                    : tb     ? widened_block<V>(b, b_row, true, col, cols, depth, part, b_room)
                                             : widened_block<V>(b, b_row, false, depth, part, col, cols, b_room);
        multiply<V, float>(faults, left, right, block, block_row, rows, cols, part, depth > 0 || (direct && accumulate));
        depth += kBlock;
      } while (depth < k);
      if (direct) continue;
      auto finish = [&](Int begin, Int end) {
        float there[kCols];
        for (Int i = begin; i < end; ++i) {
          float* sums = block + i * cols;
          const Int at = (row + i) * c_row + col;
          const float* old = accumulate ? widened<V>(In{c.data, c.size, c.dtype}, at, cols, there) : nullptr;
          for (Int j = 0; j < cols; ++j) sums[j] = scale * sums[j] + (old ? old[j] : 0.0f);
          if (c.dtype == DType::float32) memcpy(c.as<float>() + at, sums, static_cast<size_t>(cols) * sizeof(float));
          else narrowed<V>(sums, c, at, cols);
        }
      };
      parallel(rows, kGrain / cols + 1, finish);
    }
}

}  // namespace

void matmul(Context& ctx, In a, In b, Out c, Int m, Int n, Int k, Int a_stride, Int b_stride, Int c_stride, Int transpose_a, Int transpose_b, Int accumulate, Float scale) {
  Faults faults;
  const bool ta = transpose_a != 0, tb = transpose_b != 0, add = accumulate != 0;
  const auto is_float = [](DType dtype) { return dtype == DType::float32; };
  if (a.dtype == DType::float64)
    multiply<double, double>(faults, {a.as<double>(), a_stride, ta}, {b.as<double>(), b_stride, tb}, c.as<double>(), c_stride, m, n, k, add);
  else if (is_float(a.dtype) && is_float(b.dtype) && is_float(c.dtype) && scale == 1)
    multiply<F32, float>(faults, {a.as<float>(), a_stride, ta}, {b.as<float>(), b_stride, tb}, c.as<float>(), c_stride, m, n, k, add);
  else multiply_mixed<F32>(faults, a, b, c, m, n, k, a_stride, b_stride, c_stride, ta, tb, add, static_cast<float>(scale));
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
