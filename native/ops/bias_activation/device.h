// How the CUDA kernels of bias and activation walk their elements: a thread takes the four that one counter of dropout decides.
#pragma once
#include "cuda/elements.h"
#include "ops/bias_activation/math.h"

namespace limbeck::cuda {

struct BiasActivation {
  const float *x, *bias;  // bias may be null
  int64_t size, cols;
  Activation function;
  Drop drop;
};

// Elements first..first+3, those outside [0, size) left out.
LIMBECK_DEVICE void load_inside(const float* p, int64_t first, int64_t size, bool aligned, float (&v)[4]) {
  if (first >= 0) return load_chunk(p, first, size, aligned, 0.0f, v);
  for (int j = 0; j < 4; j++) v[j] = first + j >= 0 && first + j < size ? ld(p, first + j) : 0.0f;
}
LIMBECK_DEVICE void store_inside(float* p, int64_t first, int64_t size, bool aligned, const float (&v)[4]) {
  if (first >= 0) return store_chunk(p, first, size, aligned, v);
  for (int j = 0; j < 4; j++)
    if (first + j >= 0 && first + j < size) st(p, first + j, v[j]);
}

// body(first, aligned, v, kept): x + b of four elements, and which of them dropout keeps.
template <class Body, class... Pointers> LIMBECK_DEVICE void each_biased(const BiasActivation& a, Body body, Pointers... pointers) {
  const bool drops = a.drop.threshold != 0;
  const int64_t before = drops ? int64_t(a.drop.offset % 4) : 0;  // elements of the first counter that belong to earlier positions
  const bool aligned = before == 0 && aligned4(a.x) && (aligned4(pointers) && ...);
  const bool bias_aligned = aligned && a.cols % 4 == 0 && aligned4(a.bias);
  for (int64_t c = first_element(); c * 4 - before < a.size; c += element_step()) {
    const int64_t first = c * 4 - before;
    float v[4];
    load_inside(a.x, first, a.size, aligned, v);
    if (a.bias != nullptr) {
      const int64_t at = first > 0 ? first : 0;
      int64_t col = at - at / a.cols * a.cols;
      float b[4] = {0, 0, 0, 0};
      if (bias_aligned) load_chunk(a.bias, col, a.cols, true, 0.0f, b);
      else for (int j = 0; j < 4; j++) {
        if (first + j < 0 || first + j >= a.size) continue;
        b[j] = ld(a.bias, col);
        if (++col == a.cols) col = 0;
      }
      for (int j = 0; j < 4; j++) v[j] += b[j];
    }
    bool kept[4] = {true, true, true, true};
    if (drops) {
      const Philox4 random = philox_(a.drop.offset / 4 + uint64_t(c), a.drop.seed);
      for (int j = 0; j < 4; j++) kept[j] = dropout_keeps_(random.word[j], a.drop.threshold);
    }
    body(first, aligned, v, kept);
  }
}

}  // namespace limbeck::cuda
