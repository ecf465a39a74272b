// What divergence (the kernel behind kdLoss and crossEntropy) needs to be safe to run.
#pragma once
#include "core/check.h"
#include "ops/divergence/divergences.h"

namespace limbeck::checks {

inline bool divergence(Context& ctx, In student, In teacher, In indices, In values, In tail_log_mass, In labels, In row_weights,
                       In row_temperature, Out row_loss, Out loss, Out gradient, Int rows, Int cols, Int student_stride,
                       Int teacher_stride, Int gradient_stride, Int k, Int target, Int divergence, Float, Float, Int residual,
                       Float log_prob_scale, Float temperature, Int, Float hard_weight, Float label_smoothing, Int, Int,
                       Int reduction, Int denominator, Float denominator_value) {
  Int student_size = 0, teacher_size = 0, gradient_size = 0, kept = 0;
  if (!(extent(ctx, "rows", rows) && extent(ctx, "cols", cols) && extent(ctx, "k", k) &&
        spread(ctx, "student_stride", rows, cols, student_stride, student_size) &&
        code(ctx, "target", target, 0 LIMBECK_TARGETS(LIMBECK_COUNT_ENTRY)) &&
        code(ctx, "divergence", divergence, 0 LIMBECK_DIVERGENCES(LIMBECK_COUNT_ENTRY)) &&
        code(ctx, "residual", residual, 0 LIMBECK_RESIDUALS(LIMBECK_COUNT_ENTRY)) &&
        code(ctx, "reduction", reduction, 0 LIMBECK_REDUCTIONS(LIMBECK_COUNT_ENTRY)) &&
        code(ctx, "denominator", denominator, 0 LIMBECK_DENOMINATORS(LIMBECK_COUNT_ENTRY))))
    return false;
  if (cols > INT32_MAX) return ctx.refuse(Fail::value, "cols must fit an int32 index: it is %lld", (long long)cols);
  if (!(holds(ctx, "student", student, student_size) && stored(ctx, "student", student) &&
        is(ctx, "row_loss", row_loss, computed_in(student.dtype), rows) &&
        maybe(ctx, "row_weights", row_weights, DType::float32, rows) &&
        maybe(ctx, "row_temperature", row_temperature, DType::float32, rows) &&
        (row_temperature || positive(ctx, "temperature", temperature)) && maybe(ctx, "labels", labels, DType::int32, rows)))
    return false;
  if (gradient && !(spread(ctx, "gradient_stride", rows, cols, gradient_stride, gradient_size) &&
                    is(ctx, "gradient", gradient, student.dtype, gradient_size)))
    return false;
  if (Reduction(reduction) != Reduction::none && !is(ctx, "loss", loss, computed_in(student.dtype), 1)) return false;
  if (!(hard_weight >= 0 && hard_weight <= 1))
    return ctx.refuse(Fail::value, "hard_weight must be in [0, 1]: it is %g", hard_weight);
  if (!(label_smoothing >= 0 && label_smoothing <= 1))
    return ctx.refuse(Fail::value, "label_smoothing must be in [0, 1]: it is %g", label_smoothing);
  if (hard_weight > 0 && !labels && rows > 0) return ctx.refuse(Fail::kind, "labels must be given: hard_weight is %g", hard_weight);
  if (Denominator(denominator) == Denominator::number && !positive(ctx, "denominator", denominator_value)) return false;

  switch (Target(target)) {
    case Target::none:
      return hard_weight == 1 || ctx.refuse(Fail::kind, "a target must be given: hard_weight is %g", hard_weight);
    case Target::logits:
    case Target::log_probs:
    case Target::probs:
      return spread(ctx, "teacher_stride", rows, cols, teacher_stride, teacher_size) && holds(ctx, "teacher", teacher, teacher_size) &&
             stored(ctx, "teacher", teacher) && (student.dtype == DType::float64 || teacher.dtype != DType::float64 || dtype(ctx, "teacher", teacher, DType::float32));
    case Target::sparse_log_probs:
    case Target::sparse_weights: {
      const Residual rule = Residual(residual);
      const bool weights = Target(target) == Target::sparse_weights;
      if (weights ? rule != Residual::sampled : rule == Residual::sampled || rule == Residual::none)
        return ctx.refuse(Fail::value, "residual must be %s: it is code %lld", weights ? "sampled" : "one for probabilities", (long long)residual);
      if (rule == Residual::label && !labels && rows > 0) return ctx.refuse(Fail::kind, "labels must be given: residual is label");
      if (weights && Divergence(divergence) != Divergence::soft_cross_entropy)
        return ctx.refuse(Fail::value, "divergence must be soft_cross_entropy for a target of weights: it is code %lld", (long long)divergence);
      if (k > cols) return ctx.refuse(Fail::value, "k must be at most cols (%lld): it is %lld", (long long)cols, (long long)k);
      return product(rows, k, kept) && is(ctx, "indices", indices, DType::int32, kept) &&
             is(ctx, "values", values, DType::float32, kept) && maybe(ctx, "tail_log_mass", tail_log_mass, DType::float32, rows) &&
             positive(ctx, "log_prob_scale", log_prob_scale);
    }
  }
  return false;
}

}  // namespace limbeck::checks
