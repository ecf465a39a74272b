// What sample_target needs to be safe to run.
#pragma once
#include "core/check.h"

namespace limbeck::checks {

inline bool sample_target(Context& ctx, In logits, In row_temperature, Out indices, Out weights, Int rows, Int cols, Int draws, Int method,
                          Float temperature, Int seed, Int row_offset) {
  Int size = 0, kept = 0;
  if (!(extent(ctx, "rows", rows) && extent(ctx, "cols", cols, 1) && extent(ctx, "draws", draws, 1) && spread(ctx, "cols", rows, cols, cols, size)))
    return false;
  if (cols > INT32_MAX) return ctx.refuse(Fail::value, "cols must fit an int32 index: it is %lld", (long long)cols);
  // Counts up to 2^24 are exact in float32.
  if (draws > Int(1) << 24) return ctx.refuse(Fail::value, "draws must be at most 16777216: it is %lld", (long long)draws);
  if (!product(rows, draws < cols ? draws : cols, kept)) return ctx.refuse(Fail::value, "rows · draws must stay below 2^53: rows is %lld", (long long)rows);
  return code(ctx, "method", method, 0 LIMBECK_SAMPLE_METHODS(LIMBECK_COUNT_ENTRY)) && extent(ctx, "seed", seed) &&
         extent(ctx, "row_offset", row_offset) && extent(ctx, "row_offset + rows", row_offset + rows) &&
         holds(ctx, "logits", logits, size) && narrow(ctx, "logits", logits) && maybe(ctx, "row_temperature", row_temperature, DType::float32, rows) &&
         (row_temperature || positive(ctx, "temperature", temperature)) && is(ctx, "indices", indices, DType::int32, kept) &&
         is(ctx, "weights", weights, DType::float32, kept);
}

}  // namespace limbeck::checks
