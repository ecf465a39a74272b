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

// A row's masses, or its weights for a race; gives the sum of the masses. Copies of what is read keep the loops free of aliases.
inline uint64_t sample_masses(const SampleScale scale, const float* __restrict x, uint64_t* __restrict masses, Int cols) {
  uint64_t total = 0;
  for (Int i = 0; i < cols; ++i) {
    const uint64_t mass = scale.mass(x[i]);
    masses[i] = mass;
    total += mass;
  }
  return total;
}
inline uint64_t sample_weights(const SampleScale scale, const float* __restrict x, float* __restrict e, Int cols) {
  uint64_t total = 0;
  for (Int i = 0; i < cols; ++i) total += scale.mass(x[i]);
  for (Int i = 0; i < cols; ++i) e[i] = scale.weight(x[i]);
  return total;
}

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
      uint64_t share = 0, any = 0;
      for (Int i = begin; i < past; ++i) {
        share += masses[i] >= head ? 0 : masses[i];
        any |= masses[i] >= head ? 1 : 0;
      }
      if (any == 0 && !(j < left && at[j].position < end + share)) {
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
  // Which of `count` columns from `begin` on may have a key below a limit, and the upper halves of their random numbers. Beyond: none.
  static void race_piece(uint32_t* __restrict upper, uint8_t* __restrict may_win, const float* __restrict e, Int count, uint64_t begin, uint64_t row, uint64_t seed, float bound) {
    for (uint32_t i = 0; i < kRacePiece / 4; ++i) {
      const Philox4 four = sample_race_words_(begin + 4 * i, row, seed);
      upper[4 * i] = four.word[0];
      upper[4 * i + 1] = four.word[1];
      upper[4 * i + 2] = four.word[2];
      upper[4 * i + 3] = four.word[3];
    }
    for (Int i = 0; i < count; ++i) may_win[i] = (e[i] > 0) & sample_may_win_(upper[i], e[i], bound);
    for (Int i = count; i < kRacePiece; ++i) may_win[i] = 0;
  }
  static Int race_room(Int slots) { return 2 * slots + 1024; }
  static size_t race_bytes(Int slots) { return static_cast<size_t>(race_room(slots)) * sizeof(SampleRunner) + static_cast<size_t>(slots) * sizeof(SampleKept); }

  // Those with keys below a limit, in any order; once there is no room for more, a limit that slots + 1 of them are left below.
  Int find_runners(SampleRunner* runner, Int room, double limit) const {
    Int count = 0;
    for (Int begin = 0; begin < cols; begin += kRacePiece) {
      const Int n = begin + kRacePiece < cols ? kRacePiece : cols - begin;
      uint32_t upper[kRacePiece];
      uint8_t may_win[kRacePiece];
      race_piece(upper, may_win, e + begin, n, static_cast<uint64_t>(begin), row, seed, sample_limit_(limit));
      for (Int i = 0; i < n; ++i) {
        uint64_t eight = 0;
        if (i % 8 == 0) memcpy(&eight, may_win + i, sizeof eight);
        if (i % 8 == 0 && eight == 0) {
          i += 7;
          continue;
        }
        if (!may_win[i]) continue;
        // Later ids lose ties, so a key that only reaches the limit is out too.
        const double key = sample_race_key_(upper[i], e[begin + i], static_cast<uint64_t>(begin + i), row, seed);
        if (!(key < limit)) continue;
        runner[count++] = {key, begin + i};
        if (count < room) continue;
        std::nth_element(runner, runner + slots, runner + count);
        limit = runner[slots].key;
        count = slots + 1;
      }
    }
    return count;
  }

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
    // Below the first limit lie about as many keys as are wanted, and some more; where a few columns have it all, there are fewer.
    const double wanted = static_cast<double>(4 * slots + 64);
    double limit = wanted * sample_power_of_two_(SampleScale::bits(cols)) / static_cast<double>(total);
    Int count = find_runners(runner, room, limit);
    for (int attempt = 1; count <= slots; ++attempt) {
      limit = attempt < 4 ? limit * (wanted / static_cast<double>(count + 1)) : INFINITY;
      count = find_runners(runner, room, limit);
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
      const float max = largest<F32>(x, cols);
      uint32_t odd = 0;
      for (Int i = 0; i < cols; ++i) odd |= x[i] < INFINITY ? 0u : 1u;
      uint64_t* masses = reinterpret_cast<uint64_t*>(memory);
      float* e = reinterpret_cast<float*>(memory);
      const SampleScale scale = SampleScale::of(max, t, cols);
      SampleRow row{masses, e, x, scale, t, cols, draws, slots, 0, static_cast<uint64_t>(row_offset + r), static_cast<uint64_t>(seed), indices.as<int32_t>() + r * slots, weights.as<float>() + r * slots, 0};
      if (odd == 0 && max > -INFINITY) {
        if (is_race) {
          row.total = sample_weights(scale, x, e, cols);
          row.race(memory + row_bytes);
        } else {
          row.total = sample_masses(scale, x, masses, cols);
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
