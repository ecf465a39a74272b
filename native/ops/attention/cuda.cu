// Attention on CUDA: a warp per query. Lanes take 32 keys at a time for the scores and then the columns of the output, the softmax runs along.
#include "cuda/merge.h"
#include "cuda/rows.h"
#include "ops/attention/math.h"

namespace limbeck::cuda {
namespace {

constexpr int kEach = int(kMostHeadWidth) / 32, kWarps = 4;

LIMBECK_KERNEL void LIMBECK_BOUNDS(128) attention_queries(const float* qkv, float* y, float* log_sums, Heads h, int64_t count) {
  SHARED(float, staged, kWarps * int(kMostHeadWidth));
  const int64_t width = h.width(), line = 3 * width;
  const int D = int(h.head_width);
  const Shared<float> query = staged.slice<float>(warp() * int(kMostHeadWidth) * 4, int(kMostHeadWidth));
  for (int64_t row = int64_t(block_index()) * kWarps + warp(); row < count; row += int64_t(grid_size()) * kWarps) {
    const int64_t task = row / h.tokens, token = row % h.tokens, keys = h.keys(token);
    const float* q = qkv + h.query(task);
    const float *k = q + width, *v = k + width;
    sync_warp();
    for (int d = lane(); d < D; d += 32) query[d] = ld(q, token * line + d) * float(h.scale);
    sync_warp();
    float max = -INFINITY, sum = 0, out[kEach] = {};
    for (int64_t first = 0; first < keys; first += 32) {
      const int64_t key = first + lane();
      float score = -INFINITY;
      if (key < keys) {
        score = 0;
        for (int d = 0; d < D; d++) score = fma_(float(query[d]), ld(k, key * line + d), score);
      }
      const float top = max_(merge_warp(score, Max{}), max), before = exp_(max - top), p = key < keys ? exp_(score - top) : 0.0f;
      max = top;
      sum = sum * before + merge_warp(p, Add{});
      for (int e = 0; e < kEach; e++) out[e] *= before;
      for (int j = 0; j < 32; j++) {
        const float share = shuffle(p, j);
        if (first + j >= keys) continue;
        for (int e = 0; e < kEach; e++)
          if (e * 32 + lane() < D) out[e] = fma_(share, ld(v, (first + j) * line + e * 32 + lane()), out[e]);
      }
    }
    for (int e = 0; e < kEach; e++)
      if (e * 32 + lane() < D) st(y, h.output(task) + token * width + e * 32 + lane(), out[e] / sum);
    if (lane() == 0) st(log_sums, row, max + log_(sum));
  }
}

}  // namespace

void attention(Context& ctx, In qkv, Out y, Out log_sums, Int batch, Int tokens, Int heads, Int head_width, Int causal, Float scale) {
  const int64_t count = batch * heads * tokens, blocks = (count + kWarps - 1) / kWarps, most = int64_t(limits(ctx).multiprocessors) * 64;
  launch(ctx, "attention", attention_queries, Launch{blocks < most ? blocks : most, kWarps * 32}, qkv.as<float>(), y.as<float>(), log_sums.as<float>(),
         Heads{tokens, heads, head_width, causal != 0, scale}, count);
}

}  // namespace limbeck::cuda
