// y = dropout(f(x + b)) on CUDA in one pass; y may be x. The function is a switch that all threads take the same way.
#include "ops/bias_activation/device.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) bias_activation_elements(BiasActivation a, float* y) {
  each_biased(a, [&](int64_t first, bool aligned, float (&v)[4], const bool (&kept)[4]) {
    switch (a.function) {
#define LIMBECK_CASE(name) \
  case Activation::name: for (int j = 0; j < 4; j++) v[j] = activation_<Activation::name>(v[j]); break;
      LIMBECK_ACTIVATIONS(LIMBECK_CASE)
#undef LIMBECK_CASE
    }
    if (a.drop.threshold != 0)
      for (int j = 0; j < 4; j++) v[j] = dropout_(v[j], kept[j], a.drop.keep);
    store_inside(y, first, a.size, aligned, v);
  }, y);
}

}  // namespace

void bias_activation(Context& ctx, In x, In bias, Out y, Int rows, Int cols, Int function, Float probability, Int seed, Int offset) {
  launch(ctx, "bias_activation", bias_activation_elements, plan_elements(ctx, rows * cols + 3),
         BiasActivation{x.as<float>(), bias.as<float>(), rows * cols, cols, Activation(function), drop_(probability, seed, offset)}, y.as<float>());
}

}  // namespace limbeck::cuda
