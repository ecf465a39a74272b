// The columns of each row in the order of its values: a radix sort by 11 bits a pass, short rows by comparison.
#pragma once
#include "ops/argsort/math.h"

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <class Key> struct Keyed {
  Key key;
  uint32_t column;
  bool operator<(const Keyed& other) const { return key != other.key ? key < other.key : column < other.column; }
};

constexpr Int kComparedCols = 128;
constexpr int kRadixBits = 11, kRadixSize = 1 << kRadixBits;

// Leaves the sorted entries in one of the two buffers and gives it back.
template <class Key> Keyed<Key>* radix_sort(Keyed<Key>* from, Keyed<Key>* to, Int n) {
  constexpr int kPasses = (static_cast<int>(sizeof(Key)) * 8 + kRadixBits - 1) / kRadixBits;
  uint32_t counts[kPasses][kRadixSize] = {};
  for (Int i = 0; i < n; ++i)
    for (int pass = 0; pass < kPasses; ++pass) ++counts[pass][from[i].key >> (pass * kRadixBits) & (kRadixSize - 1)];
  for (int pass = 0; pass < kPasses; ++pass) {
    uint32_t* const count = counts[pass];
    const int shift = pass * kRadixBits;
    // All in one bucket: this pass moves nothing.
    if (count[from[0].key >> shift & (kRadixSize - 1)] == static_cast<uint32_t>(n)) continue;
    uint32_t begin = 0;
    for (int b = 0; b < kRadixSize; ++b) {
      const uint32_t size = count[b];
      count[b] = begin;
      begin += size;
    }
    for (Int i = 0; i < n; ++i) to[count[from[i].key >> shift & (kRadixSize - 1)]++] = from[i];
    Keyed<Key>* const other = from;
    from = to;
    to = other;
  }
  return from;
}

template <class S> void argsort_loop(Faults& faults, const S* x, int32_t* indices, Int rows, Int cols, bool descending) {
  using Entry = Keyed<decltype(sort_key_(S(0)))>;
  over_rows(rows, cols, [&, x, indices, cols, descending](Int begin, Int end) {
    const size_t bytes = static_cast<size_t>(2 * cols) * sizeof(Entry);
    Entry* const memory = static_cast<Entry*>(scratch(bytes));
    if (!memory) return faults.out_of_memory(bytes);
    for (Int r = begin; r < end; ++r) {
      const S* row = x + r * cols;
      for (Int c = 0; c < cols; ++c) memory[c] = {ordered_key_(row[c], descending), static_cast<uint32_t>(c)};
      const Entry* sorted = memory;
      if (cols <= kComparedCols) std::sort(memory, memory + cols);
      else sorted = radix_sort(memory, memory + cols, cols);
      for (Int c = 0; c < cols; ++c) indices[r * cols + c] = static_cast<int32_t>(sorted[c].column);
    }
  });
}

}  // namespace

void argsort(Context& ctx, In x, Out indices, Int rows, Int cols, Int descending) {
  Faults faults;
  if (x.dtype == DType::float64) argsort_loop(faults, x.as<double>(), indices.as<int32_t>(), rows, cols, descending != 0);
  else argsort_loop(faults, x.as<float>(), indices.as<int32_t>(), rows, cols, descending != 0);
  faults.report(ctx);
}

}  // namespace limbeck::cpu::LIMBECK_ISA
