// The sum of what windows hold of each element on CUDA: a thread per element looks for its windows, in order, so no order of threads shows.
#include "cuda/rows.h"
#include "ops/im2col/math.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) col2im_elements(const float* columns, float* x, Windows w, int64_t size) {
  const int64_t entries = w.entries(), places = w.places(), out_width = w.out_width(), out_height = w.out_height();
  for (int64_t i = first_element(); i < size; i += element_step()) {
    const int64_t col = i % w.width + w.padding, row = i / w.width % w.height + w.padding;
    const int64_t channel = i / (w.width * w.height) % w.channels, image = i / (w.width * w.height * w.channels);
    // Windows from the first that reaches so far to the last that starts here.
    const int64_t top = row < w.kernel_height ? 0 : (row - w.kernel_height) / w.stride + 1, left = col < w.kernel_width ? 0 : (col - w.kernel_width) / w.stride + 1;
    float sum = 0;
    for (int64_t oy = top; oy < out_height && oy * w.stride <= row; oy++)
      for (int64_t ox = left; ox < out_width && ox * w.stride <= col; ox++) {
        const int64_t ky = row - oy * w.stride, kx = col - ox * w.stride;
        sum += ld(columns, (image * places + oy * out_width + ox) * entries + (channel * w.kernel_height + ky) * w.kernel_width + kx);
      }
    st(x, i, sum);
  }
}

}  // namespace

void col2im(Context& ctx, In columns, Out x, Int images, Int channels, Int height, Int width, Int kernel_height, Int kernel_width, Int stride, Int padding) {
  const Windows w{channels, height, width, kernel_height, kernel_width, stride, padding};
  const int64_t size = images * channels * height * width;
  launch(ctx, "col2im", col2im_elements, plan_elements(ctx, size), columns.as<float>(), x.as<float>(), w, size);
}

}  // namespace limbeck::cuda
