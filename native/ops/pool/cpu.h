// The largest or the mean of each window of a plane. The first of equals is the largest; NaN is larger than all.
#pragma once

namespace limbeck::cpu::LIMBECK_ISA {

void pool(Context&, In x, Out y, Out places, Int planes, Int height, Int width, Int window, Int stride, Int function) {
  const Int out_height = (height - window) / stride + 1, out_width = (width - window) / stride + 1, pooled = out_height * out_width;
  by_dtype(x.dtype, [&](auto lanes) {
    using S = typename lane<typename decltype(lanes)::type>::scalar;
    over_rows(planes, height * width, [&](Int begin, Int end) {
      for (Int plane = begin; plane < end; ++plane) {
        const S* from = x.as<S>() + plane * height * width;
        S* to = y.as<S>() + plane * pooled;
        for (Int i = 0; i < pooled; ++i) {
          const Int first = i / out_width * stride * width + i % out_width * stride;
          Int place = first;
          S best = from[first], sum = 0;
          for (Int ky = 0; ky < window; ++ky)
            for (Int kx = 0; kx < window; ++kx) {
              const Int at = first + ky * width + kx;
              const S v = from[at];
              sum += v;
              if (best == best && !(v <= best)) best = v, place = at;
            }
          if (Pool(function) == Pool::mean) to[i] = sum / static_cast<S>(window * window);
          else to[i] = best, places.as<int32_t>()[plane * pooled + i] = static_cast<int32_t>(place);
        }
      }
    });
  });
}

}  // namespace limbeck::cpu::LIMBECK_ISA
