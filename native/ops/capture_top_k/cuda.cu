// capture_top_k on CUDA: the k best log-probabilities with the exact log-mass of all others, in one read of the row for k up to 1024.
#include "cuda/row_sum.h"
#include "cuda/select.h"

namespace limbeck::cuda {
namespace {

struct Capture {
  AnyIn logits;
  const float* row_temperature;
  int32_t* indices;
  float *log_probs, *tail_log_mass, *log_sum_exp;
  int64_t rows, cols, k;
  double temperature;
};

LIMBECK_KERNEL void LIMBECK_BOUNDS(kSelectBlock) capture_top_k_rows(Capture a) {
  SHARED(double, scratch, kScratch);
  SHARED(uint64_t, ranks, kSelectBuffer);
  SHARED(float, tile, kSelectTile);
  SHARED(int, count, 1);
  BlockGroup group(scratch);
  for (int64_t row = block_index(); row < a.rows; row += grid_size()) {
    const AnyIn x_row = offset(a.logits, row * a.cols);
    const double temperature = a.row_temperature != nullptr ? double(ld_warp(a.row_temperature, row)) : a.temperature;
    const double inverse_temperature = 1 / temperature;
    const Inverse inverse = Inverse::of(temperature);
    uint64_t bound = ~uint64_t(0);
    float best = -INFINITY;
    RowSum tail;
    int64_t done = 0;
    do {
      const int wanted = int(a.k - done < kSelectBatch ? a.k - done : kSelectBatch);
      // What the last walk leaves out is the tail: summed there, so never a difference of two masses.
      if (done + wanted == a.k) select_best(x_row, a.cols, wanted, bound, ranks, tile, count, [&](float (&x)[4]) { tail.push(x, inverse); });
      else select_best(x_row, a.cols, wanted, bound, ranks, tile, count, [](float (&)[4]) {});
      for (int i = thread_index(); i < wanted; i += block_size()) {
        const uint64_t rank = ranks[i];
        st(a.indices, row * a.k + done + i, int32_t(top_k_index_(rank)));
      }
      if (done == 0 && wanted > 0) best = rank_value(ranks[0]);
      if (wanted > 0) bound = ranks[wanted - 1];
      done += wanted;
    } while (done < a.k);

    merge_row(group, tail, inverse);
    const float max = a.k > 0 ? best : tail.max;
    double part = 0;
    // The last batch is still in shared memory; earlier ones are looked up by their ids.
    const int64_t last = (a.k - 1) / kSelectBatch * kSelectBatch;
    auto value = [&](int64_t i) -> float {
      if (i >= last) return rank_value(ranks[int(i - last)]);
      return ld(x_row, ld(a.indices, row * a.k + i));
    };
    for (int64_t i = thread_index(); i < a.k; i += block_size()) {
      const float x = value(i);
      part += x == -INFINITY ? 0.0 : exp_((double(x) - double(max)) * inverse_temperature);
    }
    const double on = merge_one(group, part, Add{}, 0.0);
    const double tail_sum = double(tail.ties) + double(tail.rest), tail_shift = (double(tail.max) - double(max)) * inverse_temperature;
    const double log_sum = log_(on + (tail_sum == 0 ? 0.0 : tail_sum * exp_(tail_shift)));
    const bool valid = temperature > 0 && temperature < INFINITY && max > -INFINITY && max < INFINITY && log_sum == log_sum;
    for (int64_t i = thread_index(); i < a.k; i += block_size()) {
      const float x = value(i);
      st(a.log_probs, row * a.k + i, valid ? float((double(x) - double(max)) * inverse_temperature - log_sum) : NAN);
      if (!valid) st(a.indices, row * a.k + i, int32_t(i));
    }
    if (thread_index() == 0) {
      st(a.tail_log_mass, row, !valid ? NAN : tail_sum == 0 ? -INFINITY : float(tail_shift + log_(tail_sum) - log_sum));
      if (a.log_sum_exp != nullptr) st(a.log_sum_exp, row, valid ? float(double(max) * inverse_temperature + log_sum) : NAN);
    }
  }
}

}  // namespace

void capture_top_k(Context& ctx, In logits, In row_temperature, Out indices, Out log_probs, Out tail_log_mass, Out log_sum_exp, Int rows, Int cols, Int k, Float temperature) {
  const Capture a{logits, row_temperature.as<float>(), indices.as<int32_t>(), log_probs.as<float>(), tail_log_mass.as<float>(),
                  log_sum_exp.as<float>(), rows, cols, k, temperature};
  const int64_t most = int64_t(limits(ctx).multiprocessors) * 64;
  launch(ctx, "capture_top_k", capture_top_k_rows, Launch{rows < most ? rows : most, kSelectBlock}, a);
}

}  // namespace limbeck::cuda
