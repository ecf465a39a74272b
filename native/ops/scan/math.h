// Running sums, running ln Σ e^x and its gradient: how one more element joins, how two stretches of a row join.
#pragma once
#include "core/codes.h"
#include "core/lanes.h"

namespace limbeck {

// Σ e^{x − max} over a stretch of elements; NaN where one of them is NaN or +inf. With nothing but -inf: {-inf, 0}.
template <class S> struct RunningLse {
  S max;
  double sum;

  LIMBECK_FN static RunningLse empty() { return {S(-INFINITY), 0}; }
  LIMBECK_FN static RunningLse of(S x) {
    if (!(x < S(INFINITY))) return {S(-INFINITY), NAN};
    return x == S(-INFINITY) ? empty() : RunningLse{x, 1};
  }
  LIMBECK_FN static RunningLse join(const RunningLse& a, const RunningLse& b) {
    const S top = max_(a.max, b.max);
    const double from_a = a.max == top ? a.sum : a.sum * double(exp_(a.max - top));
    const double from_b = b.max == top ? b.sum : b.sum * double(exp_(b.max - top));
    return {top, from_a + from_b};
  }
  // ln Σ.
  LIMBECK_FN S log() const { return sum == 0 ? S(-INFINITY) : max + log_(S(sum)); }
  // ln(Σ + e^x) − x without the difference: never negative, and exact however small. +inf for x = -inf.
  LIMBECK_FN S beyond(S x) const {
    if (!(x < S(INFINITY)) || sum != sum) return S(NAN);
    if (x == S(-INFINITY)) return S(INFINITY);
    if (x >= max) return log1p_(S(sum * double(exp_(max - x))));
    return (max - x) + log_(S(sum + double(exp_(x - max))));
  }
  // beyond(x), and x joins: one exponential for both.
  LIMBECK_FN S step(S x) {
    if (!(x < S(INFINITY)) || x == S(-INFINITY)) {
      const S y = beyond(x);
      *this = join(*this, of(x));
      return y;
    }
    const S gap = max - x;
    if (gap > 0) {
      const double own = double(exp_(-gap));
      sum += own;
      return gap + log_(S(sum));
    }
    const double before = sum * double(exp_(gap));
    max = x;
    sum = before + 1;
    return log1p_(S(before));
  }
};

// p = e^{−y} and 1 − p, each from the exponential that keeps its digits.
struct LseShare {
  double own, rest;
  template <class S> LIMBECK_FN static LseShare of(S y, double exp_of_minus_y, double expm1_of_minus_y) {
    return y < S(0.5) ? LseShare{1 + expm1_of_minus_y, -expm1_of_minus_y} : LseShare{exp_of_minus_y, 1 - exp_of_minus_y};
  }
  template <class S> LIMBECK_FN static LseShare of(S y) {
    return y < S(0.5) ? of(y, 0, double(expm1_(-y))) : of(y, double(exp_(-y)), 0);
  }
};

// The gradient walks the other way: what reaches an element is g + carried, and what it passes on is a = (1 − p)·(g + carried), with
// p = e^{−y} its share of Σ and y = ln Σ − x. A stretch is the map carried → factor·carried + term.
struct RunningGradient {
  double factor, term;

  LIMBECK_FN static RunningGradient empty() { return {1, 0}; }
  LIMBECK_FN static RunningGradient of(const LseShare& share, double g) { return {share.rest, share.rest * g}; }
  LIMBECK_FN static RunningGradient join(const RunningGradient& a, const RunningGradient& b) {
    return {a.factor * b.factor, a.term * b.factor + b.term};
  }
  // ∂/∂x of Σ g·ln Σ, or of Σ g·(ln Σ − x) where the output is relative.
  LIMBECK_FN double gradient(const LseShare& share, double g, bool relative) const {
    return relative ? share.own * term - g * share.rest : share.own * (term + g);
  }
};

}  // namespace limbeck
