// The sum of what windows hold of each element: the gradient of im2col. An image is one thread's, its windows in order.
#pragma once
#include "ops/im2col/math.h"

namespace limbeck::cpu::LIMBECK_ISA {

void col2im(Context&, In columns, Out x, Int images, Int channels, Int height, Int width, Int kernel_height, Int kernel_width, Int stride, Int padding) {
  const Windows w{channels, height, width, kernel_height, kernel_width, stride, padding};
  const Int out_width = w.out_width(), out_height = w.out_height(), entries = w.entries(), plane = height * width;
  by_dtype(columns.dtype, [&](auto lanes) {
    using S = typename lane<typename decltype(lanes)::type>::scalar;
    over_rows(images, out_height * out_width * entries, [&](Int begin, Int end) {
      for (Int image = begin; image < end; ++image) {
        const S* from = columns.as<S>() + image * out_height * out_width * entries;
        S* to = x.as<S>() + image * channels * plane;
        for (Int i = 0; i < channels * plane; ++i) to[i] = 0;
        for (Int place = 0; place < out_height * out_width; ++place) {
          const Int top = place / out_width * stride - padding, left = place % out_width * stride - padding;
          for (Int channel = 0; channel < channels; ++channel)
            for (Int ky = 0; ky < kernel_height; ++ky) {
              const Int row = top + ky;
              S* line = to + (channel * height + row) * width + left;
              for (Int kx = 0; kx < kernel_width; ++kx, ++from)
                if (row >= 0 && row < height && left + kx >= 0 && left + kx < width) line[kx] += *from;
            }
        }
      }
    });
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
