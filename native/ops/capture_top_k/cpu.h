// A teacher's row as its k best exact log-probabilities and the log-mass of the rest.
#pragma once
#include "ops/softmax/blocks.h"
#include "ops/top_k/cpu.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

// The row's largest and Σ e^{(x − max)/T} in one walk, which leaves the maxima of the 128 groups and, where there are enough to make the groups of,
// of the strips; `sum` is NaN where a block goes too far from the largest before it.
template <class V, bool with_strips> float maxima_and_sum(const TopK& best, const float* x, double temperature, const RowExp<V>& scaled, Int cols, double& sum, float* strips) {
  constexpr Int W = lane<V>::width, N = TopK::kStrip / W;
  const RowExp<V> exponential = scaled;  // a copy that no store can alias
  V top[N], low = splat<V>(INFINITY);
  for (V& each : top) each = splat<V>(-INFINITY);
  float max = largest<V>(x, kGlance), rest = -INFINITY;
  sum = 0;
  for (Int begin = 0; begin < cols; begin += kRowBlock) {
    const float* from = x + begin;
    const Int n = block_cols(begin, cols), grouped = n / TopK::kStrip * TopK::kStrip;
    const float before = max;
    const V reference = spread<V>(before);
    V part[2] = {splat<V>(0), splat<V>(0)};
    V all = splat<V>(-INFINITY);
    for (Int i = 0; i < grouped; i += TopK::kStrip) {
      V strip = splat<V>(-INFINITY);
#pragma GCC unroll 16
      for (int k = 0; k < N; ++k) {
        fetch(from + i + k * W, kRowBlock * static_cast<Int>(sizeof(float)));
        const V at = vec<V>::load(from + i + k * W);
        if constexpr (with_strips) strip = max_(at, strip);
        else top[k] = max_(at, top[k]);
        low = min_(at, low);
        part[k % 2] = part[k % 2] + exponential.near(at - reference);
      }
      if constexpr (with_strips) {
        vec<V>::store(strips + (begin + i) / TopK::kStrip * W, strip);
        all = max_(strip, all);
      }
    }
    double block = vec<V>::total(part[0] + part[1]);
    if (grouped < n) {
      const Range<float> range = range_of<V>(from + grouped, n - grouped);
      rest = range.max;
      low = min_(spread<V>(range.min), low);
      block += exp_row<V>(from + grouped, before, exponential, static_cast<float*>(nullptr), n - grouped);
    }
    if constexpr (!with_strips)
      for (const V& each : top) all = max_(each, all);
    max = std::max({vec<V>::largest(all), rest, max});
    sum = (max == before ? sum + block : (sum + block) * exp((static_cast<double>(before) - static_cast<double>(max)) / temperature));
    // A NaN below: such a row, or one of infinite numbers, takes the other way.
    if (!(exponential.bits(static_cast<double>(max) - static_cast<double>(before)) < 20)) sum = NAN;
  }
  const double span = static_cast<double>(max) + static_cast<double>(vec<V>::largest(-low));
  if (!(max < 1e30f) || !exponential.spares(span)) sum = NAN;
  if constexpr (with_strips)
    for (Int s = 0; s < cols / TopK::kStrip; ++s) top[s % N] = max_(vec<V>::load(strips + s * W), top[s % N]);
  for (int k = 0; k < N; ++k) vec<V>::store(best.maxima + k * W, top[k]);
  return max;
}

// Σ e^{(x − max)/T} over some columns.
inline double mass_at(const float* x, const int32_t* ids, Int k, float max, double temperature) {
  double mass = 0;
  for (Int begin = 0; begin < k; begin += 64) {
    float at[64];
    const Int n = std::min<Int>(k - begin, 64);
    for (Int j = 0; j < n; ++j) at[j] = x[ids[begin + j]];
    mass += exact_scaled_sum(at, static_cast<double>(max), 1 / temperature, n);
  }
  return mass;
}

// Selection and both masses in one walk over a row: what stays below the bound is tail, and the candidates are few.
// Relative to the row's largest; false where candidates were dropped or the tail is too small for that: then it takes another walk.
bool select_with_masses(TopK& best, const float* x, float max, double temperature, const RowExp<F32>& exponential, Int cols, double& kept, double& tail) {
  constexpr Int W = lane<F32>::width;
  if constexpr (W == 1) return false;
  const F32 m = splat<F32>(max), zero = splat<F32>(0);
  F32 part[4] = {zero, zero, zero, zero};
  double sum = 0;
  Int steps = 0;
  best.select(x, cols, [&](F32 v, F32 limit, Int j) LIMBECK_INLINE {
    part[j] = part[j] + select_(lt_(v, limit), exponential(v - m), zero);
    if (j == 3 && ++steps == kBlock / (4 * W)) {
      sum += vec<F32>::total((part[0] + part[1]) + (part[2] + part[3]));
      for (F32& each : part) each = zero;
      steps = 0;
    }
  });
  if (!best.whole) return false;
  sum += vec<F32>::total((part[0] + part[1]) + (part[2] + part[3]));
  const double inverse = 1 / temperature, top = static_cast<double>(max);
  const auto mass = [&](Int from, Int to) {
    double total = 0;
    for (Int j = from; j < to; ++j) total += exact_exp((static_cast<double>(x[best.index(j)]) - top) * inverse);
    return total;
  };
  kept = mass(0, best.k);
  tail = sum + mass(best.k, best.count);
  // The elements behind the whole vectors that were no candidates.
  const float bound = best.bound;
  for (Int i = best.last; i < cols; ++i)
    if (x[i] < bound) tail += exact_exp((static_cast<double>(x[i]) - top) * inverse);
  return !(tail < 1e-20);
}

}  // namespace

void capture_top_k(Context& ctx, In logits, In row_temperature, Out indices, Out log_probs, Out tail_log_mass, Out log_sum_exp, Int rows,
                   Int cols, Int k, Float temperature) {
  Faults faults;
  const size_t selection = (TopK::bytes(k) + 63) / 64 * 64, width = (static_cast<size_t>(cols) * sizeof(float) + 63) / 64 * 64;
  const size_t bytes = selection + width + (is_half(logits.dtype) ? width : 0);
  over_rows(rows, cols, [&](Int begin, Int end) {
    char* memory = static_cast<char*>(scratch(bytes));
    if (!memory) return faults.out_of_memory(bytes);
    TopK best(memory, k);
    // So many that a group is some vectors of strips; where the row's exponentials may stand later.
    const bool has_strips = cols >= 64 * TopK::kStrip;
    float* e = reinterpret_cast<float*>(memory + selection);
    for (Int r = begin; r < end && !faults.beyond(r); ++r) {
      const double t = temperature_of(faults, row_temperature, temperature, r);
      if (!(t == t)) continue;
      const float* x = widened<F32>(logits, r * cols, cols, reinterpret_cast<float*>(memory + selection + width));
      int32_t* ids = indices.as<int32_t>() + r * k;
      float* out = log_probs.as<float>() + r * k;
      const auto exponential = RowExp<F32>::of(t);
      double log_sum = NAN, tail = NAN, kept = 0, sum = NAN;
      float max;
      if (k == 0 || !best.has_groups(cols)) max = largest<F32>(x, cols);
      else if (lane<F32>::width < 8 || best.groups > 128) max = best.group_maxima(x, cols);
      else if constexpr (lane<F32>::width >= 8)
        max = has_strips ? maxima_and_sum<F32, true>(best, x, t, exponential, cols, sum, e) : maxima_and_sum<F32, false>(best, x, t, exponential, cols, sum, e);
      Rest rest{0, 0};
      if (sum == sum) {
        if (!has_strips || !best.select_from_strips(x, cols, e)) best.select(x, cols, [](F32, F32, Int) LIMBECK_INLINE {});
        for (Int j = 0; j < k; ++j) ids[j] = static_cast<int32_t>(best.index(j));
        kept = mass_at(x, ids, k, max, t);
        rest.sum = sum - kept;
      }
      if (sum == sum && rest.sum > sum / 2) {
        // The tail is what is left: of a smaller one the sum's rounding would show.
      } else if (k > 0 && k < cols && select_with_masses(best, x, max, t, exponential, cols, kept, rest.sum)) {
        sum = kept + rest.sum;
        for (Int j = 0; j < k; ++j) ids[j] = static_cast<int32_t>(best.index(j));
      } else {
        kept = 0;
        sum = exp_row<F32>(x, max, exponential, e, cols);
        if (sum == sum) {
          best.select(x, cols);
          for (Int j = 0; j < k; ++j) ids[j] = static_cast<int32_t>(best.index(j));
          for (Int j = 0; j < k; ++j) kept += static_cast<double>(e[ids[j]]);
          rest = rest_of_row<F32>(x, max, t, exponential, e, cols, k, [&](Int j) { return ids[j]; });
        }
      }
      if (sum == sum) {
        log_sum = log(kept + rest.sum * exp(rest.log_scale));
        tail = rest.log_mass() - log_sum;
        const double inverse = 1 / t;
        for (Int j = 0; j < k; ++j) out[j] = static_cast<float>((static_cast<double>(x[ids[j]]) - static_cast<double>(max)) * inverse - log_sum);
      } else {
        for (Int j = 0; j < k; ++j) {
          ids[j] = static_cast<int32_t>(j);
          out[j] = NAN;
        }
      }
      tail_log_mass.as<float>()[r] = static_cast<float>(tail);
      if (log_sum_exp) log_sum_exp.as<float>()[r] = static_cast<float>(static_cast<double>(max) / t + log_sum);
    }
  });
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
