// The host twin of cuda/device.h: the same names, every access checked, counted and watched for races. Included by cuda/device.h only.
#pragma once
#include <cmath>
#include <memory>
#include <tuple>
#include <utility>

#include "emulated/machine.h"

#define SHARED(T, name, count)                              \
  static ::limbeck::emulated::SharedSlot name##_slot;       \
  const ::limbeck::cuda::Shared<T> name { reinterpret_cast<T*>(::limbeck::emulated::shared_memory(name##_slot, sizeof(T) * (count), #name)), (count) }
#define SHARED_DYN(T, name) const ::limbeck::cuda::Shared<T> name = ::limbeck::cuda::dynamic_shared<T>()

namespace limbeck::cuda {

// An index and the line it was written on.
struct At {
  int64_t index;
  const char* file;
  int line;
  template <class I> At(I i, LIMBECK_SITE) : index(int64_t(i)), file(file), line(line) {}
};

// One element of shared memory. Reads when converted, writes when assigned; cannot be kept.
template <class T> class SharedElement {
 public:
  SharedElement(T* at, const char* file, int line) : at_(at), file_(file), line_(line) {}
  SharedElement(const SharedElement&) = delete;
  operator T() && { return read(); }
  T operator=(T v) && { return write(v); }
  T operator=(SharedElement&& other) && { return write(other.read()); }
  template <class U> T operator+=(U v) && { return write(T(read() + v)); }
  template <class U> T operator-=(U v) && { return write(T(read() - v)); }
  template <class U> T operator*=(U v) && { return write(T(read() * v)); }
  template <class U> T operator|=(U v) && { return write(T(read() | v)); }

 private:
  T read() const {
    emulated::shared_access(at_, sizeof(T), alignof(T), emulated::Access::load, file_, line_);
    return *at_;
  }
  T write(T v) const {
    emulated::shared_access(at_, sizeof(T), alignof(T), emulated::Access::store, file_, line_);
    *at_ = v;
    return v;
  }
  T* at_;
  const char* file_;
  int line_;
};

template <class T> struct Shared {
  T* data;
  int size;
  SharedElement<T> operator[](At at) const { return {address(at.index, 1, at.file, at.line), at.file, at.line}; }
  template <class U> Shared<U> slice(int byte_offset, int count, LIMBECK_SITE) const {
    const int64_t end = byte_offset + int64_t(count) * int64_t(sizeof(U));
    if (byte_offset < 0 || count < 0 || end > int64_t(size) * int64_t(sizeof(T)))
      emulated::shared_out_of_bounds(end, int64_t(size) * int64_t(sizeof(T)), file, line);
    return {reinterpret_cast<U*>(reinterpret_cast<unsigned char*>(data) + byte_offset), count};
  }
  T* address(int64_t i, int count, const char* file, int line) const {
    if (i < 0 || i + count > size) emulated::shared_out_of_bounds(i, size, file, line);
    return data + i;
  }
};

template <class T> Shared<T> dynamic_shared() {
  size_t bytes = 0;
  unsigned char* data = emulated::dynamic_shared_memory(bytes);
  return {reinterpret_cast<T*>(data), int(bytes / sizeof(T))};
}

template <class... Parameters, class... Arguments>
void launch(Context& ctx, const char* name, void (*kernel)(Parameters...), const Launch& l, Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "launch: one argument per parameter of the kernel");
  if (!launch_allowed(ctx, name, l)) return;
  static_assert((sizeof(Parameters) + ... + 0) <= 4000, "launch: a kernel's parameters must fit 4 KB");
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> values;
  };
  auto call = std::make_shared<Call>(Call{kernel, std::tuple<Parameters...>(static_cast<Parameters>(arguments)...)});
  emulated::run(ctx, name, l, [](void* c) { std::apply(static_cast<Call*>(c)->kernel, static_cast<Call*>(c)->values); }, std::move(call), sizeof(Call));
}

LIMBECK_DEVICE int thread_index() { return emulated::current->index; }
LIMBECK_DEVICE int block_index() { return emulated::current->block->index; }
LIMBECK_DEVICE int block_size() { return emulated::current_block_size; }
LIMBECK_DEVICE int grid_size() { return emulated::current_grid_size; }
LIMBECK_DEVICE int lane() { return emulated::current->lane; }
LIMBECK_DEVICE int warp() { return emulated::current->index >> 5; }

LIMBECK_DEVICE void sync_block(LIMBECK_SITE) { emulated::sync_block({file, line}); }
LIMBECK_DEVICE void sync_warp(LIMBECK_SITE) { emulated::sync_warp({file, line}); }

template <class T> LIMBECK_DEVICE T exchange(emulated::Collective kind, T v, int argument, const char* file, int line) {
  static_assert(sizeof(T) <= 8 && std::is_arithmetic_v<T>, "shuffles take numbers of at most 8 bytes");
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &v, sizeof v);
  bits = emulated::collective(kind, bits, argument, {file, line});
  __builtin_memcpy(&v, &bits, sizeof v);
  return v;
}
template <class T> LIMBECK_DEVICE T shuffle(T v, int source_lane, LIMBECK_SITE) { return exchange(emulated::Collective::shuffle, v, source_lane, file, line); }
template <class T> LIMBECK_DEVICE T shuffle_xor(T v, int mask, LIMBECK_SITE) { return exchange(emulated::Collective::shuffle_xor, v, mask, file, line); }
template <class T> LIMBECK_DEVICE T shuffle_down(T v, int delta, LIMBECK_SITE) { return exchange(emulated::Collective::shuffle_down, v, delta, file, line); }
template <class T> LIMBECK_DEVICE T shuffle_up(T v, int delta, LIMBECK_SITE) { return exchange(emulated::Collective::shuffle_up, v, delta, file, line); }
LIMBECK_DEVICE unsigned ballot(bool p, LIMBECK_SITE) { return unsigned(emulated::collective(emulated::Collective::ballot, p, 0, {file, line})); }
LIMBECK_DEVICE bool any_warp(bool p, LIMBECK_SITE) { return emulated::collective(emulated::Collective::ballot, p, 0, {file, line}) != 0; }
LIMBECK_DEVICE bool all_warp(bool p, LIMBECK_SITE) { return emulated::collective(emulated::Collective::ballot, p, 0, {file, line}) == 0xffffffffu; }
LIMBECK_DEVICE bool any_block(bool p, LIMBECK_SITE) { return emulated::vote_block(p, {file, line}) != 0; }
LIMBECK_DEVICE int count_block(bool p, LIMBECK_SITE) { return emulated::vote_block(p, {file, line}); }

LIMBECK_DEVICE float to_float(float v) { return v; }
LIMBECK_DEVICE float to_float(Float16 v) { return widen_(v); }
LIMBECK_DEVICE float to_float(BFloat16 v) { return widen_(v); }
template <class T> LIMBECK_DEVICE T from_float(float v) {
  if constexpr (std::is_same_v<T, float>) return v;
  else return narrow_<T>(v);
}

// p + i without the undefined behaviour of an address outside the object: it is checked right after.
template <class T> LIMBECK_DEVICE const void* element_address(const T* p, int64_t i) {
  return reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) + uintptr_t(i) * sizeof(T));
}

template <class T> LIMBECK_DEVICE T ld(const T* p, int64_t i, LIMBECK_SITE) {
  return *static_cast<const T*>(emulated::global_access(element_address(p, i), sizeof(T), emulated::Access::load, file, line));
}
template <class T> LIMBECK_DEVICE T ld_readonly(const T* p, int64_t i, LIMBECK_SITE) {
  return *static_cast<const T*>(emulated::global_access(element_address(p, i), sizeof(T), emulated::Access::load_readonly, file, line));
}
template <class T> LIMBECK_DEVICE void st(T* p, int64_t i, std::type_identity_t<T> v, LIMBECK_SITE) {
  *static_cast<T*>(emulated::global_access(element_address(p, i), sizeof(T), emulated::Access::store, file, line)) = v;
}
template <class T> LIMBECK_DEVICE void st_streaming(T* p, int64_t i, std::type_identity_t<T> v, LIMBECK_SITE) { st(p, i, v, file, line); }

template <class T> LIMBECK_DEVICE Float4 gather4(const void* at) {
  const T* v = static_cast<const T*>(at);
  return {to_float(v[0]), to_float(v[1]), to_float(v[2]), to_float(v[3])};
}
template <class T> LIMBECK_DEVICE Float4 ld4(const T* p, int64_t i, LIMBECK_SITE) {
  return gather4<T>(emulated::global_access(element_address(p, i), 4 * sizeof(T), emulated::Access::load, file, line));
}
template <class T> LIMBECK_DEVICE Float4 ld4_readonly(const T* p, int64_t i, LIMBECK_SITE) {
  return gather4<T>(emulated::global_access(element_address(p, i), 4 * sizeof(T), emulated::Access::load_readonly, file, line));
}
template <class T> LIMBECK_DEVICE void st4(T* p, int64_t i, Float4 v, LIMBECK_SITE) {
  T* at = static_cast<T*>(emulated::global_access(element_address(p, i), 4 * sizeof(T), emulated::Access::store, file, line));
  at[0] = from_float<T>(v.x), at[1] = from_float<T>(v.y), at[2] = from_float<T>(v.z), at[3] = from_float<T>(v.w);
}
template <class T> LIMBECK_DEVICE void st4_streaming(T* p, int64_t i, Float4 v, LIMBECK_SITE) { st4(p, i, v, file, line); }

template <class T> LIMBECK_DEVICE T ld_shared(const Shared<T>& s, int i, LIMBECK_SITE) { return s[At(i, file, line)]; }
template <class T> LIMBECK_DEVICE void st_shared(const Shared<T>& s, int i, std::type_identity_t<T> v, LIMBECK_SITE) { s[At(i, file, line)] = v; }
template <class T> LIMBECK_DEVICE Float4 ld4_shared(const Shared<T>& s, int i, LIMBECK_SITE) {
  const T* at = s.address(i, 4, file, line);
  emulated::shared_access(at, 4 * sizeof(T), 4 * sizeof(T), emulated::Access::load, file, line);
  return gather4<T>(at);
}
template <class T> LIMBECK_DEVICE void st4_shared(const Shared<T>& s, int i, Float4 v, LIMBECK_SITE) {
  T* at = s.address(i, 4, file, line);
  emulated::shared_access(at, 4 * sizeof(T), 4 * sizeof(T), emulated::Access::store, file, line);
  at[0] = from_float<T>(v.x), at[1] = from_float<T>(v.y), at[2] = from_float<T>(v.z), at[3] = from_float<T>(v.w);
}

template <class T> LIMBECK_DEVICE T atomic_add(T* p, int64_t i, std::type_identity_t<T> v, LIMBECK_SITE) {
  T* at = static_cast<T*>(emulated::global_access(element_address(p, i), sizeof(T), emulated::Access::atomic, file, line));
  return std::exchange(*at, T(*at + v));
}
template <class T> LIMBECK_DEVICE T atomic_max(T* p, int64_t i, std::type_identity_t<T> v, LIMBECK_SITE) {
  static_assert(std::is_integral_v<T>, "atomic_max: integers only");
  T* at = static_cast<T*>(emulated::global_access(element_address(p, i), sizeof(T), emulated::Access::atomic, file, line));
  return std::exchange(*at, *at > v ? *at : v);
}
template <class T> LIMBECK_DEVICE T atomic_add(const Shared<T>& s, int i, std::type_identity_t<T> v, LIMBECK_SITE) {
  T* at = s.address(i, 1, file, line);
  emulated::shared_access(at, sizeof(T), alignof(T), emulated::Access::atomic, file, line);
  return std::exchange(*at, T(*at + v));
}
template <class T> LIMBECK_DEVICE T atomic_max(const Shared<T>& s, int i, std::type_identity_t<T> v, LIMBECK_SITE) {
  static_assert(std::is_integral_v<T>, "atomic_max: integers only");
  T* at = s.address(i, 1, file, line);
  emulated::shared_access(at, sizeof(T), alignof(T), emulated::Access::atomic, file, line);
  return std::exchange(*at, *at > v ? *at : v);
}
LIMBECK_DEVICE unsigned atomic_or(const Shared<unsigned>& s, int i, unsigned v, LIMBECK_SITE) {
  unsigned* at = s.address(i, 1, file, line);
  emulated::shared_access(at, sizeof(unsigned), alignof(unsigned), emulated::Access::atomic, file, line);
  return std::exchange(*at, *at | v);
}

LIMBECK_DEVICE int cluster_rank() { return emulated::current->block->rank; }
LIMBECK_DEVICE int cluster_size() { return emulated::current_cluster_size; }
LIMBECK_DEVICE void sync_cluster(LIMBECK_SITE) { emulated::sync_cluster({file, line}); }
template <class T> LIMBECK_DEVICE Shared<T> map_rank(const Shared<T>& s, int rank, LIMBECK_SITE) {
  return {reinterpret_cast<T*>(emulated::map_shared(reinterpret_cast<unsigned char*>(s.data), rank, {file, line})), s.size};
}

template <class T, class U> LIMBECK_DEVICE void copy_async16(const Shared<T>& s, int i, const U* p, int64_t j, LIMBECK_SITE) {
  emulated::copy_async16(s.address(i, int(16 / sizeof(T)), file, line), element_address(p, j), {file, line});
}
LIMBECK_DEVICE void copy_async_commit() { emulated::copy_async_commit(); }
template <int pending> LIMBECK_DEVICE void copy_async_wait(LIMBECK_SITE) { emulated::copy_async_wait(pending, {file, line}); }

}  // namespace limbeck::cuda
