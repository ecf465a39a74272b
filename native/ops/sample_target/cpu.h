// Sampled targets on the CPU: a row's masses in working memory, then sorted positions or a race over them.
#pragma once
#include "ops/sample_target/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

// Types of this file's own keep the standard algorithms they go through local to this instruction set.
struct SampleAt {
  uint64_t position;
  bool operator<(const SampleAt& other) const { return position < other.position; }
};
struct SampleRunner {
  double key;
  int64_t id;
  bool operator<(const SampleRunner& other) const { return key < other.key || (key == other.key && id < other.id); }
};
struct SampleKept {
  int64_t id;
  bool operator<(const SampleKept& other) const { return id < other.id; }
};

// One row as it is drawn from, and the slots it is written to, ascending by id.
struct SampleRow {
  const uint64_t* masses;  // of a race: none
  const float* e;          // of a race
  const float* x;
  const SampleScale& scale;
  double temperature;
  Int cols, draws, slots;
  uint64_t total, row, seed;
  int32_t* ids;
  float* weights;
  Int used;

  void put(Int id, float weight) {
    ids[used] = static_cast<int32_t>(id);
    weights[used++] = weight;
  }

  // Few draws are sorted; many are counted, in two numbers per column.
  static bool is_sorted(Int draws, Int cols) { return draws <= 2 * cols; }
  static size_t counts_bytes(Int draws, Int cols) { return static_cast<size_t>(draws < 2 * cols ? draws : 2 * cols) * sizeof(uint64_t); }

  // With replacement, and head and tail: positions in the tail's masses laid end to end.
  void counts(int method, void* memory) {
    const uint64_t head = sample_head_mass_(method, total, draws);
    uint64_t tail = total;
    Int left = draws;
    if (method == static_cast<int>(SampleMethod::head_tail))
      for (Int i = 0; i < cols; ++i) {
        tail -= masses[i] >= head ? masses[i] : 0;
        left -= masses[i] >= head;
      }
    if (tail == 0) left = 0;
    if (!is_sorted(draws, cols)) return count_all(method, head, tail, left, static_cast<uint64_t*>(memory));
    SampleAt* at = static_cast<SampleAt*>(memory);
    for (Int j = 0; j < left; j += 2) {
      const SamplePair random = sample_pair_(static_cast<uint64_t>(j) / 2, row, method, seed);
      at[j].position = sample_position_(random.first, tail);
      if (j + 1 < left) at[j + 1].position = sample_position_(random.second, tail);
    }
    std::sort(at, at + left);
    // Pieces that nothing of fell on are passed over.
    uint64_t end = 0;
    for (Int begin = 0, j = 0; begin < cols; begin += 64) {
      const Int past = begin + 64 < cols ? begin + 64 : cols;
      uint64_t share = 0;
      bool any = false;
      for (Int i = begin; i < past; ++i) {
        share += masses[i] >= head ? 0 : masses[i];
        any |= masses[i] >= head;
      }
      if (!any && !(j < left && at[j].position < end + share)) {
        end += share;
        continue;
      }
      for (Int i = begin; i < past; ++i) {
        if (masses[i] >= head) {
          put(i, sample_head_weight_(masses[i], total));
          continue;
        }
        end += masses[i];
        const Int first = j;
        while (j < left && at[j].position < end) ++j;
        if (j > first) put(i, sample_tail_weight_(j - first, left, tail, total));
      }
    }
  }

  void count_all(int method, uint64_t head, uint64_t tail, Int left, uint64_t* ends) {
    uint64_t* hits = ends + cols;
    uint64_t end = 0;
    for (Int i = 0; i < cols; ++i) {
      end += masses[i] >= head ? 0 : masses[i];
      ends[i] = end;
      hits[i] = 0;
    }
    const auto hit = [&](uint64_t random) {
      const uint64_t position = sample_position_(random, tail);
      Int low = 0, high = cols - 1;
      while (low < high) {
        const Int middle = (low + high) / 2;
        if (ends[middle] > position) high = middle;
        else low = middle + 1;
      }
      ++hits[low];
    };
    for (Int j = 0; j < left; j += 2) {
      const SamplePair random = sample_pair_(static_cast<uint64_t>(j) / 2, row, method, seed);
      hit(random.first);
      if (j + 1 < left) hit(random.second);
    }
    for (Int i = 0; i < cols; ++i) {
      if (masses[i] >= head) put(i, sample_head_weight_(masses[i], total));
      else if (hits[i] > 0) put(i, sample_tail_weight_(static_cast<Int>(hits[i]), left, tail, total));
    }
  }

  static constexpr Int kRacePiece = 256;  // columns whose random numbers are made together
  static Int race_room(Int slots) { return 2 * slots + 1024; }
  static size_t race_bytes(Int slots) { return static_cast<size_t>(race_room(slots)) * sizeof(SampleRunner) + static_cast<size_t>(slots) * sizeof(SampleKept); }

  float race_weight(Int i, double tau) const { return sample_race_weight_(x[i], temperature, scale, tau, cols, total); }

  // Keys are exponentials over weights; the `draws` smallest win, the next one is tau.
  void race(void* memory) {
    Int support = 0;
    for (Int i = 0; i < cols; ++i) support += e[i] > 0;
    if (support <= draws) {
      for (Int i = 0; i < cols; ++i)
        if (e[i] > 0) put(i, race_weight(i, INFINITY));
      return;
    }
    const Int room = race_room(slots);
    SampleRunner* runner = static_cast<SampleRunner*>(memory);
    SampleKept* kept = reinterpret_cast<SampleKept*>(runner + room);
    double limit = INFINITY;
    Int count = 0;
    for (Int begin = 0; begin < cols; begin += kRacePiece) {
      const Int n = begin + kRacePiece < cols ? kRacePiece : cols - begin;
      uint32_t upper[kRacePiece];
      for (Int i = 0; i < kRacePiece / 4; ++i) {
        const Philox4 words = sample_race_words_(static_cast<uint64_t>(begin + 4 * i), row, seed);
        for (int w = 0; w < 4; ++w) upper[w * (kRacePiece / 4) + i] = words.word[w];
      }
      const float bound = sample_limit_(limit);
      for (Int i = 0; i < n; ++i) {
        const float weight = e[begin + i];
        const uint32_t random = upper[(i & 3) * (kRacePiece / 4) + i / 4];
        if (!(weight > 0) || !sample_may_win_(random, weight, bound)) continue;
        // Later ids lose ties, so a key that only reaches the limit is out too.
        const double key = sample_race_key_(random, weight, static_cast<uint64_t>(begin + i), row, seed);
        if (!(key < limit)) continue;
        runner[count++] = {key, begin + i};
        if (count < room) continue;
        std::nth_element(runner, runner + slots, runner + count);
        limit = runner[slots].key;
        count = slots + 1;
      }
    }
    std::nth_element(runner, runner + slots, runner + count);
    const double tau = runner[slots].key;
    for (Int j = 0; j < slots; ++j) kept[j].id = runner[j].id;
    std::sort(kept, kept + slots);
    for (Int j = 0; j < slots; ++j) put(kept[j].id, race_weight(kept[j].id, tau));
  }
};

}  // namespace

void sample_target(Context& ctx, In logits, In row_temperature, Out indices, Out weights, Int rows, Int cols, Int draws, Int method,
                   Float temperature, Int seed, Int row_offset) {
  Faults faults;
  const Int slots = draws < cols ? draws : cols;
  const bool is_race = method == static_cast<Int>(SampleMethod::race);
  const size_t row_bytes = static_cast<size_t>(cols) * (is_race ? sizeof(float) : sizeof(uint64_t)) + (is_race && cols % 2 ? sizeof(float) : 0);
  const size_t method_bytes = is_race ? SampleRow::race_bytes(slots) : SampleRow::counts_bytes(draws, cols);
  const size_t bytes = row_bytes + method_bytes + (is_half(logits.dtype) ? static_cast<size_t>(cols) * sizeof(float) : 0);
  over_rows(rows, cols + draws, [&](Int begin, Int end) {
    char* memory = static_cast<char*>(scratch(bytes));
    if (!memory) return faults.out_of_memory(bytes);
    for (Int r = begin; r < end && !faults.beyond(r); ++r) {
      const double t = temperature_of(faults, row_temperature, temperature, r);
      if (!(t == t)) continue;
      const float* x = widened<F32>(logits, r * cols, cols, reinterpret_cast<float*>(memory + row_bytes + method_bytes));
      float max = -INFINITY;
      bool valid = true;
      for (Int i = 0; i < cols; ++i) {
        valid &= x[i] < INFINITY;
        max = max_(x[i], max);
      }
      uint64_t* masses = reinterpret_cast<uint64_t*>(memory);
      float* e = reinterpret_cast<float*>(memory);
      const SampleScale scale = SampleScale::of(max, t, cols);
      SampleRow row{masses, e, x, scale, t, cols, draws, slots, 0, static_cast<uint64_t>(row_offset + r), static_cast<uint64_t>(seed), indices.as<int32_t>() + r * slots, weights.as<float>() + r * slots, 0};
      if (valid && max > -INFINITY) {
        if (is_race) {
          for (Int i = 0; i < cols; ++i) {
            row.total += scale.mass(x[i]);
            e[i] = scale.weight(x[i]);
          }
          row.race(memory + row_bytes);
        } else {
          for (Int i = 0; i < cols; ++i) {
            masses[i] = scale.mass(x[i]);
            row.total += masses[i];
          }
          row.counts(static_cast<int>(method), memory + row_bytes);
        }
      } else {
        row.put(0, NAN);
      }
      while (row.used < slots) row.put(-1, 0.0f);
    }
  });
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
