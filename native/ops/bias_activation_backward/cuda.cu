// The gradient of x + b from that of y = dropout(f(x + b)) on CUDA in one pass; gradient_x may be x or gradient_y.
#include "ops/bias_activation/device.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) bias_activation_backward_elements(BiasActivation a, const float* gradient_y, float* gradient_x) {
  each_biased(a, [&](int64_t first, bool aligned, float (&v)[4], const bool (&kept)[4]) {
    float g[4];
    load_inside(gradient_y, first, a.size, aligned, g);
    if (a.drop.threshold != 0)
      for (int j = 0; j < 4; j++) g[j] = dropout_(g[j], kept[j], a.drop.keep);
    switch (a.function) {
#define LIMBECK_CASE(name) \
  case Activation::name: for (int j = 0; j < 4; j++) g[j] = activation_gradient_<Activation::name>(v[j], g[j]); break;
      LIMBECK_ACTIVATIONS(LIMBECK_CASE)
#undef LIMBECK_CASE
    }
    store_inside(gradient_x, first, a.size, aligned, g);
  }, gradient_y, gradient_x);
}

}  // namespace

void bias_activation_backward(Context& ctx, In x, In bias, In gradient_y, Out gradient_x, Int rows, Int cols, Int function, Float probability, Int seed,
                              Int offset) {
  launch(ctx, "bias_activation_backward", bias_activation_backward_elements, plan_elements(ctx, rows * cols + 3),
         BiasActivation{x.as<float>(), bias.as<float>(), rows * cols, cols, Activation(function), drop_(probability, seed, offset)},
         gradient_y.as<float>(), gradient_x.as<float>());
}

}  // namespace limbeck::cuda
