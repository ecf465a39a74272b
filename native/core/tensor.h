// What a kernel sees of a tensor: an address, a length and a dtype. No ownership, no JavaScript.
#pragma once
#include <cstddef>
#include <cstdint>

namespace limbeck {

enum class DType : uint8_t { float32, float16, bfloat16, float64, int32, uint8 };

inline constexpr const char* kDTypeNames[] = {"float32", "float16", "bfloat16", "float64", "int32", "uint8"};
inline constexpr int64_t kDTypeBytes[] = {4, 2, 2, 8, 4, 1};

// Scalars of a kernel's signature; JavaScript numbers on the other side.
using Int = int64_t;
using Float = double;

// A contiguous run of elements on the device of the call. Absent optional tensors have data == nullptr.
struct In {
  const void* data = nullptr;
  int64_t size = 0;  // elements
  DType dtype = DType::float32;
  explicit operator bool() const { return data != nullptr; }
  template <class T> const T* as() const { return static_cast<const T*>(data); }
};

struct Out {
  void* data = nullptr;
  int64_t size = 0;
  DType dtype = DType::float32;
  explicit operator bool() const { return data != nullptr; }
  template <class T> T* as() const { return static_cast<T*>(data); }
};

// Read and written: parameters and optimiser state.
struct InOut : Out {};

// A list of one call, as long as the call: of tensors, of which optional ones may be absent, or of numbers.
template <class T> struct List {
  const T* items = nullptr;
  Int count = 0;
};
using Ins = List<In>;
using InOuts = List<InOut>;
using Ints = List<Int>;

}  // namespace limbeck
