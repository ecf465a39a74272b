// Sampled targets on CUDA: a block per row walks it several times and computes the masses again each time. What fits shared memory of the
// row waits there as it came in; only the columns behind are read from global memory in every walk.
#include "cuda/merge.h"
#include "cuda/rows.h"
#include "cuda/workspace.h"
#include "ops/sample_target/math.h"

namespace limbeck::cuda {
namespace {

constexpr int kSampleBlock = 256, kSampleWarps = kSampleBlock / 32;
constexpr int kSampleStatic = 20 * 1024;  // the kernel's static shared memory, and some room
constexpr int kSampleShared = 2048;  // positions that fit shared memory; more draws are counted in a workspace

struct Sample {
  AnyIn logits;
  const float* row_temperature;
  int32_t* indices;
  float* weights;
  uint64_t* workspace;  // per block, two numbers per column; null where shared memory is enough
  int64_t rows, cols, draws, slots;
  double temperature;
  uint64_t seed, row_offset;
  int method;
  int staged;  // columns that wait in shared memory, a multiple of 8 or all
};

// Bitonic, smallest first. n: a power of two. The whole block takes part; a barrier before the first look at the result.
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

// Sum over the threads before this one; `total` over all. A barrier before the next use of `parts`.
template <class T> LIMBECK_DEVICE T scan_block(const Shared<T>& parts, T v, T& total) {
  T sum = v;
  for (int step = 1; step < 32; step <<= 1) {
    const T other = shuffle_up(sum, step);
    if (lane() >= step) sum += other;
  }
  if (lane() == 31) parts[warp()] = sum;
  sync_block();
  T before = sum - v;
  total = 0;
  for (int w = 0; w < kSampleWarps; w++) {
    const T part = parts[w];
    if (w < warp()) before += part;
    total += part;
  }
  sync_block();
  return before;
}

// What the methods share: the row's scale and total, and its slots, filled in order of the ids.
struct SampleRow {
  const Sample& a;
  const Shared<int>& parts;
  const StagedRow& kept;
  int64_t row;
  AnyIn x;
  double temperature, scale;
  float max;
  uint64_t total, key;
  int64_t support, used;

  LIMBECK_DEVICE float logit(int64_t c) const { return c < a.staged ? staged_at(kept, int(c)) : ld(x, c); }
  LIMBECK_DEVICE double e(int64_t c) const { return sample_weight_(logit(c), max, temperature); }

  // False for a row that has no distribution.
  LIMBECK_DEVICE bool measure(BlockGroup& group) {
    bool odd = !(temperature > 0 && temperature < INFINITY);
    float top = -INFINITY;
    for (int64_t c = thread_index(); c < a.cols; c += block_size()) {
      const float v = logit(c);
      odd |= !(v < INFINITY);
      top = max_(v, top);
    }
    max = merge_one(group, top, Max{}, -INFINITY);
    if (group.any(odd || max == -INFINITY)) return false;
    const int k = sample_first_scale_(a.cols);
    scale = sample_power_of_two_(k);
    uint64_t sums[2] = {0, 0};
    for (int64_t c = thread_index(); c < a.cols; c += block_size()) {
      const double weight = e(c);
      sums[0] += sample_mass_(weight, scale);
      sums[1] += weight > 0 ? 1 : 0;
    }
    group.merge(sums, Add{}, uint64_t(0));
    support = int64_t(sums[1]);
    scale = sample_power_of_two_(k + sample_more_bits_(sums[0]));
    uint64_t sum = 0;
    for (int64_t c = thread_index(); c < a.cols; c += block_size()) sum += sample_mass_(e(c), scale);
    total = merge_one(group, sum, Add{}, uint64_t(0));
    return true;
  }

  LIMBECK_DEVICE void put(int64_t slot, int64_t c, float weight) const {
    st(a.indices, row * a.slots + slot, int32_t(c));
    st(a.weights, row * a.slots + slot, weight);
  }
  // One tile's ids, those with `kept`, behind the ones that are there.
  LIMBECK_DEVICE void append(int64_t c, bool kept, float weight) {
    int count = 0;
    const int before = scan_block(parts, kept ? 1 : 0, count);
    if (kept) put(used + before, c, weight);
    used += count;
  }
  LIMBECK_DEVICE void finish() const {
    for (int64_t i = used + thread_index(); i < a.slots; i += block_size()) put(i, -1, 0.0f);
  }
};

LIMBECK_DEVICE double row_temperature_of(const Sample& a, int64_t row) { return a.row_temperature != nullptr ? double(ld_warp(a.row_temperature, row)) : a.temperature; }

// With replacement, and head and tail: positions in the tail's masses laid end to end.
LIMBECK_DEVICE void sample_counts(SampleRow& s, BlockGroup& group, const Shared<uint64_t>& positions, const Shared<uint64_t>& mass_parts) {
  const Sample& a = s.a;
  const uint64_t head = sample_head_mass_(a.method, s.total, a.draws);
  uint64_t tail = s.total;
  int64_t left = a.draws;
  if (a.method == int(SampleMethod::head_tail)) {
    uint64_t sums[2] = {0, 0};
    for (int64_t c = thread_index(); c < a.cols; c += block_size()) {
      const uint64_t mass = sample_mass_(s.e(c), s.scale);
      sums[0] += mass >= head ? mass : 0;
      sums[1] += mass >= head ? 1 : 0;
    }
    group.merge(sums, Add{}, uint64_t(0));
    tail -= sums[0];
    left -= int64_t(sums[1]);
  }
  if (tail == 0) left = 0;
  auto position = [&](int64_t j) { return sample_position_(sample_random_(uint64_t(j), s.key, a.method, a.seed), tail); };
  auto mass_of = [&](int64_t c) { return c < a.cols ? sample_mass_(s.e(c), s.scale) : uint64_t(0); };
  auto weight_of = [&](uint64_t mass, int64_t count) { return mass >= head ? sample_head_weight_(mass, s.total) : sample_tail_weight_(count, left, tail, s.total); };
  uint64_t begin = 0;
  if (a.workspace == nullptr) {
    int padded = 1;
    while (padded < left) padded <<= 1;
    for (int j = thread_index(); j < padded; j += block_size()) positions[j] = j < left ? position(j) : ~uint64_t(0);
    sort_positions(positions, padded);
    for (int64_t base = 0; base < a.cols; base += block_size()) {
      const int64_t c = base + thread_index();
      const uint64_t mass = mass_of(c), share = mass >= head ? 0 : mass;
      uint64_t all = 0;
      const uint64_t from = begin + scan_block(mass_parts, share, all);
      begin += all;
      const int count = share > 0 ? positions_below(positions, int(left), from + share) - positions_below(positions, int(left), from) : 0;
      s.append(c, mass >= head || count > 0, weight_of(mass, count));
    }
    return;
  }
  uint64_t* ends = a.workspace + block_index() * 2 * a.cols;
  uint64_t* counts = ends + a.cols;
  for (int64_t base = 0; base < a.cols; base += block_size()) {
    const int64_t c = base + thread_index();
    const uint64_t mass = mass_of(c), share = mass >= head ? 0 : mass;
    uint64_t all = 0;
    const uint64_t from = begin + scan_block(mass_parts, share, all);
    begin += all;
    if (c >= a.cols) continue;
    st(ends, c, from + share);
    st(counts, c, 0);
  }
  sync_block();
  for (int64_t j = thread_index(); j < left; j += block_size()) {
    const uint64_t at = position(j);
    int64_t low = 0, high = a.cols - 1;
    while (low < high) {
      const int64_t middle = (low + high) >> 1;
      if (ld(ends, middle) > at) high = middle;
      else low = middle + 1;
    }
    atomic_add(counts, low, 1);
  }
  sync_block();
  for (int64_t base = 0; base < a.cols; base += block_size()) {
    const int64_t c = base + thread_index();
    const uint64_t mass = mass_of(c);
    const int64_t count = c < a.cols ? int64_t(ld(counts, c)) : 0;
    s.append(c, mass >= head || count > 0, weight_of(mass, count));
  }
}

// Keys are exponentials over masses; the `draws` smallest win, the next one is tau, found eight bits at a time.
LIMBECK_DEVICE void sample_race(SampleRow& s, const Shared<int>& histogram, const Shared<int>& choice) {
  const Sample& a = s.a;
  if (s.support <= a.draws) {
    for (int64_t base = 0; base < a.cols; base += block_size()) {
      const int64_t c = base + thread_index();
      const double weight = c < a.cols ? s.e(c) : 0.0;
      s.append(c, weight > 0, sample_race_weight_(weight, INFINITY, s.scale, s.total));
    }
    return;
  }
  // A key as bits, which order as the keys do; all ones where it is surely above `limit`.
  auto key_bits = [&](int64_t c, double weight, double limit) -> uint64_t {
    if (!(weight > 0)) return ~uint64_t(0);
    const uint64_t random = sample_random_(uint64_t(c), s.key, a.method, a.seed);
    if (sample_exponential_bound_(random) > limit * weight) return ~uint64_t(0);
    return sample_bits_(sample_exponential_(random) / weight);
  };
  uint64_t prefix = 0;
  double limit = INFINITY;
  int wanted = int(a.slots);  // keys before tau, among those that share the prefix
  for (int shift = 56; shift >= 0; shift -= 8) {
    for (int i = thread_index(); i < 256; i += block_size()) histogram[i] = 0;
    sync_block();
    for (int64_t c = thread_index(); c < a.cols; c += block_size()) {
      const uint64_t bits = key_bits(c, s.e(c), limit);
      if (bits != ~uint64_t(0) && (shift == 56 || bits >> (shift + 8) == prefix)) atomic_add(histogram, int(bits >> shift & 255), 1);
    }
    sync_block();
    if (thread_index() == 0) {
      int digit = 0, before = 0;
      for (;; digit++) {
        const int count = histogram[digit];
        if (before + count > wanted) break;
        before += count;
      }
      choice[0] = digit;
      choice[1] = wanted - before;
    }
    sync_block();
    const int digit = choice[0];
    wanted = choice[1];
    prefix = prefix << 8 | uint64_t(digit);
    const uint64_t above = (prefix + 1) << shift;
    limit = above < uint64_t(0x7FF0) << 48 ? sample_double_(above) : INFINITY;
  }
  // `wanted` of the keys equal to tau win: the lowest ids, as only bits decide.
  int ties = 0;
  const double tau = sample_double_(prefix);
  for (int64_t base = 0; base < a.cols; base += block_size()) {
    const int64_t c = base + thread_index();
    const double weight = c < a.cols ? s.e(c) : 0.0;
    const uint64_t bits = key_bits(c, weight, limit);
    int equal = 0;
    const int before = scan_block(s.parts, bits == prefix ? 1 : 0, equal);
    s.append(c, bits < prefix || (bits == prefix && ties + before < wanted), sample_race_weight_(weight, tau, s.scale, s.total));
    ties += equal;
  }
}

LIMBECK_KERNEL void LIMBECK_BOUNDS(kSampleBlock) sample_rows(Sample a) {
  SHARED(double, scratch, kScratch);
  SHARED(uint64_t, positions, kSampleShared);
  SHARED(uint64_t, mass_parts, kSampleWarps);
  SHARED(int, parts, kSampleWarps);
  SHARED(int, choice, 2);
  SHARED_DYN(float, memory);
  BlockGroup group(scratch);
  const Shared<int> histogram = positions.slice<int>(0, 256);
  const StagedRow kept{memory.slice<float>(0, (a.staged + 3) / 4 * 4 * (a.logits.dtype == DType::float32 ? 4 : 2) / 4), a.logits.dtype};
  for (int64_t row = block_index(); row < a.rows; row += grid_size()) {
    // The row before was read for the last time ahead of a barrier.
    stage(group, offset(a.logits, row * a.cols), a.staged, kept);
    group.sync();
    SampleRow s{a, parts, kept, row, offset(a.logits, row * a.cols), row_temperature_of(a, row), 0, 0, 0, a.row_offset + uint64_t(row), 0, 0};
    if (s.measure(group)) {
      if (a.method == int(SampleMethod::race)) sample_race(s, histogram, choice);
      else sample_counts(s, group, positions, mass_parts);
    } else {
      if (thread_index() == 0) s.put(0, 0, NAN);
      s.used = 1;
    }
    s.finish();
  }
}

}  // namespace

void sample_target(Context& ctx, In logits, In row_temperature, Out indices, Out weights, Int rows, Int cols, Int draws, Int method, Float temperature, Int seed, Int row_offset) {
  Sample a{logits, row_temperature.as<float>(), indices.as<int32_t>(), weights.as<float>(), nullptr, rows, cols, draws,
           draws < cols ? draws : cols, temperature, uint64_t(seed), uint64_t(row_offset), int(method), 0};
  const Int width = kDTypeBytes[int(logits.dtype)], room = (limits(ctx).shared_bytes - kSampleStatic) / 16 * 16 / width;
  a.staged = int(cols < room ? cols : room / 8 * 8);
  const size_t row_bytes = size_t((a.staged + 7) / 8 * 8 * width);
  int64_t grid = int64_t(limits(ctx).multiprocessors) * 8;
  if (rows < grid) grid = rows;
  if (grid == 0) return;
  if (draws <= kSampleShared || method == Int(SampleMethod::race)) return launch(ctx, "sample_target", sample_rows, Launch{grid, kSampleBlock, 1, row_bytes}, a);
  // Fewer blocks where each needs much memory: 256 MiB together, or one block's.
  const int64_t most = (int64_t(1) << 24) / cols;
  if (grid > most) grid = most > 1 ? most : 1;
  Workspace memory(ctx, size_t(grid * 2 * cols) * sizeof(uint64_t));
  if (!memory) return;
  a.workspace = memory.as<uint64_t>();
  launch(ctx, "sample_target", sample_rows, Launch{grid, kSampleBlock, 1, row_bytes}, a);
}

}  // namespace limbeck::cuda
