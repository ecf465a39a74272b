// The binary functions on CUDA, with b of the same shape, one row, one column or one number.
#include "cuda/elements.h"
#include "ops/binary/math.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) binary_elements(AnyIn a, AnyIn b, AnyOut y, int64_t size, int64_t cols, Binary function, Broadcast broadcast) {
  const float single = broadcast == Broadcast::scalar ? ld(b, 0) : 0.0f;
  auto body = [&](int64_t i, bool aligned) {
    float u[4], v[4];
    load_chunk(a, i, size, aligned, 0.0f, u);
    if (broadcast == Broadcast::same) {
      load_chunk(b, i, size, aligned, 0.0f, v);
    } else {
      int64_t row = 0, col = 0;
      if (broadcast != Broadcast::scalar) row = i / cols, col = i - row * cols;
      for (int j = 0; j < 4; j++) {
        v[j] = broadcast == Broadcast::scalar ? single : i + j < size ? ld(b, broadcast == Broadcast::row ? col : row) : 0.0f;
        if (++col == cols) col = 0, row++;
      }
    }
    switch (function) {
#define LIMBECK_CASE(name) \
  case Binary::name: for (int j = 0; j < 4; j++) v[j] = binary_<Binary::name>(u[j], v[j]); break;
      LIMBECK_BINARY(LIMBECK_CASE)
#undef LIMBECK_CASE
    }
    store_chunk(y, i, size, aligned, v);
  };
  if (broadcast == Broadcast::same) each4(size, body, a, b, y);
  else each4(size, body, a, y);
}

}  // namespace

void binary(Context& ctx, In a, In b, Out y, Int rows, Int cols, Int function, Int broadcast) {
  launch(ctx, "binary", binary_elements, plan_elements(ctx, rows * cols), AnyIn(a), AnyIn(b), AnyOut(y), rows * cols, cols,
         Binary(function), Broadcast(broadcast));
}

}  // namespace limbeck::cuda
