// Dropout on CUDA: a thread takes one counter and the four elements it decides, so the mask is the CPU's.
#include "cuda/elements.h"
#include "ops/dropout/math.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) dropout_elements(const float* x, float* y, int64_t size, Drop drop) {
  const int64_t before = int64_t(drop.offset % 4);  // elements of the first counter that belong to earlier positions
  const bool aligned = before == 0 && aligned4(x) && aligned4(y);
  for (int64_t c = first_element(); c * 4 - before < size; c += element_step()) {
    const Philox4 random = philox_(drop.offset / 4 + uint64_t(c), drop.seed);
    const int64_t first = c * 4 - before;
    float v[4];
    if (first >= 0) load_chunk(x, first, size, aligned, 0.0f, v);
    else for (int j = 0; j < 4; j++) v[j] = first + j >= 0 && first + j < size ? ld(x, first + j) : 0.0f;
    for (int j = 0; j < 4; j++) v[j] = dropout_(v[j], dropout_keeps_(random.word[j], drop.threshold), drop.keep);
    if (first >= 0) store_chunk(y, first, size, aligned, v);
    else for (int j = 0; j < 4; j++)
      if (first + j >= 0 && first + j < size) st(y, first + j, v[j]);
  }
}

}  // namespace

void dropout(Context& ctx, In x, Out y, Int size, Float probability, Int seed, Int offset) {
  launch(ctx, "dropout", dropout_elements, plan_elements(ctx, size + 3), x.as<float>(), y.as<float>(), size, drop_(probability, seed, offset));
}

}  // namespace limbeck::cuda
