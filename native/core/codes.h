// Names behind the integer codes of kernels.inc. JavaScript looks a name up in the addon's report, so the order is nobody's business.
#pragma once

#define LIMBECK_TARGETS(X) X(none) X(logits) X(log_probs) X(probs) X(interpolated) X(sparse_log_probs) X(sparse_weights)
#define LIMBECK_RESIDUALS(X) X(none) X(renormalize) X(renormalize_both) X(truncate) X(tail_bucket) X(sampled) X(uniform) X(label)
#define LIMBECK_REDUCTIONS(X) X(none) X(sum) X(mean)
#define LIMBECK_DENOMINATORS(X) X(rows) X(weights) X(number)
#define LIMBECK_UNARY(X) \
  X(copy) X(neg) X(relu) X(exp) X(log) X(square) X(sqrt) X(abs) X(tanh) X(sigmoid) X(scale) X(add_scalar) X(expm1) X(log1p) X(softplus) X(finite_or_zero) X(gelu) X(silu)
// What stands behind a linear layer; each but none is the unary function of its name.
#define LIMBECK_ACTIVATIONS(X) X(none) X(relu) X(gelu) X(silu) X(tanh)
// mul0: a·b, but 0 where b is 0 whatever a is. less: 1 where a < b, else 0.
#define LIMBECK_BINARY(X) X(add) X(sub) X(mul) X(div) X(mul0) X(less) X(log_add_exp)
// How b meets a [rows, cols]: same shape; row: b [cols]; column: b [rows]; scalar: b [1].
#define LIMBECK_BROADCASTS(X) X(same) X(row) X(column) X(scalar)
// axis 0 sums over rows and gives [cols]; axis 1 sums over cols and gives [rows].
#define LIMBECK_REDUCES(X) X(sum) X(mean) X(sum_squares) X(max) X(min)
#define LIMBECK_SCANS(X) X(sum) X(log_sum_exp) X(log_sum_exp_relative)
#define LIMBECK_SAMPLE_METHODS(X) X(with_replacement) X(race) X(head_tail)
#define LIMBECK_LABEL_TARGETS(X) X(swap) X(sort) X(mix) X(enhance)
#define LIMBECK_POOLS(X) X(max) X(mean)

namespace limbeck {
#define LIMBECK_ENUM_ENTRY(name) name,
enum class Target : int { LIMBECK_TARGETS(LIMBECK_ENUM_ENTRY) };
enum class Residual : int { LIMBECK_RESIDUALS(LIMBECK_ENUM_ENTRY) };
enum class Reduction : int { LIMBECK_REDUCTIONS(LIMBECK_ENUM_ENTRY) };
enum class Denominator : int { LIMBECK_DENOMINATORS(LIMBECK_ENUM_ENTRY) };
enum class Unary : int { LIMBECK_UNARY(LIMBECK_ENUM_ENTRY) };
enum class Activation : int { LIMBECK_ACTIVATIONS(LIMBECK_ENUM_ENTRY) };
enum class Binary : int { LIMBECK_BINARY(LIMBECK_ENUM_ENTRY) };
enum class Broadcast : int { LIMBECK_BROADCASTS(LIMBECK_ENUM_ENTRY) };
enum class Reduce : int { LIMBECK_REDUCES(LIMBECK_ENUM_ENTRY) };
enum class Scan : int { LIMBECK_SCANS(LIMBECK_ENUM_ENTRY) };
enum class SampleMethod : int { LIMBECK_SAMPLE_METHODS(LIMBECK_ENUM_ENTRY) };
enum class LabelTarget : int { LIMBECK_LABEL_TARGETS(LIMBECK_ENUM_ENTRY) };
enum class Pool : int { LIMBECK_POOLS(LIMBECK_ENUM_ENTRY) };
#undef LIMBECK_ENUM_ENTRY
}  // namespace limbeck
