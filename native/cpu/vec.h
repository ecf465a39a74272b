// What a row loop needs of a lane type beyond core/lanes.h: loads, stores and reductions. One specialisation per lane type.
#pragma once
#include "core/half.h"
#include "core/tensor.h"

// Lambdas of the row loops: GCC would call the second of two uses instead of inlining it.
#define LIMBECK_INLINE __attribute__((always_inline))

namespace limbeck::cpu {

// load(p), load(p, n, padding), store(p, v), store(p, v, n), stream(p, v), total(v) in double, largest(v), bits(mask);
// of floats widen(p), widen(p, n), narrow(p, v), narrow(p, v, n) from and to Float16 or BFloat16.
template <class V> struct vec;

template <class S> struct ScalarVec {
  LIMBECK_FN static S load(const S* p) { return *p; }
  LIMBECK_FN static S load(const S* p, Int, S) { return *p; }
  LIMBECK_FN static void store(S* p, S v) { *p = v; }
  LIMBECK_FN static void store(S* p, S v, Int) { *p = v; }
  LIMBECK_FN static void stream(S* p, S v) { *p = v; }
  LIMBECK_FN static double total(S v) { return v; }
  LIMBECK_FN static S largest(S v) { return v; }
  LIMBECK_FN static uint32_t bits(bool m) { return m; }
};
template <> struct vec<float> : ScalarVec<float> {
  template <class H> LIMBECK_FN static float widen(const H* p) { return widen_(*p); }
  template <class H> LIMBECK_FN static void narrow(H* p, float v) { *p = narrow_<H>(v); }
};
template <> struct vec<double> : ScalarVec<double> {};

// Partial vectors of a half type where the instruction set has no masks of 16 bits: through a whole vector's worth of memory.
template <class V> struct HalfTails {
  template <class H> LIMBECK_FN static V widen(const H* p, Int n) {
    H part[lane<V>::width] = {};
    memcpy(part, p, static_cast<size_t>(n) * sizeof(H));
    return vec<V>::widen(part);
  }
  template <class H> LIMBECK_FN static void narrow(H* p, V v, Int n) {
    H part[lane<V>::width];
    vec<V>::narrow(part, v);
    memcpy(p, part, static_cast<size_t>(n) * sizeof(H));
  }
};

// How a step of a row loop reaches memory: a whole vector, or the last n elements with the other lanes padded; only(v) is v of those alone.
template <class V> struct Whole {
  using S = typename lane<V>::scalar;
  LIMBECK_FN V load(const S* p, double) const { return vec<V>::load(p); }
  LIMBECK_FN void store(S* p, V v) const { vec<V>::store(p, v); }
  LIMBECK_FN void stream(S* p, V v) const { vec<V>::stream(p, v); }
  LIMBECK_FN V only(V v) const { return v; }
};
template <class V> struct Tail {
  using S = typename lane<V>::scalar;
  Int n;
  LIMBECK_FN V load(const S* p, double padding) const { return vec<V>::load(p, n, static_cast<S>(padding)); }
  LIMBECK_FN void store(S* p, V v) const { vec<V>::store(p, v, n); }
  LIMBECK_FN void stream(S* p, V v) const { vec<V>::store(p, v, n); }
  // v with 0 in the lanes behind the end.
  LIMBECK_FN V only(V v) const {
    if constexpr (lane<V>::width == 1) return v;
    else {
      S part[lane<V>::width];
      vec<V>::store(part, v);
      return vec<V>::load(part, n, S(0));
    }
  }
};

// f(i, span) over [0, n): the tail goes through the same formula as the rest.
template <class V, class F> LIMBECK_FN void each(Int n, F f) {
  constexpr Int W = lane<V>::width;
  Int i = 0;
  for (; i + W <= n; i += W) f(i, Whole<V>{});
  if constexpr (W > 1)
    if (i < n) f(i, Tail<V>{n - i});
}

// Elements between two sums in double: at most 128 terms per float32 partial sum, whatever the width of the lanes.
inline constexpr Int kBlock = 4096;
template <class V> inline constexpr Int kSumBlock = lane<V>::width == 1 ? 512 : kBlock;

template <class V, int N> struct Partials {
  V part[N];
};
template <int N> struct Sums {
  double sum[N];
};

// N sums at once: f(i, span, partial) adds to partial[0..N). The order of addition depends on n and the lane type only.
template <class V, int N, class F> LIMBECK_FN Sums<N> sum_each(Int n, F f) {
  constexpr Int W = lane<V>::width;
  Sums<N> sums{};
  for (Int block = 0; block < n; block += kSumBlock<V>) {
    const Int end = n - block < kSumBlock<V> ? n : block + kSumBlock<V>;
    Partials<V, N> a, b, c, d;
    for (int k = 0; k < N; ++k) a.part[k] = b.part[k] = c.part[k] = d.part[k] = splat<V>(0);
    Int i = block;
    for (; i + 4 * W <= end; i += 4 * W) {
      f(i, Whole<V>{}, a.part);
      f(i + W, Whole<V>{}, b.part);
      f(i + 2 * W, Whole<V>{}, c.part);
      f(i + 3 * W, Whole<V>{}, d.part);
    }
    for (; i + W <= end; i += W) f(i, Whole<V>{}, a.part);
    if constexpr (W > 1)
      if (i < end) f(i, Tail<V>{end - i}, b.part);
    for (int k = 0; k < N; ++k) sums.sum[k] += vec<V>::total((a.part[k] + b.part[k]) + (c.part[k] + d.part[k]));
  }
  return sums;
}

// n numbers of a half type as floats, and back.
template <class V, class H> LIMBECK_FN void widen_row(const H* from, float* to, Int n) {
  constexpr Int W = lane<V>::width;
  Int i = 0;
  for (; i + W <= n; i += W) vec<V>::store(to + i, vec<V>::widen(from + i));
  if constexpr (W > 1)
    if (i < n) vec<V>::store(to + i, vec<V>::widen(from + i, n - i), n - i);
}
template <class V, class H> LIMBECK_FN void narrow_row(const float* from, H* to, Int n) {
  constexpr Int W = lane<V>::width;
  Int i = 0;
  for (; i + W <= n; i += W) vec<V>::narrow(to + i, vec<V>::load(from + i));
  if constexpr (W > 1)
    if (i < n) vec<V>::narrow(to + i, vec<V>::load(from + i, n - i, 0.0f), n - i);
}

// Towards the second cache; p may lie outside of the array.
LIMBECK_FN void fetch(const void* p, Int bytes) { __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) + static_cast<uintptr_t>(bytes)), 0, 2); }

// The largest element; NaN may be dropped (it comes back through the exponentials).
template <class V, class S> LIMBECK_FN S largest(const S* p, Int n) {
  constexpr Int W = lane<V>::width;
  V a = splat<V>(-INFINITY), b = a, c = a, d = a;
  Int i = 0;
  for (; i + 4 * W <= n; i += 4 * W) {
    a = max_(vec<V>::load(p + i), a);
    b = max_(vec<V>::load(p + i + W), b);
    c = max_(vec<V>::load(p + i + 2 * W), c);
    d = max_(vec<V>::load(p + i + 3 * W), d);
  }
  for (; i + W <= n; i += W) a = max_(vec<V>::load(p + i), a);
  if constexpr (W > 1)
    if (i < n) b = max_(vec<V>::load(p + i, n - i, static_cast<S>(-INFINITY)), b);
  return vec<V>::largest(max_(max_(a, b), max_(c, d)));
}

// The largest element, and whether all elements are ordinary numbers: then no difference of two is infinite. NaN may be dropped.
template <class S> struct Range {
  S max, min;
  bool finite;
  // What lies between these too.
  void meet(S high, S low) {
    max = high > max ? high : max;
    min = low < min ? low : min;
    finite = finite && high < S(1e30) && low > S(-1e30);
  }
  double span() const { return finite ? static_cast<double>(max) - static_cast<double>(min) : INFINITY; }
};
template <class V, class S> LIMBECK_FN Range<S> range_of(const S* p, Int n) {
  constexpr Int W = lane<V>::width;
  V a = splat<V>(-INFINITY), b = a, low = splat<V>(INFINITY), c = low;
  Int i = 0;
  for (; i + 2 * W <= n; i += 2 * W) {
    const V x = vec<V>::load(p + i), y = vec<V>::load(p + i + W);
    a = max_(x, a);
    b = max_(y, b);
    low = min_(x, low);
    c = min_(y, c);
  }
  for (; i + W <= n; i += W) {
    const V x = vec<V>::load(p + i);
    a = max_(x, a);
    low = min_(x, low);
  }
  if constexpr (W > 1)
    if (i < n) {
      b = max_(vec<V>::load(p + i, n - i, static_cast<S>(-INFINITY)), b);
      c = min_(vec<V>::load(p + i, n - i, static_cast<S>(INFINITY)), c);
    }
  const S max = vec<V>::largest(max_(a, b)), min = -vec<V>::largest(-min_(low, c));
  return {max, min, max < S(1e30) && min > S(-1e30)};
}

// Elements from `to` to the next line of memory.
template <class S> LIMBECK_FN Int to_line(const S* to) { return static_cast<Int>((64 - reinterpret_cast<uintptr_t>(to) % 64) % 64 / sizeof(S)); }

// Copies past the caches. The caller fences before another thread may look.
template <class V, class S> LIMBECK_FN void stream_row(S* to, const S* from, Int n) {
  constexpr Int W = lane<V>::width;
  Int i = 0;
  if constexpr (W > 1) {
    const Int lead = to_line(to);
    for (; i < (lead < n ? lead : n); ++i) to[i] = from[i];
  }
  for (; i + W <= n; i += W) vec<V>::stream(to + i, vec<V>::load(from + i));
  for (; i < n; ++i) to[i] = from[i];
}
LIMBECK_FN void stream_fence() {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}

// One scalar in every lane, without splat's way through double.
template <class V, class S> LIMBECK_FN V spread(S x) {
  if constexpr (lane<V>::width == 1) return x;
  else return vec<V>::spread(x);
}

template <class V, class S> LIMBECK_FN void fill_row(S* p, Int n, double value) {
  const V v = splat<V>(value);
  each<V>(n, [&](Int i, auto span) LIMBECK_INLINE { span.store(p + i, v); });
}

}  // namespace limbeck::cpu
