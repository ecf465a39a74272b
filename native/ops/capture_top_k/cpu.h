// A teacher's row as its k best exact log-probabilities and the log-mass of the rest.
#pragma once
#include "ops/softmax/row.h"
#include "ops/top_k/cpu.h"

namespace limbeck::cpu::LIMBECK_ISA {

void capture_top_k(Context& ctx, In logits, In row_temperature, Out indices, Out log_probs, Out tail_log_mass, Out log_sum_exp, Int rows,
                   Int cols, Int k, Float temperature) {
  Faults faults;
  const size_t selection = (TopK::bytes(k) + 63) / 64 * 64, width = (static_cast<size_t>(cols) * sizeof(float) + 63) / 64 * 64;
  const size_t bytes = selection + width + (is_half(logits.dtype) ? width : 0);
  over_rows(rows, cols, [&](Int begin, Int end) {
    char* memory = static_cast<char*>(scratch(bytes));
    if (!memory) return faults.out_of_memory(bytes);
    TopK best(memory, k);
    float* e = reinterpret_cast<float*>(memory + selection);
    for (Int r = begin; r < end && !faults.beyond(r); ++r) {
      const double t = temperature_of(faults, row_temperature, temperature, r);
      if (!(t == t)) continue;
      const float* x = widened<F32>(logits, r * cols, cols, reinterpret_cast<float*>(memory + selection + width));
      int32_t* ids = indices.as<int32_t>() + r * k;
      float* out = log_probs.as<float>() + r * k;
      const auto exponential = RowExp<F32>::of(t);
      const float max = largest<F32>(x, cols);
      const double sum = exp_row<F32>(x, max, exponential, e, cols);
      double log_sum = NAN, tail = NAN;
      if (sum == sum) {
        best.select(x, cols);
        for (Int j = 0; j < k; ++j) ids[j] = static_cast<int32_t>(best.index(j));
        double kept = 0;
        for (Int j = 0; j < k; ++j) kept += static_cast<double>(e[ids[j]]);
        const Rest rest = rest_of_row<F32>(x, max, t, exponential, e, cols, k, [&](Int j) { return ids[j]; });
        log_sum = log(kept + rest.sum * exp(rest.log_scale));
        tail = rest.log_mass() - log_sum;
        for (Int j = 0; j < k; ++j) out[j] = static_cast<float>((static_cast<double>(x[ids[j]]) - static_cast<double>(max)) / t - log_sum);
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
