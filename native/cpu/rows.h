// What the kernels of one instruction set share: the lane type of a dtype, and rows or elements over threads.
#pragma once

namespace limbeck::cpu::LIMBECK_ISA {
namespace {

template <class V> struct Lanes {
  using type = V;
};

// f(Lanes<V>): float32 in vectors, float64 one by one.
template <class F> void by_dtype(DType dtype, F f) {
  if (dtype == DType::float64) f(Lanes<double>{});
  else f(Lanes<F32>{});
}

// The same where numbers of 64 bits are left to the base instruction set.
template <class F> void by_dtype_here(DType dtype, F f) {
  if constexpr (lane<F32>::width == 1) by_dtype(dtype, f);
  else f(Lanes<F32>{});
}

// Half types are widened to floats in working memory and rounded once on the way out.
template <class S> inline constexpr DType kDTypeOf = sizeof(S) == 8 ? DType::float64 : DType::float32;
inline bool is_half(DType dtype) { return dtype == DType::float16 || dtype == DType::bfloat16; }

// n numbers from `at` on as S: where they lie, or exactly so in `room`.
template <class V, class S> const S* widened(In x, Int at, Int n, S* room) {
  if (x.dtype == kDTypeOf<S>) return x.as<S>() + at;
  const auto from = [&](const auto* p) {
    if constexpr (sizeof(S) == 4) widen_row<V>(p + at, room, n);
    else for (Int i = 0; i < n; ++i) room[i] = widen_(p[at + i]);
  };
  if (x.dtype == DType::float16) from(x.as<Float16>());
  else if (x.dtype == DType::bfloat16) from(x.as<BFloat16>());
  else for (Int i = 0; i < n; ++i) room[i] = static_cast<S>(x.as<float>()[at + i]);
  return room;
}

// n floats into a half type; S = double has none.
template <class V, class S> void narrowed(const S* from, Out y, Int at, Int n) {
  if constexpr (sizeof(S) == 4) {
    if (y.dtype == DType::float16) narrow_row<V>(from, y.as<Float16>() + at, n);
    else narrow_row<V>(from, y.as<BFloat16>() + at, n);
  }
}

// Fewer elements than this are not worth waking a thread for.
constexpr Int kGrain = 16384;

template <class F> void over_rows(Int rows, Int cols, F body, Int grain = kGrain) { parallel(rows, grain / (cols < 1 ? 1 : cols) + 1, body); }

// The same where something of a row is left to do among the next one: body(pieces).
template <class F> void over_row_pieces(Int rows, Int cols, F body, Int grain = kGrain) { parallel_pieces(rows, grain / (cols < 1 ? 1 : cols) + 1, body); }

// Elements in pieces that start at multiples of 64, so that vectors meet the same elements whatever the threads.
template <class F> void over_elements(Int size, F body) {
  auto pieces = [&](Int begin, Int end) { body(begin * 64, end * 64 < size ? end * 64 : size); };
  parallel((size + 63) / 64, kGrain / 64, pieces);
}

// Bytes from one array of working memory to the next: at the same place of a page, stores to one would hold up loads from another.
inline size_t apart(size_t bytes) {
  constexpr size_t kPage = 4096, kShift = 448;
  return (bytes + 64 + kPage - kShift) / kPage * kPage + kShift;
}

// Working memory of one thread for `count` rows of S; false where there is none.
template <class S> class RowRoom {
 public:
  RowRoom(Faults& faults, Int cols, Int count) : stride_(static_cast<Int>(apart(static_cast<size_t>(cols) * sizeof(S)) / sizeof(S))), enough_(count == 0) {
    if (enough_) return;
    const size_t bytes = static_cast<size_t>(stride_ * count) * sizeof(S);
    memory_ = static_cast<S*>(scratch(bytes));
    enough_ = memory_ != nullptr;
    if (!enough_) faults.out_of_memory(bytes);
  }
  explicit operator bool() const { return enough_; }
  S* row(Int i) const { return memory_ ? memory_ + i * stride_ : nullptr; }

 private:
  Int stride_;
  S* memory_ = nullptr;
  bool enough_;
};

// f(x, y, n) over [begin, end) with elements as S, a piece at a time where they are stored as something else.
template <class V, class S, class F> void in_pieces(In x, Out y, Int begin, Int end, F f) {
  const bool direct = y.dtype == kDTypeOf<S>;
  if (direct && x.dtype == y.dtype) return f(x.as<S>() + begin, y.as<S>() + begin, end - begin);
  constexpr Int kPiece = 1024;
  S from[kPiece], to[kPiece];
  for (Int at = begin; at < end; at += kPiece) {
    const Int n = end - at < kPiece ? end - at : kPiece;
    f(widened<V>(x, at, n, from), direct ? y.as<S>() + at : to, n);
    if (!direct) narrowed<V>(to, y, at, n);
  }
}

// The row's temperature; NaN after refusing one that is not positive and finite.
double temperature_of(Faults& faults, In row_temperature, Float temperature, Int r) {
  if (!row_temperature) return temperature;
  const float t = row_temperature.as<float>()[r];
  if (t > 0 && t < INFINITY) return t;
  faults.refuse(r, "row_temperature must be positive and finite: it is %g in row %lld", static_cast<double>(t), static_cast<long long>(r));
  return NAN;
}

}  // namespace
}  // namespace limbeck::cpu::LIMBECK_ISA
