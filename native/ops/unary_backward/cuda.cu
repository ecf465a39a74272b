// The derivatives of the unary functions on CUDA: one kernel, the function a switch that all threads take the same way.
#include "cuda/elements.h"
#include "ops/unary/math.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) unary_backward_elements(const float* x, const float* y, const float* gradient_y, float* gradient_x,
                                                                int64_t size, Unary function, float parameter) {
  each4(size, [&](int64_t i, bool aligned) {
    float u[4], v[4], g[4];
    load_chunk(x, i, size, aligned, 0.0f, u);
    load_chunk(y, i, size, aligned, 0.0f, v);
    load_chunk(gradient_y, i, size, aligned, 0.0f, g);
    switch (function) {
#define LIMBECK_CASE(name) \
  case Unary::name: for (int j = 0; j < 4; j++) g[j] = unary_gradient_<Unary::name>(u[j], v[j], g[j], parameter); break;
      LIMBECK_UNARY(LIMBECK_CASE)
#undef LIMBECK_CASE
    }
    store_chunk(gradient_x, i, size, aligned, g);
  }, x, y, gradient_y, gradient_x);
}

}  // namespace

void unary_backward(Context& ctx, In x, In y, In gradient_y, Out gradient_x, Int size, Int function, Float parameter) {
  launch(ctx, "unary_backward", unary_backward_elements, plan_elements(ctx, size), x.as<float>(), y.as<float>(), gradient_y.as<float>(),
         gradient_x.as<float>(), size, Unary(function), float(parameter));
}

}  // namespace limbeck::cuda
