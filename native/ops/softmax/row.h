// One row's exponentials on the CPU, shared by the kernels that need a softmax inside.
#pragma once
#include "cpu/vec_math.h"
#include "ops/softmax/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

// Σ e^{(x − max)/T}; the terms go to e where it is given. NaN for a row with NaN or +inf or of -inf alone.
// `span` = max − min, where it is known.
template <class V, class S> double exp_row(const S* x, S max, const RowExp<V>& scaled, S* e, Int cols, double span = INFINITY) {
  const V m = splat<V>(max);
  const RowExp<V> exponential = scaled;  // a copy that no store can alias
  if constexpr (lane<V>::width > 1)
    if (e && exponential.spares(span)) {
      const Int W = lane<V>::width, whole = cols / W * W;
      double sum = sum_each<V, 1>(whole, [&](Int i, auto span, V* part) LIMBECK_INLINE {
                     const V term = exponential.near(span.load(x + i, 0) - m);
                     span.store(e + i, term);
                     part[0] = part[0] + term;
                   }).sum[0];
      if (whole < cols) sum += exp_row<V>(x + whole, max, scaled, e + whole, cols - whole);
      return sum;
    }
  if (!e)
    return sum_each<V, 1>(cols, [&](Int i, auto span, V* part) LIMBECK_INLINE {
             part[0] = part[0] + exponential(span.load(x + i, -INFINITY) - m);
           }).sum[0];
  return sum_each<V, 1>(cols, [&](Int i, auto span, V* part) LIMBECK_INLINE {
           const V term = exponential(span.load(x + i, -INFINITY) - m);
           span.store(e + i, term);
           part[0] = part[0] + term;
         }).sum[0];
}

// Σ e^x of logarithms to double precision, for a teacher's given mass: an excess of 1e-8 over 1 is part of the loss.
// Sixteen at a time in plain arithmetic, which the compiler turns into vectors.
inline double exact_exp(double z) {
  const double magic = 6755399441055744.0, shifted = z * kLog2e + magic, n = shifted - magic;
  const double r = (z - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double p = 1.0 / 479001600;
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1;
  p = p * r + 1;
  int64_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 1023) << 52;
  double scale;
  memcpy(&scale, &bits, sizeof scale);
  return z < -700 ? 0 : p * scale;
}

inline double folded(double (&part)[16]) {
  for (int n = 8; n > 0; n /= 2)
    for (int j = 0; j < n; ++j) part[j] += part[j + n];
  return part[0];
}

template <class S> double exact_exp_row(const S* x, S* e, Int cols) {
  double part[16] = {};
  Int i = 0;
  for (; i + 16 <= cols; i += 16)
    for (int j = 0; j < 16; ++j) {
      const double term = exact_exp(static_cast<double>(x[i + j]));
      e[i + j] = static_cast<S>(term);
      part[j] += term;
    }
  for (; i < cols; ++i) {
    const double term = exact_exp(static_cast<double>(x[i]));
    e[i] = static_cast<S>(term);
    part[0] += term;
  }
  return folded(part);
}

// Σ e^{(x − max)·inverse} to double precision.
template <class S> double exact_scaled_sum(const S* x, double max, double inverse, Int cols) {
  double part[16] = {};
  Int i = 0;
  for (; i + 16 <= cols; i += 16)
    for (int j = 0; j < 16; ++j) part[j] += exact_exp((static_cast<double>(x[i + j]) - max) * inverse);
  for (; i < cols; ++i) part[0] += exact_exp((static_cast<double>(x[i]) - max) * inverse);
  return folded(part);
}

template <class S> double exact_sum_row(const S* x, Int cols) {
  double part[16] = {};
  Int i = 0;
  for (; i + 16 <= cols; i += 16)
    for (int j = 0; j < 16; ++j) part[j] += static_cast<double>(x[i + j]);
  for (; i < cols; ++i) part[0] += static_cast<double>(x[i]);
  return folded(part);
}

// Leaves a NaN out; -INFINITY of nothing.
inline double exact_largest(const double* x, Int n) {
  double part[16], top = -INFINITY;
  for (double& some : part) some = -INFINITY;
  Int i = 0;
  for (; i + 16 <= n; i += 16)
    for (int j = 0; j < 16; ++j) part[j] = x[i + j] > part[j] ? x[i + j] : part[j];
  for (; i < n; ++i) part[0] = x[i] > part[0] ? x[i] : part[0];
  for (double some : part) top = some > top ? some : top;
  return top;
}

template <class V, class S> double sum_row(const S* x, Int cols) {
  return sum_each<V, 1>(cols, [&](Int i, auto span, V* part) LIMBECK_INLINE { part[0] = part[0] + span.load(x + i, 0); }).sum[0];
}

// What is left of a row's exponentials once some ids are taken out: Σ = sum·e^{log_scale}, and e holds the terms of `sum`.
struct Rest {
  double sum, log_scale;
  double log_mass() const { return sum > 0 ? log(sum) + log_scale : sum == 0 ? -INFINITY : NAN; }
};

// Whether a remainder keeps its digits as all − kept.
inline bool difference_will_do(double all, double kept) { return all - kept > all / 16; }

// e holds e^{(x − max)/T}; `all` is its sum and `kept` that over the ids, where they are known. A remainder that the difference of the two
// cannot give is summed, and one near underflow is taken again relative to its own maximum; then e is 0 at the ids.
template <class V, class S, class Id>
Rest rest_of_row(const S* x, S max, double temperature, const RowExp<V>& exponential, S* e, Int cols, Int count, Id id, double all = 0, double kept = 0) {
  if (difference_will_do(all, kept)) return {all - kept, 0};
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
  const double own = exp_row<V>(e, top, exponential, e, cols);
  return {own, (static_cast<double>(top) - static_cast<double>(max)) / temperature};
}

}  // namespace
}  // namespace limbeck::cpu::LIMBECK_ISA
