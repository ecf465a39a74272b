// Rows in which teacher and student clearly differ: their loss and gradient from sums over the exponentials, in half the arithmetic.
// Such a row needs none of the care that keeps small differences exact (math.h); the schedule tries it first and asks FarLoss whether it was one.
#pragma once
#include "core/lanes.h"

namespace limbeck {

// What a formula wants to know of the row, as `far_needs`. `|d|` comes with every d, as a bound.
inline constexpr unsigned kSumPD = 1;        // Σ p·d
inline constexpr unsigned kSumQD = 2;        // Σ q·d
inline constexpr unsigned kSumPLogQ = 4;     // Σ p·ln q
inline constexpr unsigned kSumRoot = 8;      // Σ √(pq)
inline constexpr unsigned kFromOutcomes = 16;  // what far_outcome makes of q and p, twice as much of twice as large ones: Σ loss, Σ slope

struct FarRow {
  double p_d = 0, p_size = 0, q_d = 0, q_size = 0, p_log_q = 0, root = 0;
  double loss = 0, slope = 0;  // the sums of far_outcome
};

// A loss, and the size of the terms it is what is left of.
struct FarLoss {
  double loss, size;
  // Terms are good to about 1.5e-7 of their size, and where few columns count their errors do not cancel: this keeps the loss within its 1e-5.
  bool holds(bool few) const { return loss >= (few ? 0.07 : 0.03) * size; }
};

// Σ q·|d| from which on a gradient q·(d − Σ q·d) wants its d centred.
inline constexpr double kSteep = 10;

// ∂D/∂(z/T) of an outcome: q·(q) + p·(p) + q·d·(qd) + √(pq)·(root), or slope + q·(q) after far_outcome.
struct FarGradient {
  double q, p = 0, qd = 0, root = 0;
};

template <class F> inline constexpr unsigned far_needs = [] {
  if constexpr (requires { F::far_needs; }) return F::far_needs;
  else return 0u;
}();
// What far_outcome's results are times, to be the loss and its slope.
template <class F> inline constexpr double far_unit = [] {
  if constexpr (requires { F::far_unit; }) return F::far_unit;
  else return 1.0;
}();

}  // namespace limbeck
