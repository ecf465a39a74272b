// The host twin of cuda/tiles.h: each lane holds eight elements of a tile, and the lane that comes last multiplies for the whole warp.
#pragma once
#include <limits>

#include "emulated/machine.h"

namespace limbeck::cuda {

// NaN until loaded: a lane that took no part in the load shows.
template <class T, bool deep> struct LeftTile { float part[8] = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN}; };
template <class T, bool deep> struct RightTile { float part[8] = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN}; };
template <class T> struct SumTile { float part[8] = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN}; };

// Half a line of the tile, checked as what the hardware asks for; only the first line must begin at 32 bytes.
template <class U> U* tile_part(const Shared<U>& s, int at, int stride, emulated::Access access, const char* file, int line) {
  const int lane_ = lane();
  U* part = s.address(at + lane_ / 2 * stride + lane_ % 2 * 8, 8, file, line);
  for (unsigned done = 0; done < 8 * sizeof(U); done += 16)
    emulated::shared_access(reinterpret_cast<unsigned char*>(part) + done, 16, lane_ == 0 && done == 0 ? 32 : 16, access, file, line);
  return part;
}

template <class Tile, class T> LIMBECK_DEVICE void load_tile(Tile& tile, const Shared<T>& s, int at, int stride, LIMBECK_SITE) {
  const T* part = tile_part(s, at, stride, emulated::Access::load, file, line);
  for (int i = 0; i < 8; i++) tile.part[i] = to_float(part[i]);
}
template <class T> LIMBECK_DEVICE void clear_tile(SumTile<T>& sum) {
  for (float& each : sum.part) each = 0;
}
template <class T> LIMBECK_DEVICE void store_tile(const Shared<float>& s, int at, int stride, const SumTile<T>& sum, LIMBECK_SITE) {
  float* part = tile_part(s, at, stride, emulated::Access::store, file, line);
  for (int i = 0; i < 8; i++) part[i] = sum.part[i];
}

template <class T, bool left_deep, bool right_deep> struct TileProduct {
  SumTile<T>* sum;
  const LeftTile<T, left_deep>* left;
  const RightTile<T, right_deep>* right;

  static void of_warp(void* const* lanes) {
    const auto of = [&](int i) { return static_cast<const TileProduct*>(lanes[i]); };
    float rows[16][16], columns[16][16];  // by depth
    for (int line = 0; line < 16; line++)
      for (int at = 0; at < 16; at++) {
        const TileProduct* holder = of(line * 2 + at / 8);
        const float u = holder->left->part[at % 8], v = holder->right->part[at % 8];
        (left_deep ? rows[at][line] : rows[line][at]) = u;
        (right_deep ? columns[at][line] : columns[line][at]) = v;
      }
    for (int row = 0; row < 16; row++) {
      float sums[16];
      for (int col = 0; col < 16; col++) sums[col] = of(row * 2 + col / 8)->sum->part[col % 8];
      for (int d = 0; d < 16; d++)
        for (int col = 0; col < 16; col++) sums[col] += rows[d][row] * columns[d][col];
      for (int col = 0; col < 16; col++) of(row * 2 + col / 8)->sum->part[col % 8] = sums[col];
    }
  }
};

template <class T, bool left_deep, bool right_deep>
LIMBECK_DEVICE void multiply_add(SumTile<T>& sum, const LeftTile<T, left_deep>& left, const RightTile<T, right_deep>& right, LIMBECK_SITE) {
  TileProduct<T, left_deep, right_deep> mine{&sum, &left, &right};
  emulated::together(TileProduct<T, left_deep, right_deep>::of_warp, &mine, {file, line});
}

}  // namespace limbeck::cuda
