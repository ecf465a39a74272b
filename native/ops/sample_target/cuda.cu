// Sampled targets on CUDA: a cluster of blocks per row, whose runs of it wait in shared memory. Warps walk parts of a run; what each part weighs
// says where the draws fall, and only those parts are looked at again.
#include "cuda/merge.h"
#include "cuda/rows.h"
#include "cuda/workspace.h"
#include "ops/sample_target/math.h"

namespace limbeck::cuda {
namespace {

constexpr int kSampleParts = 512;    // parts of a run, at most
constexpr int kSampleSorted = 2048;  // draws that are sorted in shared memory; more are counted in a workspace
constexpr int kSampleRanked = 256;   // of those, that are sorted by counting for each how many are smaller
constexpr int kSampleOwn = 512;      // columns of a block's run that may win a race, at most
constexpr int kSampleListed = 1024;  // those of all runs, at most, where they wait in shared memory

struct Sample {
  AnyIn logits;
  const float* row_temperature;
  int32_t* indices;
  float* weights;
  uint64_t* workspace;  // per cluster, two numbers per column; null where shared memory is enough
  int64_t rows, cols, draws, slots;
  double temperature;
  uint64_t seed, row_offset;
  int method;
  int64_t segment, part;  // columns of a block's run and of a part, a multiple of a warp's four each
  int row_floats;         // shared memory of a staged run; 0: it is read from global memory in every walk
  int draw_bytes;         // shared memory of sorted draws, or of a race
};

LIMBECK_DEVICE int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }

// Smallest first. n: a power of two. The whole block takes part; a barrier before the first look at the result.
LIMBECK_DEVICE void sort_positions(const Shared<uint64_t>& positions, int n) {
  for (int size = 2; size <= n; size <<= 1)
    for (int stride = size >> 1; stride > 0; stride >>= 1) {
      sync_block();
      for (int i = thread_index(); i < n / 2; i += block_size()) {
        const int low = 2 * i - (i & (stride - 1)), high = low + stride;
        const uint64_t a = positions[low], b = positions[high];
        if ((a > b) == ((low & size) == 0)) {
          positions[low] = b;
          positions[high] = a;
        }
      }
    }
}

// Few of them: no barrier but one. `given`: n of them in any order.
LIMBECK_DEVICE void sort_few(const Shared<uint64_t>& given, const Shared<uint64_t>& positions, int n) {
  sync_block();
  for (int j = thread_index(); j < n; j += block_size()) {
    const uint64_t mine = given[j];
    int rank = 0;
    for (int i = 0; i < n; i++) {
      const uint64_t other = given[i];
      rank += other < mine || (other == mine && i < j) ? 1 : 0;
    }
    positions[rank] = mine;
  }
}

// How many of n sorted positions lie below `end`.
LIMBECK_DEVICE int positions_below(const Shared<uint64_t>& positions, int n, uint64_t end) {
  int low = 0, high = n;
  while (low < high) {
    const int middle = (low + high) >> 1;
    const uint64_t position = positions[middle];
    if (position < end) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Sum over the lanes before this one; `total` over all.
template <class T> LIMBECK_DEVICE T sum_before(T v, T& total) {
  T sum = v;
  for (int step = 1; step < 32; step <<= 1) {
    const T other = shuffle_up(sum, step);
    if (lane() >= step) sum += other;
  }
  total = shuffle(sum, 31);
  return sum - v;
}

// One number of shared memory for the whole warp, read by the lane that may write it afterwards.
LIMBECK_DEVICE uint64_t of_warp(const Shared<uint64_t>& numbers, int i) {
  uint64_t v = 0;
  if (lane() == 0) v = numbers[i];
  return shuffle(v, 0);
}

// What the methods share: the row's scale and total, and the parts of this block's run.
struct SampleRow {
  const Sample& a;
  ClusterGroup& group;
  const Run run;
  const StagedRow own;
  const Shared<uint64_t> masses, kept;  // of each part; as sums over the parts before it there is one more
  const Shared<uint64_t> warp_sums;
  const Shared<float> memory;  // a.draw_bytes
  int64_t row = 0;
  AnyIn x{};
  bool aligned = false;
  double temperature = 1;
  SampleScale scale{};
  uint64_t total = 0, key = 0;
  int64_t support = 0, used = 0;

  LIMBECK_DEVICE int parts() const { return int((run.end - run.begin + a.part - 1) / a.part); }

  LIMBECK_DEVICE void open(int64_t of) {
    row = of;
    x = offset(a.logits, row * a.cols);
    aligned = aligned4(x);
    temperature = a.row_temperature != nullptr ? double(ld_warp(a.row_temperature, row)) : a.temperature;
    key = a.row_offset + uint64_t(row);
    if (a.row_floats == 0) return;
    group.sync();
    stage(group, offset(x, run.begin), int(run.end - run.begin), own, -INFINITY);
    group.sync();
  }

  // f(first of this lane's four columns, their logits), for a whole warp and in order; -inf beyond the end of the run.
  template <class F> LIMBECK_DEVICE void walk_part(int part, F f) const {
    const int64_t begin = run.begin + part * a.part, end = lesser(begin + a.part, run.end);
    for (int64_t base = begin; base < end; base += 128) {
      const int64_t c = base + lane() * 4;
      float v[4];
      if (a.row_floats > 0 && c + 4 <= run.end) load_staged(int(c - run.begin), v);
      else if (a.row_floats > 0 && c >= run.end) v[0] = v[1] = v[2] = v[3] = -INFINITY;
      else if (a.row_floats > 0) load_chunk(own, int(c - run.begin), int(run.end - run.begin), -INFINITY, v);
      else load_chunk(x, c, a.cols, aligned, -INFINITY, v);
      f(c, v);
    }
  }
  LIMBECK_DEVICE void load_staged(int at, float (&v)[4]) const {
    const Float4 four = with_type(own, [&](const auto& s) { return ld4_shared(s, at); });
    v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
  }
  LIMBECK_DEVICE float logit(int64_t c) const { return a.row_floats > 0 ? staged_at(own, int(c - run.begin)) : ld(x, c); }
  // f(part), for a whole warp.
  template <class F> LIMBECK_DEVICE void each_part(F f) const {
    for (int part = warp(); part < parts(); part += block_size() >> 5) f(part);
  }
  template <class F> LIMBECK_DEVICE void walk(F f) const {
    each_part([&](int part) { walk_part(part, f); });
  }

  // The total, the parts' masses and, for a race, the support. False for a row that has no distribution.
  LIMBECK_DEVICE bool measure(bool race) {
    float top = temperature > 0 && temperature < INFINITY ? -INFINITY : INFINITY;
    walk([&](int64_t, const float (&v)[4]) {
      bool odd = false;
      for (int i = 0; i < 4; i++) odd |= !(v[i] < INFINITY);
      top = odd ? INFINITY : max_(max_(max_(v[0], v[1]), max_(v[2], v[3])), top);
    });
    top = merge_one(group, top, Max{}, -INFINITY);
    if (!(top > -INFINITY && top < INFINITY)) return false;
    scale = SampleScale::of(top, temperature, a.cols);
    uint64_t sums[2] = {0, 0};
    each_part([&](int part) {
      uint64_t mass = 0;
      walk_part(part, [&](int64_t, const float (&v)[4]) {
        for (int i = 0; i < 4; i++) mass += scale.mass(v[i]);
        if (race)
          for (int i = 0; i < 4; i++) sums[1] += scale.has_weight(v[i]) ? 1 : 0;
      });
      mass = merge_warp(mass, Add{});
      if (lane() != 0) return;
      masses[part] = mass;
      kept[part] = uint64_t(0);
      sums[0] += mass;
    });
    group.merge(sums, Add{}, uint64_t(0));
    total = sums[0];
    support = int64_t(sums[1]);
    return true;
  }

  // The parts' numbers become the sums of all that come before them in the row; gives the sum of the row. A barrier before.
  LIMBECK_DEVICE uint64_t scan_parts(const Shared<uint64_t>& numbers) {
    const int each = (parts() + block_size() - 1) / block_size(), begin = int(lesser(thread_index() * each, parts())), end = int(lesser(begin + each, parts()));
    uint64_t sum = 0, warps = 0, all = 0;
    for (int i = begin; i < end; i++) sum += uint64_t(numbers[i]);
    uint64_t before = sum_before(sum, warps);
    if (lane() == 0) warp_sums[warp()] = warps;
    group.sync();
    for (int w = 0; w < block_size() >> 5; w++) {
      const uint64_t part = warp_sums[w];
      if (w < warp()) before += part;
      all += part;
    }
    uint64_t whole = 0;
    const uint64_t blocks = group.before(all, whole);
    before += blocks;
    for (int i = begin; i < end; i++) {
      const uint64_t number = numbers[i];
      numbers[i] = before;
      before += number;
    }
    if (thread_index() == 0) numbers[parts()] = blocks + all;
    group.sync();
    return whole;
  }

  LIMBECK_DEVICE void put(int64_t slot, int64_t c, float weight) const {
    st(a.indices, row * a.slots + slot, int32_t(c));
    st(a.weights, row * a.slots + slot, weight);
  }
  LIMBECK_DEVICE void finish() const {
    for (int64_t i = used + cluster_rank() * block_size() + thread_index(); i < a.slots; i += int64_t(cluster_size()) * block_size()) put(i, -1, 0.0f);
  }
};

// With replacement, and head and tail: positions in the tail's masses laid end to end.
LIMBECK_DEVICE void sample_counts(SampleRow& s) {
  const Sample& a = s.a;
  const uint64_t head = sample_head_mass_(a.method, s.total, a.draws);
  uint64_t tail = s.total;
  int64_t left = a.draws;
  if (a.method == int(SampleMethod::head_tail)) {
    uint64_t sums[2] = {0, 0};
    s.each_part([&](int part) {
      const uint64_t mass = of_warp(s.masses, part);
      if (mass < head) return;
      uint64_t heads = 0, count = 0, all = 0;
      s.walk_part(part, [&](int64_t, const float (&v)[4]) {
        for (int i = 0; i < 4; i++) {
          const uint64_t one = s.scale.mass(v[i]);
          heads += one >= head ? one : 0;
          count += one >= head ? 1 : 0;
        }
      });
      heads = merge_warp(heads, Add{});
      sum_before(count, all);
      if (lane() != 0) return;
      s.masses[part] = mass - heads;
      s.kept[part] = all;
      sums[0] += heads;
      sums[1] += all;
    });
    s.group.merge(sums, Add{}, uint64_t(0));
    tail -= sums[0];
    left -= int64_t(sums[1]);
  }
  if (tail == 0) left = 0;
  auto position = [&](int64_t j) { return sample_position_(sample_random_(uint64_t(j), s.key, a.method, a.seed), tail); };
  auto weight_of = [&](uint64_t mass, int64_t count) { return mass >= head ? sample_head_weight_(mass, s.total) : sample_tail_weight_(count, left, tail, s.total); };

  const bool sorted = a.workspace == nullptr;
  const Shared<uint64_t> positions = s.memory.slice<uint64_t>(0, sorted ? a.draw_bytes / 8 - kSampleRanked : 0);
  if (sorted) {
    int padded = 1;
    while (padded < left) padded <<= 1;
    const bool few = left <= kSampleRanked;
    const Shared<uint64_t> given = few ? s.memory.slice<uint64_t>(a.draw_bytes - kSampleRanked * 8, kSampleRanked) : positions;
    for (int j = thread_index(); j < (few ? int(left) : padded); j += block_size()) given[j] = j < left ? position(j) : ~uint64_t(0);
    if (few) sort_few(given, positions, int(left));
    else sort_positions(positions, padded);
  }
  s.scan_parts(s.masses);
  uint64_t* ends = sorted ? nullptr : a.workspace + s.group.first_row() * 2 * a.cols;
  uint64_t* counts = sorted ? nullptr : ends + a.cols;
  auto below = [&](uint64_t end) { return positions_below(positions, int(left), end); };

  // f(lane's first column, where its masses begin, its masses) in order of the ids.
  auto lay_out = [&](int part, auto f) {
    uint64_t at = s.masses[part];
    s.walk_part(part, [&](int64_t c, const float (&v)[4]) {
      uint64_t mass[4], share = 0, all = 0;
      for (int i = 0; i < 4; i++) {
        mass[i] = s.scale.mass(v[i]);
        share += mass[i] >= head ? 0 : mass[i];
      }
      const uint64_t from = at + sum_before(share, all);
      at += all;
      f(c, from, mass);
    });
  };
  // How many ids of a part are kept; they are written from `slot` on where it is not negative.
  auto go_through = [&](int part, int64_t slot) -> uint64_t {
    int64_t found = 0;
    lay_out(part, [&](int64_t c, uint64_t from, const uint64_t (&mass)[4]) {
      int64_t count[4];
      int here = 0, all = 0;
      for (int i = 0; i < 4; i++) {
        const uint64_t share = mass[i] >= head ? 0 : mass[i];
        if (!sorted) count[i] = c + i < s.run.end ? int64_t(ld(counts, c + i)) : 0;
        else count[i] = share > 0 ? below(from + share) - below(from) : 0;
        from += share;
        here += mass[i] >= head || count[i] > 0 ? 1 : 0;
      }
      int64_t next = slot + found + sum_before(here, all);
      found += all;
      if (slot < 0) return;
      for (int i = 0; i < 4; i++)
        if (mass[i] >= head || count[i] > 0) s.put(next++, c + i, weight_of(mass[i], count[i]));
    });
    return uint64_t(found);
  };

  if (!sorted) {
    s.each_part([&](int part) {
      lay_out(part, [&](int64_t c, uint64_t from, const uint64_t (&mass)[4]) {
        for (int i = 0; i < 4; i++) {
          if (c + i >= s.run.end) continue;
          from += mass[i] >= head ? 0 : mass[i];
          st(ends, c + i, from);
          st(counts, c + i, 0);
        }
      });
    });
    sync_block();
    const uint64_t first = s.masses[0], end = s.masses[s.parts()];
    for (int64_t j = thread_index(); j < left; j += block_size()) {
      const uint64_t at = position(j);
      if (at < first || at >= end) continue;
      int64_t low = s.run.begin, high = s.run.end - 1;
      while (low < high) {
        const int64_t middle = (low + high) >> 1;
        if (ld(ends, middle) > at) high = middle;
        else low = middle + 1;
      }
      atomic_add(counts, low, 1);
    }
    sync_block();
  }
  s.each_part([&](int part) {
    const bool hit = of_warp(s.kept, part) > 0 || !sorted || below(s.masses[part]) != below(s.masses[part + 1]);
    const uint64_t found = hit ? go_through(part, -1) : 0;
    if (lane() == 0) s.kept[part] = found;
  });
  s.group.sync();
  s.used = int64_t(s.scan_parts(s.kept));
  s.each_part([&](int part) {
    const uint64_t slot = s.kept[part], next = s.kept[part + 1];
    if (next > slot) go_through(part, int64_t(slot));
  });
}

// Keys are exponentials over weights; the `draws` smallest win, the next one is tau. Where they are few, the columns that can win are listed:
// those below a limit that about so many keys lie below. False where too many or too few did, again and again.
LIMBECK_DEVICE bool sample_race_listed(SampleRow& s) {
  const Sample& a = s.a;
  const double wanted = double(4 * a.slots + 64), most = double(cluster_size()) * (kSampleOwn / 2);
  if (wanted > 0.75 * kSampleListed || double(a.slots + 1) > 0.75 * most) return false;
  const Shared<uint64_t> keys = s.memory.slice<uint64_t>(0, kSampleListed), own_keys = s.memory.slice<uint64_t>(kSampleListed * 8, kSampleOwn);
  const Shared<int> own_ids = s.memory.slice<int>((kSampleListed + kSampleOwn) * 8, kSampleOwn);
  const Shared<int> ids = s.memory.slice<int>((kSampleListed + kSampleOwn) * 8 + kSampleOwn * 4, kSampleListed);
  const Shared<int> count = s.memory.slice<int>(kSampleListed * 12 + kSampleOwn * 12, 1);
  double few = 0, many = INFINITY, limit = (wanted < most ? wanted : most) * sample_power_of_two_(SampleScale::bits(a.cols)) / double(s.total);
  int own = 0, before = 0, all = 0;
  for (int attempt = 0;; attempt++) {
    if (attempt == 8) return false;
    if (thread_index() == 0) count[0] = 0;
    sync_block();
    const float bound = sample_limit_(limit);
    s.walk([&](int64_t c, const float (&v)[4]) {
      const Philox4 upper = sample_race_words_(uint64_t(c), s.key, a.seed);
      for (int i = 0; i < 4; i++) {
        const float weight = s.scale.weight(v[i]);
        if (!(weight > 0) || !sample_may_win_(upper.word[i], weight, bound)) continue;
        const int slot = atomic_add(count, 0, 1);
        if (slot < kSampleOwn) own_ids[slot] = int(c) + i;
      }
    });
    sync_block();
    own = count[0];
    // Keys below the limit; all that were found; blocks that had no room.
    uint64_t sums[3] = {0, 0, own > kSampleOwn && thread_index() == 0 ? 1u : 0u};
    if (thread_index() == 0) sums[1] = uint64_t(own);
    for (int i = thread_index(); i < (own < kSampleOwn ? own : kSampleOwn); i += block_size()) {
      const int64_t c = int(own_ids[i]);
      const Philox4 upper = sample_race_words_(uint64_t(c), s.key, a.seed);
      const double key = sample_race_key_(sample_word_(upper, uint64_t(c)), s.scale.weight(s.logit(c)), uint64_t(c), s.key, a.seed);
      own_keys[i] = sample_bits_(key);
      sums[0] += key < limit ? 1 : 0;
    }
    s.group.merge(sums, Add{}, uint64_t(0));
    const bool crowded = sums[2] > 0 || sums[1] > uint64_t(kSampleListed);
    if (!crowded && int64_t(sums[0]) > a.slots) break;
    (crowded ? many : few) = limit;
    const double more = wanted / double(sums[0] + 1);
    limit = few == 0 ? limit / 8 : many == INFINITY ? limit * (more > 2 ? more : 2) : sqrt_(few) * sqrt_(many);
  }
  // Every block gets them all, its own first in neither order nor place: only keys and ids decide.
  for (int rank = 0; rank < cluster_size(); rank++) {
    const int theirs = map_rank(count, rank)[0];
    const Shared<uint64_t> from_keys = map_rank(own_keys, rank);
    const Shared<int> from_ids = map_rank(own_ids, rank);
    for (int i = thread_index(); i < theirs; i += block_size()) {
      const uint64_t key = from_keys[i];
      const int id = from_ids[i];
      keys[all + i] = key;
      ids[all + i] = id;
    }
    if (rank < cluster_rank()) before += theirs;
    all += theirs;
  }
  // Of a listed column, by a warp: how many others have smaller keys; ties go to the lower id.
  auto rank_of = [&](uint64_t key, int id, auto among) {
    int rank = 0;
    for (int j = lane(); j < all; j += 32) {
      const uint64_t other = keys[j];
      const int other_id = ids[j];
      rank += among(other, other_id, key, id) ? 1 : 0;
    }
    return merge_warp(rank, Add{});
  };
  const auto earlier = [](uint64_t a_key, int a_id, uint64_t b_key, int b_id) { return a_key < b_key || (a_key == b_key && a_id < b_id); };
  sync_block();
  uint64_t next[2] = {0, 0};  // key and id of the first that does not win
  for (int i = warp(); i < own; i += block_size() >> 5) {
    const uint64_t key = keys[before + i];
    const int id = ids[before + i];
    if (rank_of(key, id, earlier) == a.slots) next[0] = key, next[1] = uint64_t(id);
  }
  s.group.merge(next, Max{}, uint64_t(0));
  const double tau = sample_double_(next[0]);
  const int last = int(next[1]);
  for (int i = warp(); i < own; i += block_size() >> 5) {
    const uint64_t key = keys[before + i];
    const int id = ids[before + i];
    if (!earlier(key, id, next[0], last)) continue;
    const int slot = rank_of(next[0], id, [&](uint64_t other, int other_id, uint64_t bound, int mine) { return other_id < mine && earlier(other, other_id, bound, last); });
    if (lane() == 0) s.put(slot, id, sample_race_weight_(s.logit(id), s.temperature, s.scale, tau, a.cols, s.total));
  }
  s.used = a.slots;
  return true;
}

// However many there are: tau is found eight bits at a time, in a walk for each.
LIMBECK_DEVICE void sample_race_counted(SampleRow& s) {
  const Sample& a = s.a;
  // In turn: the other blocks may still read the one of the round before.
  const Shared<int> histograms = s.memory.slice<int>(0, 512), sums = s.memory.slice<int>(2048, 256), choice = s.memory.slice<int>(3072, 2);
  const bool everyone = s.support <= a.draws;
  uint64_t prefix = everyone ? 1 : 0;
  double limit = INFINITY;
  int wanted = everyone ? 0 : int(a.slots);  // keys before tau, among those that share the prefix
  // f(which of the four, bits of its key, which order as the keys do): those that can be below the limit.
  auto each_key = [&](int64_t c, const float (&v)[4], auto f) {
    const Philox4 upper = sample_race_words_(uint64_t(c), s.key, a.seed);
    const float bound = sample_limit_(limit);
    for (int i = 0; i < 4; i++) {
      const float weight = s.scale.weight(v[i]);
      if (!(weight > 0)) continue;
      if (everyone) f(i, uint64_t(0));
      else if (sample_may_win_(upper.word[i], weight, bound)) f(i, sample_bits_(sample_race_key_(upper.word[i], weight, uint64_t(c + i), s.key, a.seed)));
    }
  };
  for (int shift = 56; shift >= 0 && !everyone; shift -= 8) {
    const Shared<int> histogram = histograms.slice<int>(shift & 8 ? 1024 : 0, 256);
    for (int i = thread_index(); i < 256; i += block_size()) histogram[i] = 0;
    sync_block();
    s.walk([&](int64_t c, const float (&v)[4]) {
      each_key(c, v, [&](int, uint64_t bits) {
        if (shift == 56 || bits >> (shift + 8) == prefix) atomic_add(histogram, int(bits >> shift & 255), 1);
      });
    });
    sync_cluster();
    for (int i = thread_index(); i < 256; i += block_size()) {
      int sum = 0;
      for (int rank = 0; rank < cluster_size(); rank++) {
        const int count = map_rank(histogram, rank)[i];
        sum += count;
      }
      sums[i] = sum;
    }
    sync_block();
    if (warp() == 0) {
      int mine = 0, all = 0;
      for (int i = 0; i < 8; i++) mine += int(sums[lane() * 8 + i]);
      int before = sum_before(mine, all);
      if (before <= wanted && wanted < before + mine) {
        int digit = lane() * 8;
        for (;; digit++) {
          const int count = sums[digit];
          if (before + count > wanted) break;
          before += count;
        }
        choice[0] = digit;
        choice[1] = wanted - before;
      }
    }
    sync_block();
    const int digit = choice[0];
    wanted = choice[1];
    prefix = prefix << 8 | uint64_t(digit);
    const uint64_t above = (prefix + 1) << shift;
    limit = above < uint64_t(0x7FF0) << 48 ? sample_double_(above) : INFINITY;
  }
  // `wanted` of the keys equal to tau win: the lowest ids, as only bits decide. Two counts in one number: keys below tau, keys equal to it.
  constexpr uint64_t kEqual = uint64_t(1) << 32;
  auto count_of = [&](uint64_t bits) { return bits < prefix ? uint64_t(1) : bits == prefix ? kEqual : uint64_t(0); };
  auto winners = [&](uint64_t counts) { return int64_t(counts & (kEqual - 1)) + lesser(int64_t(counts >> 32), wanted); };
  s.each_part([&](int part) {
    uint64_t counts = 0;
    s.walk_part(part, [&](int64_t c, const float (&v)[4]) { each_key(c, v, [&](int, uint64_t bits) { counts += count_of(bits); }); });
    counts = merge_warp(counts, Add{});
    if (lane() == 0) s.kept[part] = counts;
  });
  s.group.sync();
  s.used = winners(s.scan_parts(s.kept));
  const double tau = everyone ? INFINITY : sample_double_(prefix);
  s.each_part([&](int part) {
    uint64_t before = s.kept[part];
    if (uint64_t(s.kept[part + 1]) == before) return;
    s.walk_part(part, [&](int64_t c, const float (&v)[4]) {
      uint64_t counts[4] = {0, 0, 0, 0}, mine = 0, all = 0;
      each_key(c, v, [&](int i, uint64_t bits) { counts[i] = count_of(bits); });
      for (int i = 0; i < 4; i++) mine += counts[i];
      uint64_t at = before + sum_before(mine, all);
      before += all;
      for (int i = 0; i < 4; i++) {
        const int64_t slot = winners(at);
        at += counts[i];
        if (winners(at) > slot) s.put(slot, c + i, sample_race_weight_(s.logit(c + i), s.temperature, s.scale, tau, a.cols, s.total));
      }
    });
  });
}

// Races have a kernel of their own: each needs its registers.
template <bool race> LIMBECK_KERNEL void LIMBECK_BOUNDS_OF(256, 2) sample_rows(Sample a) {
  SHARED(double, scratch, kClusterScratch);
  SHARED(uint64_t, warp_sums, 8);
  SHARED_DYN(float, memory);
  ClusterGroup group(scratch);
  const int draws_at = a.row_floats * 4, parts_at = draws_at + a.draw_bytes, parts_bytes = (kSampleParts + 1) * 8;
  SampleRow s{a,
              group,
              group.run(a.cols, a.segment),
              StagedRow{memory.slice<float>(0, a.row_floats), a.logits.dtype},
              memory.slice<uint64_t>(parts_at, kSampleParts + 1),
              memory.slice<uint64_t>(parts_at + parts_bytes, kSampleParts + 1),
              warp_sums,
              memory.slice<float>(draws_at, a.draw_bytes / 4)};
  for (int64_t row = group.first_row(); row < a.rows; row += group.row_step()) {
    s.open(row);
    if (!s.measure(race)) {
      if (group.leader()) s.put(0, 0, NAN);
      s.used = 1;
    } else if constexpr (race) {
      if (s.support <= a.draws || !sample_race_listed(s)) sample_race_counted(s);
    } else {
      sample_counts(s);
    }
    s.finish();
  }
  group.finish();
}

}  // namespace

void sample_target(Context& ctx, In logits, In row_temperature, Out indices, Out weights, Int rows, Int cols, Int draws, Int method, Float temperature, Int seed, Int row_offset) {
  Sample a{logits, row_temperature.as<float>(), indices.as<int32_t>(), weights.as<float>(), nullptr, rows, cols, draws,
           draws < cols ? draws : cols, temperature, uint64_t(seed), uint64_t(row_offset), int(method), 0, 0, 0, 0};
  const bool race = method == Int(SampleMethod::race), sorted = !race && draws <= kSampleSorted;
  Int padded = 2;
  while (sorted && padded < draws) padded *= 2;
  a.draw_bytes = race ? (kSampleListed + kSampleOwn) * 12 + 16 : sorted ? int((padded + kSampleRanked) * 8) : 0;
  const Int width = kDTypeBytes[int(logits.dtype)];
  ClusterPlan plan = plan_clusters(ctx, rows, cols, width, [&](Int) { return a.draw_bytes + 2 * (kSampleParts + 1) * 8; }, 0);
  shorten_runs(ctx, rows, cols, 1024, plan);
  a.segment = plan.segment;
  // Parts of two walks of a warp: a hit looks at few columns again, and few sums are merged.
  a.part = (plan.segment + kSampleParts * 256 - 1) / (kSampleParts * 256) * 256;
  a.row_floats = plan.staged ? int(plan.segment * width / 4) : 0;
  if (plan.launch.grid == 0) return;
  if (race) return launch(ctx, "sample_target", sample_rows<true>, plan.launch, a);
  if (sorted) return launch(ctx, "sample_target", sample_rows<false>, plan.launch, a);
  // Fewer clusters where each needs much memory: 256 MiB together, or one cluster's.
  const Int most = (Int(1) << 24) / cols, clusters = plan.launch.grid / plan.launch.cluster;
  const Int fewer = clusters < most ? clusters : most > 1 ? most : 1;
  Workspace memory(ctx, size_t(fewer * 2 * cols) * sizeof(uint64_t));
  if (!memory) return;
  a.workspace = memory.as<uint64_t>();
  plan.launch.grid = fewer * plan.launch.cluster;
  launch(ctx, "sample_target", sample_rows<false>, plan.launch, a);
}

}  // namespace limbeck::cuda
