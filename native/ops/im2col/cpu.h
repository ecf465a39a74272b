// The windows of images as lines: columns[image, place, channel, ky, kx] = x[image, channel, y, x], 0 in the padding.
#pragma once
#include "ops/im2col/math.h"

namespace limbeck::cpu::LIMBECK_ISA {

void im2col(Context&, In x, Out columns, Int images, Int channels, Int height, Int width, Int kernel_height, Int kernel_width, Int stride, Int padding) {
  const Windows w{channels, height, width, kernel_height, kernel_width, stride, padding};
  const Int out_width = w.out_width(), out_height = w.out_height(), entries = w.entries();
  by_dtype(x.dtype, [&](auto lanes) {
    using S = typename lane<typename decltype(lanes)::type>::scalar;
    over_rows(images * out_height, out_width * entries, [&](Int begin, Int end) {
      for (Int task = begin; task < end; ++task) {
        const Int image = task / out_height, top = task % out_height * stride - padding;
        const S* from = x.as<S>() + image * channels * height * width;
        S* to = columns.as<S>() + task * out_width * entries;
        for (Int place = 0; place < out_width; ++place) {
          const Int left = place * stride - padding;
          for (Int channel = 0; channel < channels; ++channel)
            for (Int ky = 0; ky < kernel_height; ++ky) {
              const Int row = top + ky;
              const S* line = from + (channel * height + row) * width + left;
              for (Int kx = 0; kx < kernel_width; ++kx) *to++ = row >= 0 && row < height && left + kx >= 0 && left + kx < width ? line[kx] : S(0);
            }
        }
      }
    });
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
