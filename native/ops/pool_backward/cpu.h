// The gradient of pooling: to the largest element of each window, or in equal shares to all.
#pragma once

namespace limbeck::cpu::LIMBECK_ISA {

void pool_backward(Context& ctx, In gradient_y, In places, Out gradient_x, Int planes, Int height, Int width, Int window, Int stride, Int function) {
  Faults faults;
  const Int out_height = (height - window) / stride + 1, out_width = (width - window) / stride + 1, pooled = out_height * out_width, size = height * width;
  by_dtype(gradient_y.dtype, [&](auto lanes) {
    using S = typename lane<typename decltype(lanes)::type>::scalar;
    over_rows(planes, size, [&](Int begin, Int end) {
      for (Int plane = begin; plane < end; ++plane) {
        const S* g = gradient_y.as<S>() + plane * pooled;
        S* to = gradient_x.as<S>() + plane * size;
        for (Int i = 0; i < size; ++i) to[i] = 0;
        for (Int i = 0; i < pooled; ++i) {
          if (Pool(function) == Pool::max) {
            const Int place = places.as<int32_t>()[plane * pooled + i];
            if (place < 0 || place >= size) {
              faults.refuse(plane, "places must be in [0, %lld): one is %lld", static_cast<long long>(size), static_cast<long long>(place));
              return;
            }
            to[place] += g[i];
            continue;
          }
          const Int first = i / out_width * stride * width + i % out_width * stride;
          const S share = g[i] / static_cast<S>(window * window);
          for (Int ky = 0; ky < window; ++ky)
            for (Int kx = 0; kx < window; ++kx) to[first + ky * width + kx] += share;
        }
      }
    });
  });
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
