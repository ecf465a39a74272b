// Products of 16×16 tiles by a whole warp, on tensor cores: what a lane holds of a tile is the hardware's own business.
#pragma once
#include "cuda/device.h"

// A tile lies in shared memory as 16 lines of 16 neighbours, `stride` elements apart; its first element is at a multiple of 32 bytes,
// and lines are a multiple of 16 bytes apart. deep: the lines run along the depth, over which products are summed.
//   LeftTile<T, deep>, RightTile<T, deep>: rows × depth and depth × columns. SumTile<T>: rows × columns in float32.
//   load_tile(tile, memory, at, stride) · clear_tile(sum) · multiply_add(sum, left, right) · store_tile(memory, at, stride, sum)
#if !defined(__CUDACC__)
#include "emulated/tiles.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

namespace limbeck::cuda {

template <class T> struct TileNumber { using type = __half; };
template <> struct TileNumber<BFloat16> { using type = __nv_bfloat16; };

template <class T, bool deep> struct LeftTile {
  using Layout = std::conditional_t<deep, nvcuda::wmma::row_major, nvcuda::wmma::col_major>;
  nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, typename TileNumber<T>::type, Layout> part;
};
template <class T, bool deep> struct RightTile {
  using Layout = std::conditional_t<deep, nvcuda::wmma::col_major, nvcuda::wmma::row_major>;
  nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, typename TileNumber<T>::type, Layout> part;
};
template <class T> struct SumTile { nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> part; };

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
// These cards multiply no bfloat16 by themselves: a lane adds up eight neighbours of a row, from the shared memory that the tiles lie in.
template <bool deep> struct LeftTile<BFloat16, deep> {
  const BFloat16* at;
  int stride;
};
template <bool deep> struct RightTile<BFloat16, deep> {
  const BFloat16* at;
  int stride;
};
template <> struct SumTile<BFloat16> { float part[8]; };

template <bool deep> LIMBECK_DEVICE void load_tile(LeftTile<BFloat16, deep>& tile, const Shared<BFloat16>& s, int at, int stride) {
  tile.at = s.data + at, tile.stride = stride;
}
template <bool deep> LIMBECK_DEVICE void load_tile(RightTile<BFloat16, deep>& tile, const Shared<BFloat16>& s, int at, int stride) {
  tile.at = s.data + at, tile.stride = stride;
}
LIMBECK_DEVICE void clear_tile(SumTile<BFloat16>& sum) {
  for (float& each : sum.part) each = 0;
}
template <bool left_deep, bool right_deep>
LIMBECK_DEVICE void multiply_add(SumTile<BFloat16>& sum, const LeftTile<BFloat16, left_deep>& left, const RightTile<BFloat16, right_deep>& right) {
  const int row = lane() / 2, col = lane() % 2 * 8;
  LIMBECK_ROLLED
  for (int d = 0; d < 16; d++) {
    const float u = to_float(left.at[left_deep ? row * left.stride + d : d * left.stride + row]);
    for (int i = 0; i < 8; i++)
      sum.part[i] += u * to_float(right.at[right_deep ? (col + i) * right.stride + d : d * right.stride + col + i]);
  }
}
LIMBECK_DEVICE void store_tile(const Shared<float>& s, int at, int stride, const SumTile<BFloat16>& sum) {
  for (int i = 0; i < 8; i++) s.data[at + lane() / 2 * stride + lane() % 2 * 8 + i] = sum.part[i];
}
#endif

template <class Tile, class T> LIMBECK_DEVICE void load_tile(Tile& tile, const Shared<T>& s, int at, int stride) {
  nvcuda::wmma::load_matrix_sync(tile.part, reinterpret_cast<const typename TileNumber<T>::type*>(s.data + at), unsigned(stride));
}
template <class T> LIMBECK_DEVICE void clear_tile(SumTile<T>& sum) { nvcuda::wmma::fill_fragment(sum.part, 0.0f); }
template <class T, bool left_deep, bool right_deep>
LIMBECK_DEVICE void multiply_add(SumTile<T>& sum, const LeftTile<T, left_deep>& left, const RightTile<T, right_deep>& right) {
  nvcuda::wmma::mma_sync(sum.part, left.part, right.part, sum.part);
}
template <class T> LIMBECK_DEVICE void store_tile(const Shared<float>& s, int at, int stride, const SumTile<T>& sum) {
  nvcuda::wmma::store_matrix_sync(s.data + at, sum.part, unsigned(stride), nvcuda::wmma::mem_row_major);
}

}  // namespace limbeck::cuda
#endif
