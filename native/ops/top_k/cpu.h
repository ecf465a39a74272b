// The k best of each row on the CPU: a lower bound from maxima of groups, then only what reaches it is ranked.
#pragma once
#include "ops/top_k/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

// A type of this file's own keeps the standard algorithms it goes through local to this instruction set.
struct Ranked {
  uint64_t rank;
  bool operator<(const Ranked& other) const { return rank > other.rank; }  // best first
};

struct TopK {
  Ranked* kept;    // room for `room` candidates; the k best come first
  float* maxima;   // of `groups` interleaved groups
  Int k, room, groups;

  static Int groups_for(Int k) { return (2 * k + 127) / 128 * 128; }
  static size_t bytes(Int k) { return static_cast<size_t>(2 * k + 4096) * sizeof(Ranked) + static_cast<size_t>(groups_for(k)) * sizeof(float); }
  TopK(void* memory, Int count) : kept(static_cast<Ranked*>(memory)), k(count), room(2 * count + 4096), groups(groups_for(count)) {
    maxima = reinterpret_cast<float*>(kept + room);
  }

  // At least k elements that are not NaN reach the result, if there are that many; -inf says nothing.
  float lower_bound(const float* x, Int cols) {
    constexpr Int W = lane<F32>::width;
    if (cols < 2 * groups) return -INFINITY;
    for (Int g = 0; g < groups; g += W) vec<F32>::store(maxima + g, splat<F32>(-INFINITY));
    for (Int i = 0; i + groups <= cols; i += groups)
      for (Int g = 0; g < groups; g += W)
        vec<F32>::store(maxima + g, max_(vec<F32>::load(x + i + g), vec<F32>::load(maxima + g)));
    for (Int g = 0; g < groups; ++g) kept[g].rank = top_k_key_(maxima[g]);
    std::nth_element(kept, kept + (k - 1), kept + groups);
    const uint32_t key = static_cast<uint32_t>(kept[k - 1].rank);
    return top_k_value(key);
  }

  static float top_k_value(uint32_t key) {
    const uint32_t bits = key & 0x80000000u ? key & 0x7FFFFFFFu : ~key;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }

  // Leaves the k best in order in kept[0..k).
  void select(const float* x, Int cols) {
    if (k == 0) return;
    constexpr Int W = lane<F32>::width;
    float bound = lower_bound(x, cols);
    bool strict = false, full = false;
    Int count = 0;
    const auto add = [&](Int i) {
      kept[count++].rank = top_k_rank_(top_k_key_(x[i]), static_cast<uint32_t>(i));
      if (count < room) return;
      std::nth_element(kept, kept + (k - 1), kept + count);
      count = k;
      // What comes later loses every tie, and nothing beats a NaN.
      const uint32_t key = static_cast<uint32_t>(kept[k - 1].rank >> 32);
      strict = true;
      full = key == kTopKNan;
      bound = full ? bound : top_k_value(key);
    };
    const auto below = [&](F32 v) LIMBECK_INLINE {
      const F32 limit = splat<F32>(bound);
      const uint32_t under = vec<F32>::bits(lt_(v, limit));
      return strict ? under | vec<F32>::bits(eq_(v, limit)) : under;
    };
    constexpr uint32_t kAll = (uint32_t(1) << W) - 1;
    const auto take = [&](Int i, uint32_t reached) {
      for (; reached && !full; reached &= reached - 1) {
        const Int at = i + __builtin_ctz(reached);
        // The bound may have risen since the mask was made.
        if (strict && x[at] <= bound) continue;
        add(at);
      }
    };
    Int i = 0;
    for (; i + 4 * W <= cols && !full; i += 4 * W) {
      const uint32_t a = ~below(vec<F32>::load(x + i)) & kAll, b = ~below(vec<F32>::load(x + i + W)) & kAll;
      const uint32_t c = ~below(vec<F32>::load(x + i + 2 * W)) & kAll, d = ~below(vec<F32>::load(x + i + 3 * W)) & kAll;
      if ((a | b | c | d) == 0) continue;
      take(i, a);
      take(i + W, b);
      take(i + 2 * W, c);
      take(i + 3 * W, d);
    }
    for (; i < cols && !full; ++i)
      if (!(x[i] < bound) && !(strict && x[i] <= bound)) add(i);
    if (count > k) std::nth_element(kept, kept + (k - 1), kept + count);
    std::sort(kept, kept + k);
  }

  Int index(Int j) const { return top_k_index_(kept[j].rank); }
};

void top_k(Context& ctx, In x, Out values, Out indices, Int rows, Int cols, Int k) {
  Faults faults;
  over_rows(rows, cols, [&](Int begin, Int end) {
    void* memory = scratch(TopK::bytes(k));
    if (!memory) return faults.out_of_memory(TopK::bytes(k));
    TopK best(memory, k);
    for (Int r = begin; r < end; ++r) {
      const float* row = x.as<float>() + r * cols;
      best.select(row, cols);
      for (Int j = 0; j < k; ++j) {
        const Int at = best.index(j);
        values.as<float>()[r * k + j] = row[at];
        indices.as<int32_t>()[r * k + j] = static_cast<int32_t>(at);
      }
    }
  });
  faults.report(ctx);
}

}  // namespace
}  // namespace limbeck::cpu::LIMBECK_ISA
