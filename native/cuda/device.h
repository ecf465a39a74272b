// The whole CUDA surface of the kernels: launch, indices, barriers, shuffles, shared and global memory, clusters, asynchronous copies.
// nvcc compiles this file; on the host emulated/device.h gives every name the same meaning, with checks. Grids are one-dimensional.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/context.h"
#include "core/half.h"

// Minimum: compute capability 7.5. Clusters need 9.0: below it a block is its own cluster of one, and launch() refuses
// a larger one. Asynchronous copies need 8.0: below it they are plain copies, complete on return.
#if defined(__CUDACC__)
#include <cuda_runtime.h>

#define LIMBECK_KERNEL __global__
#define LIMBECK_DEVICE __device__ __forceinline__
// LIMBECK_KERNEL void LIMBECK_BOUNDS(256) name(...): the most threads a block is launched with.
#define LIMBECK_BOUNDS(threads) __launch_bounds__(threads)
// The same, and so many blocks are to fit a multiprocessor: it bounds the registers.
#define LIMBECK_BOUNDS_OF(threads, blocks) __launch_bounds__(threads, blocks)
// Before a loop whose index picks registers.
#define LIMBECK_UNROLL _Pragma("unroll")
// Before a loop that is not to be unrolled: its registers are needed elsewhere.
#define LIMBECK_ROLLED _Pragma("unroll 1")
// A function around a barrier takes LIMBECK_SITE and gives LIMBECK_AT on, so that the host knows the barrier by its caller's line.
#define LIMBECK_SITE
#define LIMBECK_AT

namespace limbeck::cuda {

using Float4 = float4;

#else

#define LIMBECK_KERNEL __attribute__((unused))
#define LIMBECK_DEVICE inline __attribute__((always_inline))
#define LIMBECK_BOUNDS(threads)
#define LIMBECK_BOUNDS_OF(threads, blocks)
#define LIMBECK_UNROLL
#define LIMBECK_ROLLED
#define LIMBECK_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define LIMBECK_AT file, line

namespace limbeck::cuda {

struct alignas(16) Float4 { float x, y, z, w; };

#endif

// block: a multiple of 32, at most 1024. shared_bytes: dynamic shared memory. grid 0 launches nothing.
struct Launch {
  int64_t grid = 1;
  int block = 256;
  int cluster = 1;
  size_t shared_bytes = 0;
};

// Both sides refuse the same shapes; the device's own limits come on top.
inline bool launch_allowed(Context& ctx, const char* name, const Launch& l) {
  if (!ctx.ok()) return false;
  const bool ok = l.grid >= 0 && l.grid <= 0x7fffffff && l.block >= 32 && l.block <= 1024 && l.block % 32 == 0 &&
                  l.cluster >= 1 && l.cluster <= 16 && l.grid % l.cluster == 0;
  if (!ok)
    ctx.refuse_device("launch_failed", "kernel %s must have whole warps and whole clusters: grid %lld, block %d, cluster %d", name,
                      (long long)l.grid, l.block, l.cluster);
  return ok && l.grid > 0;
}

}  // namespace limbeck::cuda

#if !defined(__CUDACC__)
#include "emulated/device.h"
#else

// SHARED(float, partial, 32): `partial` is a Shared<float> of the block. SHARED_DYN: the launch's shared_bytes, 16-byte aligned.
#define SHARED(T, name, count)                        \
  __shared__ alignas(16) T name##_memory[count];      \
  const ::limbeck::cuda::Shared<T> name { name##_memory, count }
#define SHARED_DYN(T, name)                                            \
  extern __shared__ __align__(128) unsigned char limbeck_shared_memory[]; \
  const ::limbeck::cuda::Shared<T> name { reinterpret_cast<T*>(limbeck_shared_memory), -1 }

namespace limbeck::cuda {

// A run of shared memory. Read by `T v = s[i]` (never `auto`: on the host s[i] is a proxy), written by `s[i] = v`.
template <class T> struct Shared {
  T* data;
  int size;  // elements; -1: unknown (dynamic)
  LIMBECK_DEVICE T& operator[](int i) const { return data[i]; }
  // Another view of the same memory, `byte_offset` bytes further on: how dynamic shared memory is divided.
  template <class U> LIMBECK_DEVICE Shared<U> slice(int byte_offset, int count) const {
    return {reinterpret_cast<U*>(reinterpret_cast<unsigned char*>(data) + byte_offset), count};
  }
};

// Launches on ctx.stream; arguments are converted to the kernel's parameters. A refusal is recorded in ctx.
template <class... Parameters, class... Arguments>
void launch(Context& ctx, const char* name, void (*kernel)(Parameters...), const Launch& l, Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "launch: one argument per parameter of the kernel");
  static_assert((sizeof(Parameters) + ... + 0) <= 4000, "launch: a kernel's parameters must fit 4 KB");
  if (!launch_allowed(ctx, name, l)) return;
  const void* function = reinterpret_cast<const void*>(kernel);
  cudaError_t error = cudaSuccess;
  if (l.shared_bytes > 48 * 1024)
    error = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, int(l.shared_bytes));
  if (error == cudaSuccess && l.cluster > 8) error = cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  if (error == cudaSuccess) {
    cudaLaunchAttribute cluster{};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = unsigned(l.cluster);
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(unsigned(l.grid));
    config.blockDim = dim3(unsigned(l.block));
    config.dynamicSmemBytes = l.shared_bytes;
    config.stream = static_cast<cudaStream_t>(ctx.stream);
    config.attrs = &cluster;
    config.numAttrs = l.cluster > 1 ? 1 : 0;
    [&](Parameters... values) {
      void* addresses[] = {const_cast<void*>(static_cast<const void*>(&values))..., nullptr};
      error = cudaLaunchKernelExC(&config, function, addresses);
    }(static_cast<Parameters>(arguments)...);
  }
  if (error == cudaSuccess) return;
  cudaGetLastError();
  ctx.refuse_device("launch_failed", "kernel %s must launch (grid %lld, block %d, cluster %d, shared memory %zu): %s", name,
                    (long long)l.grid, l.block, l.cluster, l.shared_bytes, cudaGetErrorString(error));
}

// Where a thread is.
LIMBECK_DEVICE int thread_index() { return int(threadIdx.x); }
LIMBECK_DEVICE int block_index() { return int(blockIdx.x); }
LIMBECK_DEVICE int block_size() { return int(blockDim.x); }
LIMBECK_DEVICE int grid_size() { return int(gridDim.x); }
LIMBECK_DEVICE int lane() { return int(threadIdx.x & 31u); }
LIMBECK_DEVICE int warp() { return int(threadIdx.x >> 5); }

// Barriers: every thread of the block, or of the warp, must arrive. They order shared and global memory among those threads.
LIMBECK_DEVICE void sync_block() { __syncthreads(); }
LIMBECK_DEVICE void sync_warp() { __syncwarp(); }

// Shuffles and votes of whole warps. They exchange values; they do not order memory.
template <class T> LIMBECK_DEVICE T shuffle(T v, int source_lane) { return __shfl_sync(0xffffffffu, v, source_lane); }
template <class T> LIMBECK_DEVICE T shuffle_xor(T v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
template <class T> LIMBECK_DEVICE T shuffle_down(T v, int delta) { return __shfl_down_sync(0xffffffffu, v, unsigned(delta)); }
template <class T> LIMBECK_DEVICE T shuffle_up(T v, int delta) { return __shfl_up_sync(0xffffffffu, v, unsigned(delta)); }
LIMBECK_DEVICE unsigned ballot(bool p) { return __ballot_sync(0xffffffffu, p); }
LIMBECK_DEVICE bool any_warp(bool p) { return __any_sync(0xffffffffu, p); }
LIMBECK_DEVICE bool all_warp(bool p) { return __all_sync(0xffffffffu, p); }
// Votes of the whole block, and a barrier.
LIMBECK_DEVICE bool any_block(bool p) { return __syncthreads_or(p); }
LIMBECK_DEVICE int count_block(bool p) { return __syncthreads_count(p); }

// Conversions of the half types.
LIMBECK_DEVICE float to_float(float v) { return v; }
LIMBECK_DEVICE float to_float(BFloat16 v) { return __uint_as_float(unsigned(v.bits) << 16); }
LIMBECK_DEVICE float to_float(Float16 v) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(v.bits));
  return r;
}
template <class T> LIMBECK_DEVICE T from_float(float v) {
  if constexpr (sizeof(T) == 4) {
    return v;
  } else {
    T r;
    if constexpr (std::is_same_v<T, Float16>) {
      asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(v));
    } else {
      const unsigned bits = __float_as_uint(v);
      r.bits = uint16_t(v != v ? (bits >> 16) | 0x40u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    }
    return r;
  }
}

// Global memory: element i of p. ld_readonly only where no thread of this launch writes that memory.
template <class T> LIMBECK_DEVICE T ld(const T* p, int64_t i) { return p[i]; }
template <class T> LIMBECK_DEVICE T ld_readonly(const T* p, int64_t i) {
  if constexpr (sizeof(T) == 2 && std::is_class_v<T>) return T{__ldg(reinterpret_cast<const unsigned short*>(p) + i)};
  else return __ldg(p + i);
}
template <class T> LIMBECK_DEVICE void st(T* p, int64_t i, std::type_identity_t<T> v) { p[i] = v; }
// Written once and not read again by this launch: stays out of the caches' way.
template <class T> LIMBECK_DEVICE void st_streaming(T* p, int64_t i, std::type_identity_t<T> v) {
  if constexpr (sizeof(T) == 2 && std::is_class_v<T>) __stcs(reinterpret_cast<unsigned short*>(p) + i, v.bits);
  else __stcs(p + i, v);
}

// Elements i..i+3 in one access; p + i aligned to the whole access (16 bytes for float, 8 for half types).
LIMBECK_DEVICE Float4 unpack4(float4 v, float) { return v; }
template <class T> LIMBECK_DEVICE Float4 unpack4(uint2 v, T) {
  return make_float4(to_float(T{uint16_t(v.x)}), to_float(T{uint16_t(v.x >> 16)}), to_float(T{uint16_t(v.y)}), to_float(T{uint16_t(v.y >> 16)}));
}
LIMBECK_DEVICE float4 pack4(Float4 v, float) { return v; }
template <class T> LIMBECK_DEVICE unsigned pack2(float low, float high) {
#if __CUDA_ARCH__ >= 800
  unsigned r;
  if constexpr (std::is_same_v<T, Float16>) asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  else asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
#else
  return from_float<T>(low).bits | unsigned(from_float<T>(high).bits) << 16;
#endif
}
template <class T> LIMBECK_DEVICE uint2 pack4(Float4 v, T) { return make_uint2(pack2<T>(v.x, v.y), pack2<T>(v.z, v.w)); }
template <class T> using Packed4 = std::conditional_t<sizeof(T) == 4, float4, uint2>;

template <class T> LIMBECK_DEVICE Float4 ld4(const T* p, int64_t i) { return unpack4(*reinterpret_cast<const Packed4<T>*>(p + i), T{}); }
template <class T> LIMBECK_DEVICE Float4 ld4_readonly(const T* p, int64_t i) { return unpack4(__ldg(reinterpret_cast<const Packed4<T>*>(p + i)), T{}); }
template <class T> LIMBECK_DEVICE void st4(T* p, int64_t i, Float4 v) { *reinterpret_cast<Packed4<T>*>(p + i) = pack4(v, T{}); }
template <class T> LIMBECK_DEVICE void st4_streaming(T* p, int64_t i, Float4 v) { __stcs(reinterpret_cast<Packed4<T>*>(p + i), pack4(v, T{})); }

// Shared memory by function, and four elements at once (i a multiple of 4).
template <class T> LIMBECK_DEVICE T ld_shared(const Shared<T>& s, int i) { return s[i]; }
template <class T> LIMBECK_DEVICE void st_shared(const Shared<T>& s, int i, std::type_identity_t<T> v) { s[i] = v; }
template <class T> LIMBECK_DEVICE Float4 ld4_shared(const Shared<T>& s, int i) { return unpack4(*reinterpret_cast<const Packed4<T>*>(s.data + i), T{}); }
template <class T> LIMBECK_DEVICE void st4_shared(const Shared<T>& s, int i, Float4 v) { *reinterpret_cast<Packed4<T>*>(s.data + i) = pack4(v, T{}); }

// Atomics return the old value. Integer ones only where bits must not depend on the order of threads.
// 64-bit integers are two's complement, so the unsigned addition serves both.
template <class T> LIMBECK_DEVICE T atomic_add_at(T* p, T v) {
  if constexpr (sizeof(T) == 8 && std::is_integral_v<T>) return T(atomicAdd(reinterpret_cast<unsigned long long*>(p), (unsigned long long)(v)));
  else return atomicAdd(p, v);
}
template <class T> LIMBECK_DEVICE T atomic_max_at(T* p, T v) {
  static_assert(std::is_integral_v<T>, "atomic_max: integers only");
  if constexpr (sizeof(T) == 8 && std::is_signed_v<T>) return T(atomicMax(reinterpret_cast<long long*>(p), (long long)(v)));
  else if constexpr (sizeof(T) == 8) return T(atomicMax(reinterpret_cast<unsigned long long*>(p), (unsigned long long)(v)));
  else return atomicMax(p, v);
}
template <class T> LIMBECK_DEVICE T atomic_add(T* p, int64_t i, std::type_identity_t<T> v) { return atomic_add_at(p + i, v); }
template <class T> LIMBECK_DEVICE T atomic_max(T* p, int64_t i, std::type_identity_t<T> v) { return atomic_max_at(p + i, v); }
template <class T> LIMBECK_DEVICE T atomic_add(const Shared<T>& s, int i, std::type_identity_t<T> v) { return atomic_add_at(s.data + i, v); }
template <class T> LIMBECK_DEVICE T atomic_max(const Shared<T>& s, int i, std::type_identity_t<T> v) { return atomic_max_at(s.data + i, v); }
LIMBECK_DEVICE unsigned atomic_or(const Shared<unsigned>& s, int i, unsigned v) { return atomicOr(s.data + i, v); }

// Clusters: blocks that can reach each other's shared memory. A block must not end while another one may still reach into it.
LIMBECK_DEVICE int cluster_rank() {
#if __CUDA_ARCH__ >= 900
  unsigned r;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  return int(r);
#else
  return 0;
#endif
}
LIMBECK_DEVICE int cluster_size() {
#if __CUDA_ARCH__ >= 900
  unsigned r;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(r));
  return int(r);
#else
  return 1;
#endif
}
LIMBECK_DEVICE void sync_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
#else
  __syncthreads();
#endif
}
template <class T> LIMBECK_DEVICE Shared<T> map_rank(const Shared<T>& s, int rank) {
#if __CUDA_ARCH__ >= 900
  T* mapped;
  asm("mapa.u64 %0, %1, %2;" : "=l"(mapped) : "l"(s.data), "r"(rank));
  return {mapped, s.size};
#else
  return s;
#endif
}

// Copies 16 bytes from element j of p to element i of s behind the thread's back; both 16-byte aligned.
// The bytes are there for this thread after the wait, for the block after a sync_block that follows it.
template <class T, class U> LIMBECK_DEVICE void copy_async16(const Shared<T>& s, int i, const U* p, int64_t j) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(unsigned(__cvta_generic_to_shared(s.data + i))), "l"(p + j) : "memory");
#else
  *reinterpret_cast<float4*>(s.data + i) = *reinterpret_cast<const float4*>(p + j);
#endif
}
LIMBECK_DEVICE void copy_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until at most `pending` of this thread's committed groups are under way.
template <int pending> LIMBECK_DEVICE void copy_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

}  // namespace limbeck::cuda
#endif
