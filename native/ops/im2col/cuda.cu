// The windows of images as lines on CUDA: a thread per element of the lines.
#include "cuda/rows.h"
#include "ops/im2col/math.h"

namespace limbeck::cuda {
namespace {

LIMBECK_KERNEL void LIMBECK_BOUNDS(256) im2col_elements(const float* x, float* columns, Windows w, int64_t size) {
  const int64_t entries = w.entries(), places = w.places(), out_width = w.out_width();
  for (int64_t i = first_element(); i < size; i += element_step()) {
    const int64_t entry = i % entries, line = i / entries, place = line % places, image = line / places;
    const int64_t kx = entry % w.kernel_width, ky = entry / w.kernel_width % w.kernel_height, channel = entry / (w.kernel_width * w.kernel_height);
    const int64_t row = place / out_width * w.stride - w.padding + ky, col = place % out_width * w.stride - w.padding + kx;
    const bool there = row >= 0 && row < w.height && col >= 0 && col < w.width;
    st(columns, i, there ? ld(x, ((image * w.channels + channel) * w.height + row) * w.width + col) : 0.0f);
  }
}

}  // namespace

void im2col(Context& ctx, In x, Out columns, Int images, Int channels, Int height, Int width, Int kernel_height, Int kernel_width, Int stride, Int padding) {
  const Windows w{channels, height, width, kernel_height, kernel_width, stride, padding};
  const int64_t size = images * w.places() * w.entries();
  launch(ctx, "im2col", im2col_elements, plan_elements(ctx, size), x.as<float>(), columns.as<float>(), w, size);
}

}  // namespace limbeck::cuda
