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
  Int last = 0;        // where the whole vectors of the last select ended
  Int count = 0;       // candidates of the last select: the k best in order, then those they beat
  float bound = 0;     // what the k best reach at least
  bool whole = false;  // it dropped none of what reached its bound
  // Bytes by which the first walk over a row fetches ahead.
  static constexpr Int kAhead = 8192;
  // Up to this many are ranked by counting.
  static constexpr Int kPlaced = 256;
  float value[kPlaced], place[kPlaced];
  Ranked order[kPlaced];

  static Int groups_for(Int k) { return (2 * k + 127) / 128 * 128; }
  static size_t bytes(Int k) { return static_cast<size_t>(2 * k + 4096) * sizeof(Ranked) + static_cast<size_t>(groups_for(k)) * sizeof(float); }
  TopK(void* memory, Int count) : kept(static_cast<Ranked*>(memory)), k(count), room(2 * count + 4096), groups(groups_for(count)) {
    maxima = reinterpret_cast<float*>(kept + room);
  }

  // How many of the first `count` values beat each one, where ties go to the earlier: its place in the order, found without a branch.
  // Values are padded to a whole vector with -inf; none is NaN.
  static void places(const float* value, float* place, Int count) {
    constexpr Int W = lane<F32>::width;
    static constexpr float kPositions[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const F32 one = splat<F32>(1), zero = splat<F32>(0), position = vec<F32>::load(kPositions);
    for (Int block = 0; block < count; block += W) {
      const F32 mine = vec<F32>::load(value + block);
      F32 part[4] = {zero, zero, zero, zero};
      // Four sums, because one would wait for itself; steps of four end at whole vectors, behind which the padding beats nothing.
      constexpr Int kStep = W < 4 ? 1 : 4;
      for (Int i = 0; i < block; i += kStep)
#pragma GCC unroll 4
        for (Int j = 0; j < kStep; ++j) part[j] = part[j] + select_(lt_(spread<F32>(value[i + j]), mine), zero, one);
      for (Int i = block + W; i < count; i += kStep)
#pragma GCC unroll 4
        for (Int j = 0; j < kStep; ++j) part[j] = part[j] + select_(lt_(mine, spread<F32>(value[i + j])), one, zero);
      F32 beaten = (part[0] + part[1]) + (part[2] + part[3]);
      for (Int i = 0; i < W && block + i < count; ++i) {
        const F32 other = spread<F32>(value[block + i]);
        const F32 before = select_(lt_(other, mine), zero, one), behind = select_(lt_(mine, other), one, zero);
        beaten = beaten + select_(lt_(splat<F32>(static_cast<double>(i)), position), before, behind);
      }
      vec<F32>::store(place + block, beaten);
    }
  }

  // Maxima of N vectors of groups, which stay in registers.
  template <int N> Int maxima_in(const float* x, Int cols) {
    constexpr Int W = lane<F32>::width;
    F32 top[N];
    for (F32& each : top) each = splat<F32>(-INFINITY);
    Int i = 0;
    for (; i + N * W <= cols; i += N * W)
#pragma GCC unroll 16
      for (int k = 0; k < N; ++k) {
        fetch(x + i + k * W, kAhead);
        top[k] = max_(vec<F32>::load(x + i + k * W), top[k]);
      }
    for (int k = 0; k < N; ++k) vec<F32>::store(maxima + k * W, top[k]);
    return i;
  }

  // The groups' maxima, and with what is left over the row's. NaN may be dropped.
  float group_maxima(const float* x, Int cols) {
    constexpr Int W = lane<F32>::width;
    Int i = 0;
    if constexpr (W >= 8)
      if (groups == 128) i = maxima_in<128 / W>(x, cols);
    if (i == 0) {
      for (Int g = 0; g < groups; g += W) vec<F32>::store(maxima + g, splat<F32>(-INFINITY));
      for (; i + groups <= cols; i += groups)
        for (Int g = 0; g < groups; g += W) vec<F32>::store(maxima + g, max_(vec<F32>::load(x + i + g), vec<F32>::load(maxima + g)));
    }
    const float rest = i < cols ? largest<F32>(x + i, cols - i) : -INFINITY, top = largest<F32>(maxima, groups);
    return top > rest ? top : rest;
  }

  // Whether lower_bound has something to go by.
  bool has_groups(Int cols) const { return cols >= 2 * groups; }

  // At least k elements that are not NaN reach the result, if there are that many; -inf says nothing. After group_maxima.
  float lower_bound(Int cols) {
    constexpr Int W = lane<F32>::width;
    if (!has_groups(cols)) return -INFINITY;
    if (W > 1) {
      // Any value that at least k of the maxima reach will do: halving finds one that few more reach.
      float low = INFINITY, high = -INFINITY;
      for (Int g = 0; g < groups; ++g) {
        low = maxima[g] < low ? maxima[g] : low;
        high = maxima[g] > high ? maxima[g] : high;
      }
      Int reach = groups;
      for (int step = 0; step < 24 && low > -1e30f && high < 1e30f && reach > k + k / 16; ++step) {
        const float middle = low + (high - low) / 2;
        if (!(middle > low)) break;
        const F32 limit = splat<F32>(middle);
        Int found = groups;
        for (Int g = 0; g < groups; g += W) found -= __builtin_popcount(vec<F32>::bits(lt_(vec<F32>::load(maxima + g), limit)));
        if (found < k) high = middle;
        else {
          low = middle;
          reach = found;
        }
      }
      if (low > -1e30f && high < 1e30f) return low;
    }
    for (Int g = 0; g < groups; ++g) kept[g].rank = top_k_key_(maxima[g]);
    std::nth_element(kept, kept + (k - 1), kept + groups);
    return top_k_value(static_cast<uint32_t>(kept[k - 1].rank));
  }

  static float top_k_value(uint32_t key) {
    const uint32_t bits = key & 0x80000000u ? key & 0x7FFFFFFFu : ~key;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }

  // Leaves the k best in order in kept[0..k).
  void select(const float* x, Int cols) {
    if (k > 0 && has_groups(cols)) group_maxima(x, cols);
    select(x, cols, [](F32, F32, Int) LIMBECK_INLINE {});
  }

  // After group_maxima where there are groups. beside(v, limit, j) sees every whole vector of the row and what its elements had to reach, j the one of four sums to use.
  template <class Beside> void select(const float* x, Int cols, Beside beside) {
    count = 0;
    whole = true;
    if (k == 0) return;
    constexpr Int W = lane<F32>::width;
    bound = lower_bound(cols);
    bool strict = false, full = false, in_order = true;
    const auto add = [&](Int i) {
      kept[count++].rank = top_k_rank_(top_k_key_(x[i]), static_cast<uint32_t>(i));
      if (count < room) return;
      std::nth_element(kept, kept + (k - 1), kept + count);
      count = k;
      in_order = whole = false;
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
      const F32 va = vec<F32>::load(x + i), vb = vec<F32>::load(x + i + W), vc = vec<F32>::load(x + i + 2 * W), vd = vec<F32>::load(x + i + 3 * W);
      const F32 limit = splat<F32>(bound);
      beside(va, limit, 0);
      beside(vb, limit, 1);
      beside(vc, limit, 2);
      beside(vd, limit, 3);
      const uint32_t a = ~below(va) & kAll, b = ~below(vb) & kAll, c = ~below(vc) & kAll, d = ~below(vd) & kAll;
      if ((a | b | c | d) == 0) continue;
      take(i, a);
      take(i + W, b);
      take(i + 2 * W, c);
      take(i + 3 * W, d);
    }
    last = i;
    for (; i < cols && !full; ++i)
      if (!(x[i] < bound) && !(strict && x[i] <= bound)) add(i);
    if (in_order && count <= kPlaced && place_all(x)) return;
    if (count > k) std::nth_element(kept, kept + (k - 1), kept + count);
    std::sort(kept, kept + k);
  }

  // Columns of which a walk may leave the maxima, a vector for each strip.
  static constexpr Int kStrip = 128;

  // As select, for a row without NaN whose strips' maxima are there: only strips that reach the bound are looked at. No branch depends on
  // where that is but one for each strip. False where too many reach it to be ranked by counting.
  bool select_from_strips(const float* x, Int cols, const float* strips) {
    constexpr Int W = lane<F32>::width, kParts = kStrip / W, kMost = kPlaced - kStrip;
    count = 0;
    bound = lower_bound(cols);
    const F32 limit = splat<F32>(bound);
    constexpr uint32_t kAll = (uint32_t(1) << W) - 1;
    const auto reached = [&](const float* at) LIMBECK_INLINE { return ~vec<F32>::bits(lt_(vec<F32>::load(at), limit)) & kAll; };
    const auto add = [&](Int i) LIMBECK_INLINE { kept[count++].rank = top_k_rank_(top_k_key_(x[i]), static_cast<uint32_t>(i)); };
    const Int whole_strips = cols / kStrip;
    for (Int first = 0; first < whole_strips; first += 64) {
      Int hits[64], found = 0;
      for (Int s = first; s < std::min(first + 64, whole_strips); ++s) {
        hits[found] = s;
        found += reached(strips + s * W) != 0;
      }
      for (Int h = 0; h < found; ++h) {
        const Int begin = hits[h] * kStrip;
        if (count > kMost) return false;
        Int parts[kParts], some = 0;
        uint32_t masks[kParts];
        for (Int k = 0; k < kParts; ++k) {
          parts[some] = begin + k * W;
          masks[some] = reached(x + begin + k * W);
          some += masks[some] != 0;
        }
        Int k = 0;
        do {
          uint32_t mask = masks[k];
          do add(parts[k] + __builtin_ctz(mask));
          while ((mask &= mask - 1) != 0);
        } while (++k < some);
      }
    }
    if (count > kMost) return false;
    for (Int i = whole_strips * kStrip; i < cols; ++i)
      if (x[i] >= bound) add(i);
    return place_all(x);
  }

  // The final order of few candidates, which stand in order of their indices. Not where a NaN is among them.
  bool place_all(const float* x) {
    constexpr Int W = lane<F32>::width;
    bool usable = true;
    for (Int i = 0; i < count; ++i) {
      value[i] = x[index(i)];
      usable &= value[i] == value[i];
    }
    if (!usable) return false;
    for (Int i = count; i < (count + W - 1) / W * W; ++i) value[i] = -INFINITY;
    places(value, place, count);
    for (Int i = 0; i < count; ++i) order[static_cast<Int>(place[i])] = kept[i];
    memcpy(kept, order, static_cast<size_t>(count) * sizeof(Ranked));
    return true;
  }

  Int index(Int j) const { return top_k_index_(kept[j].rank); }
};

}  // namespace

void top_k(Context& ctx, In x, Out values, Out indices, Int rows, Int cols, Int k) {
  Faults faults;
  const bool halves = is_half(x.dtype);
  const size_t selection = (TopK::bytes(k) + 63) / 64 * 64, bytes = selection + (halves ? static_cast<size_t>(cols) * sizeof(float) : 0);
  over_rows(rows, cols, [&](Int begin, Int end) {
    char* memory = static_cast<char*>(scratch(bytes));
    if (!memory) return faults.out_of_memory(bytes);
    TopK best(memory, k);
    for (Int r = begin; r < end; ++r) {
      const float* row = widened<F32>(x, r * cols, cols, reinterpret_cast<float*>(memory + selection));
      best.select(row, cols);
      for (Int j = 0; j < k; ++j) {
        const Int at = best.index(j);
        if (halves) values.as<uint16_t>()[r * k + j] = x.as<uint16_t>()[r * cols + at];
        else values.as<float>()[r * k + j] = row[at];
        indices.as<int32_t>()[r * k + j] = static_cast<int32_t>(at);
      }
    }
  });
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
