// What capture_top_k needs to be safe to run.
#pragma once
#include "ops/top_k/check.h"

namespace limbeck::checks {

inline bool capture_top_k(Context& ctx, In logits, In row_temperature, Out indices, Out log_probs, Out tail_log_mass,
                          Out log_sum_exp, Int rows, Int cols, Int k, Float temperature) {
  Int size = 0, kept = 0;
  return selection(ctx, rows, cols, k, size, kept) && holds(ctx, "logits", logits, size) && narrow(ctx, "logits", logits) &&
         maybe(ctx, "row_temperature", row_temperature, DType::float32, rows) &&
         (row_temperature || positive(ctx, "temperature", temperature)) &&
         is(ctx, "indices", indices, DType::int32, kept) && is(ctx, "log_probs", log_probs, DType::float32, kept) &&
         is(ctx, "tail_log_mass", tail_log_mass, DType::float32, rows) && maybe(ctx, "log_sum_exp", log_sum_exp, DType::float32, rows);
}

}  // namespace limbeck::checks
