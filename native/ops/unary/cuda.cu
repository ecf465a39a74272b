// The unary functions on CUDA: one kernel, the function a switch that all threads take the same way.
#include "cuda/elements.h"
#include "ops/unary/math.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) unary_elements(AnyIn x, AnyOut y, int64_t size, Unary function, float parameter) {
  each4(size, [&](int64_t i, bool aligned) {
    float v[4];
    load_chunk(x, i, size, aligned, 0.0f, v);
    switch (function) {
#define LIMBECK_CASE(name) \
  case Unary::name: for (int j = 0; j < 4; j++) v[j] = unary_<Unary::name>(v[j], parameter); break;
      LIMBECK_UNARY(LIMBECK_CASE)
#undef LIMBECK_CASE
    }
    store_chunk(y, i, size, aligned, v);
  }, x, y);
}

}  // namespace

void unary(Context& ctx, In x, Out y, Int size, Int function, Float parameter) {
  launch(ctx, "unary", unary_elements, plan_elements(ctx, size), AnyIn(x), AnyOut(y), size, Unary(function), float(parameter));
}

}  // namespace limbeck::cuda
