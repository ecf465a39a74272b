// One row's exponentials on the CPU, shared by the kernels that need a softmax inside.
#pragma once
#include "ops/softmax/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

// Σ e^{(x − max)/T}; the terms go to e where it is given. NaN for a row with NaN or +inf or of -inf alone.
template <class V, class S> double exp_row(const S* x, S max, InverseTemperature<S> inverse, S* e, Int cols) {
  const V m = splat<V>(max), hi = splat<V>(inverse.hi), lo = splat<V>(inverse.lo);
  if (!e)
    return sum_each<V, 1>(cols, [&](Int i, auto span, V* part) LIMBECK_INLINE {
             part[0] = part[0] + exp_scaled_(span.load(x + i, -INFINITY) - m, hi, lo);
           }).sum[0];
  return sum_each<V, 1>(cols, [&](Int i, auto span, V* part) LIMBECK_INLINE {
           const V term = exp_scaled_(span.load(x + i, -INFINITY) - m, hi, lo);
           span.store(e + i, term);
           part[0] = part[0] + term;
         }).sum[0];
}

template <class V, class S> double sum_row(const S* x, Int cols) {
  return sum_each<V, 1>(cols, [&](Int i, auto span, V* part) LIMBECK_INLINE { part[0] = part[0] + span.load(x + i, 0); }).sum[0];
}

// What is left of a row's exponentials once some ids are taken out: Σ = sum·e^{log_scale}, and e holds the terms of `sum`.
struct Rest {
  double sum, log_scale;
  double log_mass() const { return sum > 0 ? log(sum) + log_scale : sum == 0 ? -INFINITY : NAN; }
};

// e holds e^{(x − max)/T} and is 0 at the ids afterwards. A remainder near underflow is taken again relative to its own maximum.
template <class V, class S, class Id>
Rest rest_of_row(const S* x, S max, double temperature, InverseTemperature<S> inverse, S* e, Int cols, Int count, Id id) {
  for (Int j = 0; j < count; ++j) e[id(j)] = 0;
  const double sum = sum_row<V>(e, cols);
  if (!(sum < 1e-20) || count == cols) return {sum, 0};
  memcpy(e, x, static_cast<size_t>(cols) * sizeof(S));
  for (Int j = 0; j < count; ++j) e[id(j)] = -INFINITY;
  const S top = largest<V>(e, cols);
  if (top == -INFINITY) {
    fill_row<V>(e, cols, 0);
    return {0, 0};
  }
  const double own = exp_row<V>(e, top, inverse, e, cols);
  return {own, (static_cast<double>(top) - static_cast<double>(max)) / temperature};
}

}  // namespace
}  // namespace limbeck::cpu::LIMBECK_ISA
