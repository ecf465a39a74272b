// The gradient of attention on CUDA: a warp per query for ∂q, then a warp per key for ∂k and ∂v; sums in a fixed order, nothing is added by several.
#include "cuda/merge.h"
#include "cuda/rows.h"
#include "cuda/workspace.h"
#include "ops/attention/math.h"

namespace limbeck::cuda {
namespace {

constexpr int kEach = int(kMostHeadWidth) / 32, kWarps = 4, kRow = int(kMostHeadWidth);

struct Call {
  const float *qkv, *y, *log_sums, *gradient_y;
  float *gradient_qkv, *delta;
  Heads h;
  int64_t count;
};

LIMBECK_DEVICE float dot(const Shared<float>& a, const float* b, int64_t at, int D) {
  float sum = 0;
  for (int d = 0; d < D; d++) sum = fma_(float(a[d]), ld(b, at + d), sum);
  return sum;
}

LIMBECK_KERNEL void LIMBECK_BOUNDS(128) attention_backward_queries(Call a) {
  SHARED(float, staged, 2 * kWarps * kRow);
  const Heads& h = a.h;
  const int64_t width = h.width(), line = 3 * width;
  const int D = int(h.head_width);
  const float scale = float(h.scale);
  const Shared<float> query = staged.slice<float>(warp() * 2 * kRow * 4, kRow), upstream = staged.slice<float>((warp() * 2 + 1) * kRow * 4, kRow);
  for (int64_t row = int64_t(block_index()) * kWarps + warp(); row < a.count; row += int64_t(grid_size()) * kWarps) {
    const int64_t task = row / h.tokens, token = row % h.tokens, keys = h.keys(token), at = h.output(task) + token * width;
    const float *q = a.qkv + h.query(task), *k = q + width, *v = k + width;
    float delta = 0, out[kEach] = {};
    sync_warp();
    for (int d = lane(); d < D; d += 32) {
      const float g = ld(a.gradient_y, at + d);
      query[d] = ld(q, token * line + d);
      upstream[d] = g;
      delta = fma_(g, ld(a.y, at + d), delta);
    }
    sync_warp();
    delta = merge_warp(delta, Add{});
    const float log_sum = ld_warp(a.log_sums, row);
    for (int64_t first = 0; first < keys; first += 32) {
      const int64_t key = first + lane();
      float slope = 0;
      if (key < keys) {
        const float p = exp_(fma_(dot(query, k, key * line, D), scale, -log_sum));
        slope = score_gradient_(p, dot(upstream, v, key * line, D), delta, scale);
      }
      for (int j = 0; j < 32; j++) {
        const float share = shuffle(slope, j);
        if (first + j >= keys) continue;
        for (int e = 0; e < kEach; e++)
          if (e * 32 + lane() < D) out[e] = fma_(share, ld(k, (first + j) * line + e * 32 + lane()), out[e]);
      }
    }
    float* to = a.gradient_qkv + h.query(task);
    for (int e = 0; e < kEach; e++)
      if (e * 32 + lane() < D) st(to, token * line + e * 32 + lane(), out[e]);
    if (lane() == 0) st(a.delta, row, delta);
  }
}

LIMBECK_KERNEL void LIMBECK_BOUNDS(128) attention_backward_keys(Call a) {
  SHARED(float, staged, 2 * kWarps * kRow);
  const Heads& h = a.h;
  const int64_t width = h.width(), line = 3 * width;
  const int D = int(h.head_width);
  const float scale = float(h.scale);
  const Shared<float> key = staged.slice<float>(warp() * 2 * kRow * 4, kRow), value = staged.slice<float>((warp() * 2 + 1) * kRow * 4, kRow);
  for (int64_t row = int64_t(block_index()) * kWarps + warp(); row < a.count; row += int64_t(grid_size()) * kWarps) {
    const int64_t task = row / h.tokens, token = row % h.tokens, base = h.output(task);
    const float *q = a.qkv + h.query(task), *k = q + width, *v = k + width;
    sync_warp();
    for (int d = lane(); d < D; d += 32) {
      key[d] = ld(k, token * line + d);
      value[d] = ld(v, token * line + d);
    }
    sync_warp();
    float dk[kEach] = {}, dv[kEach] = {};
    const int64_t earliest = h.causal ? token : 0;
    for (int64_t first = earliest; first < h.tokens; first += 32) {
      const int64_t query = first + lane();
      float p = 0, slope = 0;
      if (query < h.tokens) {
        p = exp_(fma_(dot(key, q, query * line, D), scale, -ld(a.log_sums, task * h.tokens + query)));
        slope = score_gradient_(p, dot(value, a.gradient_y, base + query * width, D), ld(a.delta, task * h.tokens + query), scale);
      }
      for (int j = 0; j < 32; j++) {
        const float share = shuffle(p, j), tilt = shuffle(slope, j);
        if (first + j >= h.tokens) continue;
        for (int e = 0; e < kEach; e++) {
          const int d = e * 32 + lane();
          if (d >= D) continue;
          dv[e] = fma_(share, ld(a.gradient_y, base + (first + j) * width + d), dv[e]);
          dk[e] = fma_(tilt, ld(q, (first + j) * line + d), dk[e]);
        }
      }
    }
    float* to = a.gradient_qkv + h.query(task) + token * line;
    for (int e = 0; e < kEach; e++) {
      const int d = e * 32 + lane();
      if (d >= D) continue;
      st(to, width + d, dk[e]);
      st(to, 2 * width + d, dv[e]);
    }
  }
}

}  // namespace

void attention_backward(Context& ctx, In qkv, In y, In log_sums, In gradient_y, Out gradient_qkv, Int batch, Int tokens, Int heads, Int head_width, Int causal,
                        Float scale) {
  const int64_t count = batch * heads * tokens, blocks = (count + kWarps - 1) / kWarps, most = int64_t(limits(ctx).multiprocessors) * 64;
  if (count == 0) return;
  const Workspace delta(ctx, size_t(count) * sizeof(float));
  if (!delta) return;
  const Launch plan{blocks < most ? blocks : most, kWarps * 32};
  const Call call{qkv.as<float>(), y.as<float>(), log_sums.as<float>(), gradient_y.as<float>(), gradient_qkv.as<float>(), delta.as<float>(),
                  Heads{tokens, heads, head_width, causal != 0, scale}, count};
  launch(ctx, "attention_backward_queries", attention_backward_queries, plan, call);
  launch(ctx, "attention_backward_keys", attention_backward_keys, plan, call);
}

}  // namespace limbeck::cuda
