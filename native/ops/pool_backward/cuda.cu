// The gradient of pooling on CUDA: a thread per element looks for the windows it is in, in order, so no order of threads shows.
#include "core/codes.h"
#include "cuda/rows.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) pool_backward_elements(const float* gradient_y, const int32_t* places, float* gradient_x, int64_t height, int64_t width,
                                                               int64_t out_height, int64_t out_width, int64_t window, int64_t stride, int64_t size, bool is_mean) {
  for (int64_t i = first_element(); i < size; i += element_step()) {
    const int64_t plane = i / (height * width), within = i % (height * width), row = within / width, col = within % width;
    const int64_t top = row < window ? 0 : (row - window) / stride + 1, left = col < window ? 0 : (col - window) / stride + 1;
    float sum = 0;
    for (int64_t oy = top; oy < out_height && oy * stride <= row; oy++)
      for (int64_t ox = left; ox < out_width && ox * stride <= col; ox++) {
        const int64_t at = (plane * out_height + oy) * out_width + ox;
        if (is_mean) sum += ld(gradient_y, at) / float(window * window);
        else if (ld(places, at) == within) sum += ld(gradient_y, at);
      }
    st(gradient_x, i, sum);
  }
}

}  // namespace

void pool_backward(Context& ctx, In gradient_y, In places, Out gradient_x, Int planes, Int height, Int width, Int window, Int stride, Int function) {
  const int64_t out_height = (height - window) / stride + 1, out_width = (width - window) / stride + 1, size = planes * height * width;
  launch(ctx, "pool_backward", pool_backward_elements, plan_elements(ctx, size), gradient_y.as<float>(), places.as<int32_t>(), gradient_x.as<float>(), height,
         width, out_height, out_width, window, stride, size, Pool(function) == Pool::mean);
}

}  // namespace limbeck::cuda
