// The largest or the mean of each window of a plane on CUDA: a thread per window.
#include "core/codes.h"
#include "cuda/rows.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) pool_windows(const float* x, float* y, int32_t* places, int64_t height, int64_t width, int64_t out_height,
                                                     int64_t out_width, int64_t window, int64_t stride, int64_t size, bool is_mean) {
  for (int64_t i = first_element(); i < size; i += element_step()) {
    const int64_t plane = i / (out_height * out_width), within = i % (out_height * out_width);
    const int64_t first = within / out_width * stride * width + within % out_width * stride, base = plane * height * width;
    int64_t place = first;
    float best = ld(x, base + first), sum = 0;
    for (int64_t ky = 0; ky < window; ky++)
      for (int64_t kx = 0; kx < window; kx++) {
        const int64_t at = first + ky * width + kx;
        const float v = ld(x, base + at);
        sum += v;
        if (best == best && !(v <= best)) best = v, place = at;
      }
    st(y, i, is_mean ? sum / float(window * window) : best);
    if (!is_mean) st(places, i, int32_t(place));
  }
}

}  // namespace

void pool(Context& ctx, In x, Out y, Out places, Int planes, Int height, Int width, Int window, Int stride, Int function) {
  const int64_t out_height = (height - window) / stride + 1, out_width = (width - window) / stride + 1, size = planes * out_height * out_width;
  launch(ctx, "pool", pool_windows, plan_elements(ctx, size), x.as<float>(), y.as<float>(), places.as<int32_t>(), height, width, out_height, out_width, window,
         stride, size, Pool(function) == Pool::mean);
}

}  // namespace limbeck::cuda
