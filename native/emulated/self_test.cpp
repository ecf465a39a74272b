// The emulator's own tests, as kernels: correct ones that must pass under every order of threads, faulty ones that must be caught.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>

#include "cuda/device.h"
#include "emulated/include/cuda_runtime_api.h"
#include "emulated/state.h"

namespace limbeck::cuda {
namespace {

constexpr int kThreads = 128;

// ---- correct kernels ----

LIMBECK_KERNEL void block_sum(const float* x, float* y, int n) {
  SHARED(float, partial, kThreads / 32);
  float sum = 0;
  for (int i = block_index() * block_size() + thread_index(); i < n; i += grid_size() * block_size()) sum += ld(x, i);
  for (int m = 16; m > 0; m /= 2) sum += shuffle_xor(sum, m);
  if (lane() == 0) partial[warp()] = sum;
  sync_block();
  if (thread_index() == 0) {
    float total = 0;
    for (int w = 0; w < kThreads / 32; ++w) total += partial[w];
    st(y, block_index(), total);
  }
}

LIMBECK_KERNEL void warp_scan(const int* x, int* y) {
  int v = ld(x, thread_index());
  for (int d = 1; d < 32; d *= 2) {
    const int below = shuffle_up(v, d);
    if (lane() >= d) v += below;
  }
  const unsigned odd = ballot(v % 2 != 0);
  const bool any = any_warp(v > 1000000), all = all_warp(v >= 0);
  const int block_odd = count_block(v % 2 != 0);
  st(y, thread_index(), v);
  st(y, kThreads + thread_index(), int((odd >> lane()) & 1u) + (any ? 100 : 0) + (all ? 0 : 1000));
  if (thread_index() == 0) st(y, 2 * kThreads, block_odd);
}

LIMBECK_KERNEL void transpose(const float* x, float* y, int side) {
  SHARED_DYN(float, tile);
  for (int i = thread_index(); i < side * side; i += block_size()) tile[i / side * (side + 1) + i % side] = ld_readonly(x, i);
  sync_block();
  for (int i = thread_index(); i < side * side; i += block_size()) st(y, i, tile[i % side * (side + 1) + i / side]);
}

LIMBECK_KERNEL void histogram(const uint8_t* x, int* counts, int* most, int n) {
  SHARED(int, mine, 16);
  if (thread_index() < 16) mine[thread_index()] = 0;
  sync_block();
  for (int i = block_index() * block_size() + thread_index(); i < n; i += grid_size() * block_size()) atomic_add(mine, ld(x, i) & 15, 1);
  sync_block();
  if (thread_index() < 16) {
    const int count = mine[thread_index()];
    atomic_add(counts, thread_index(), count);
    atomic_max(most, 0, count);
  }
}

LIMBECK_KERNEL void cluster_sum(const float* x, float* y, int n) {
  SHARED(float, sum, 1);
  SHARED(float, partial, kThreads / 32);
  float v = 0;
  for (int i = cluster_rank() * block_size() + thread_index(); i < n; i += cluster_size() * block_size()) v += ld(x, i);
  for (int d = 16; d > 0; d /= 2) v += shuffle_down(v, d);
  if (lane() == 0) partial[warp()] = v;
  sync_block();
  if (thread_index() == 0) {
    float total = 0;
    for (int w = 0; w < kThreads / 32; ++w) total += partial[w];
    sum[0] = total;
  }
  sync_cluster();
  if (thread_index() == 0) {
    float total = 0;
    for (int r = 0; r < cluster_size(); ++r) total += map_rank(sum, r)[0];
    st(y, block_index(), total);
  }
  sync_cluster();
}

// Two buffers: one is read while the next one arrives.
LIMBECK_KERNEL void pipeline(const float* x, float* y, int steps) {
  SHARED(float, buffer, 2 * 4 * kThreads);
  const int t = thread_index(), step_size = 4 * kThreads;
  copy_async16(buffer, 4 * t, x, 4 * t);
  copy_async_commit();
  float sum = 0;
  for (int s = 0; s < steps; ++s) {
    if (s + 1 < steps) copy_async16(buffer, (s + 1) % 2 * step_size + 4 * t, x, int64_t(s + 1) * step_size + 4 * t);
    copy_async_commit();
    copy_async_wait<1>();
    sync_block();
    const Float4 v = ld4_shared(buffer, s % 2 * step_size + 4 * ((t + 1) % kThreads));
    sum += v.x + v.y + v.z + v.w;
    sync_block();
  }
  st(y, t, sum);
}

template <class T> LIMBECK_KERNEL void widen(const T* x, float* y, T* back) {
  const Float4 v = ld4(x, 4 * thread_index());
  st4(y, 4 * thread_index(), v);
  st4_streaming(back, 4 * thread_index(), v);
}

LIMBECK_KERNEL void double_in_place(float* x, int n) {
  for (int i = block_index() * block_size() + thread_index(); i < n; i += grid_size() * block_size()) st(x, i, 2 * ld(x, i));
}

// ---- faulty kernels ----

LIMBECK_KERNEL void two_barriers(float* y) {
  if (thread_index() < 64)
    sync_block();
  else
    sync_block();
  st(y, thread_index(), 1.f);
}

LIMBECK_KERNEL void early_return(float* y, int n) {
  if (thread_index() >= n) return;
  sync_block();
  st(y, thread_index(), 1.f);
}

LIMBECK_KERNEL void barrier_in_a_branch(float* y) {
  if (thread_index() % 32 < 31) sync_warp();
  st(y, thread_index(), 1.f);
}

LIMBECK_KERNEL void shuffle_in_a_branch(float* y) {
  float v = 1;
  if (lane() < 16) v = shuffle_xor(v, 1);
  st(y, thread_index(), v);
}

LIMBECK_KERNEL void shared_overrun(float* y) {
  SHARED(float, a, kThreads);
  a[thread_index() + 1] = 1;
  st(y, thread_index(), 0.f);
}

LIMBECK_KERNEL void global_overrun(float* y) { st(y, thread_index() + 1, 1.f); }
LIMBECK_KERNEL void global_underrun(const float* x, float* y) { st(y, thread_index(), ld(x, int64_t(thread_index()) - 1)); }
LIMBECK_KERNEL void misaligned(const float* x, float* y) { st(y, thread_index(), ld4(x, 1 + thread_index() % 4).x); }
LIMBECK_KERNEL void misaligned_shared(float* y) {
  SHARED(float, a, 64);
  if (thread_index() < 64) a[thread_index()] = 1;
  sync_block();
  st(y, thread_index(), ld4_shared(a, 2).x);
}

LIMBECK_KERNEL void no_block_barrier(float* y) {
  SHARED(float, a, kThreads);
  a[thread_index()] = float(thread_index());
  st(y, thread_index(), a[(thread_index() + 32) % kThreads]);
}

LIMBECK_KERNEL void no_warp_barrier(float* y) {
  SHARED(float, a, kThreads);
  a[thread_index()] = float(thread_index());
  st(y, thread_index(), a[thread_index() ^ 1]);
}

// The second round writes what slow threads still read from the first.
LIMBECK_KERNEL void no_barrier_after_reading(float* y) {
  SHARED(float, a, 1);
  float sum = 0;
  for (int round = 0; round < 2; ++round) {
    if (thread_index() == 0) a[0] = float(round);
    sync_block();
    sum += a[0];
  }
  st(y, thread_index(), sum);
}

LIMBECK_KERNEL void lost_update(int* y) { st(y, 0, ld(y, 0) + 1); }
LIMBECK_KERNEL void blocks_collide(float* y) { st(y, thread_index(), float(block_index())); }

LIMBECK_KERNEL void no_cluster_barrier_before(float* y) {
  SHARED(float, a, 1);
  if (thread_index() == 0) a[0] = 1;
  sync_block();
  const float v = map_rank(a, (cluster_rank() + 1) % cluster_size())[0];
  sync_cluster();
  st(y, block_index() * kThreads + thread_index(), v);
}

LIMBECK_KERNEL void no_cluster_barrier_between(float* y) {
  SHARED(float, a, 1);
  sync_cluster();
  if (thread_index() == 0) a[0] = 1;
  sync_block();
  const float v = map_rank(a, (cluster_rank() + 1) % cluster_size())[0];
  sync_cluster();
  st(y, block_index() * kThreads + thread_index(), v);
}

LIMBECK_KERNEL void no_cluster_barrier_at_the_end(float* y) {
  SHARED(float, a, 1);
  if (thread_index() == 0) a[0] = 1;
  sync_cluster();
  st(y, block_index() * kThreads + thread_index(), map_rank(a, (cluster_rank() + 1) % cluster_size())[0]);
}

LIMBECK_KERNEL void no_async_wait(const float* x, float* y) {
  SHARED(float, a, 4 * kThreads);
  copy_async16(a, 4 * thread_index(), x, 4 * thread_index());
  copy_async_commit();
  sync_block();
  st(y, thread_index(), a[4 * thread_index()]);
}

LIMBECK_KERNEL void no_async_commit(const float* x, float* y) {
  SHARED(float, a, 4 * kThreads);
  copy_async16(a, 4 * thread_index(), x, 4 * thread_index());
  copy_async_wait<0>();
  sync_block();
  st(y, thread_index(), a[4 * thread_index()]);
}

LIMBECK_KERNEL void no_barrier_after_wait(const float* x, float* y) {
  SHARED(float, a, 4 * kThreads);
  copy_async16(a, 4 * thread_index(), x, 4 * thread_index());
  copy_async_commit();
  copy_async_wait<0>();
  st(y, thread_index(), a[4 * ((thread_index() + 1) % kThreads)]);
}

LIMBECK_KERNEL void copy_in(const float* x, float* y) { st(y, thread_index(), ld(x, thread_index())); }
LIMBECK_KERNEL void copy_shared_unwritten(float* y) {
  SHARED(float, a, kThreads);
  st(y, thread_index(), a[thread_index()]);
}
LIMBECK_KERNEL void readonly_in_place(float* x) { st(x, thread_index(), ld_readonly(x, thread_index()) + 1); }
LIMBECK_KERNEL void raw_pointer(const float* x, float* y) { st(y, thread_index(), x[thread_index()]); }
__attribute__((no_sanitize("undefined"))) LIMBECK_KERNEL void divide(int* y, int by) { st(y, thread_index(), 7 / (thread_index() - by)); }

__attribute__((noinline)) int deep(volatile char* above, int depth) {
  volatile char here[1024];
  here[0] = char(above[0] + 1);
  return depth == 0 ? here[0] : deep(here, depth - 1) + here[0];
}
LIMBECK_KERNEL void deep_stack(int* y, int depth) {
  volatile char top[1] = {0};
  st(y, thread_index(), deep(top, depth));
}

// ---- the cases ----

template <class T> struct Buffer {
  T* data = nullptr;
  int size;
  explicit Buffer(int n) : size(n) { cudaMalloc(&data, size_t(n) * sizeof(T)); }
  explicit Buffer(const std::vector<T>& from) : Buffer(int(from.size())) { cudaMemcpy(data, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { cudaFree(data); }
  operator T*() const { return data; }
  std::vector<T> read() const {
    std::vector<T> out(static_cast<size_t>(size));
    cudaMemcpy(out.data(), data, out.size() * sizeof(T), cudaMemcpyDeviceToHost);
    return out;
  }
};

std::vector<float> numbers(int n) {
  std::vector<float> out(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) out[size_t(i)] = float((i * 37) % 101) - 50;
  return out;
}

std::string differs(const char* what, int i, double got, double expected) {
  if (got == expected) return "";
  char text[120];
  snprintf(text, sizeof text, "%s[%d] is %g, not %g", what, i, got, expected);
  return text;
}

using Run = std::function<std::string(Context&)>;
struct Case {
  const char* name;
  const char* expected;  // "ok", or a part of the fault's message
  Run run;               // "" or what is wrong with the results
};

std::string check_block_sum(Context& ctx) {
  const auto x = numbers(1000);
  Buffer<float> in(x), out(3);
  launch(ctx, "self_test.block_sum", block_sum, {3, kThreads}, in, out, 1000);
  float total = 0, expected = 0;
  for (float v : out.read()) total += v;
  for (float v : x) expected += v;
  return differs("sum", 0, total, expected);
}

std::string check_warp_scan(Context& ctx) {
  std::vector<int> x(kThreads);
  for (int i = 0; i < kThreads; ++i) x[size_t(i)] = i % 7;
  Buffer<int> in(x), out(2 * kThreads + 1);
  launch(ctx, "self_test.warp_scan", warp_scan, {1, kThreads}, in, out);
  const auto y = out.read();
  int odd = 0;
  for (int i = 0, sum = 0; i < kThreads; ++i) {
    sum = i % 32 == 0 ? x[size_t(i)] : sum + x[size_t(i)];
    odd += sum % 2;
    if (y[size_t(i)] != sum) return differs("scan", i, y[size_t(i)], sum);
    if (y[size_t(kThreads + i)] != sum % 2) return differs("vote", i, y[size_t(kThreads + i)], sum % 2);
  }
  return differs("count", 0, y.back(), odd);
}

std::string check_transpose(Context& ctx) {
  const int side = 37;
  const auto x = numbers(side * side);
  Buffer<float> in(x), out(side * side);
  launch(ctx, "self_test.transpose", transpose, {1, kThreads, 1, size_t(side) * (side + 1) * sizeof(float)}, in, out, side);
  const auto y = out.read();
  for (int i = 0; i < side * side; ++i)
    if (y[size_t(i)] != x[size_t(i % side * side + i / side)]) return differs("transposed", i, y[size_t(i)], x[size_t(i % side * side + i / side)]);
  return "";
}

std::string check_histogram(Context& ctx) {
  std::vector<uint8_t> x(2000);
  std::vector<int> expected(16, 0);
  for (int i = 0; i < 2000; ++i) x[size_t(i)] = uint8_t(i * i % 251), ++expected[x[size_t(i)] & 15];
  Buffer<uint8_t> in(x);
  Buffer<int> out(std::vector<int>(16, 0)), most(std::vector<int>(1, 0));
  launch(ctx, "self_test.histogram", histogram, {4, kThreads}, in, out, most, 2000);
  const auto y = out.read();
  for (int i = 0; i < 16; ++i)
    if (y[size_t(i)] != expected[size_t(i)]) return differs("count", i, y[size_t(i)], expected[size_t(i)]);
  return most.read()[0] > 0 ? "" : "the maximum was not kept";
}

std::string check_cluster_sum(Context& ctx) {
  const auto x = numbers(3000);
  Buffer<float> in(x), out(8);
  launch(ctx, "self_test.cluster_sum", cluster_sum, {8, kThreads, 4}, in, out, 3000);
  float expected = 0;
  for (float v : x) expected += v;
  const auto y = out.read();
  for (int i = 0; i < 8; ++i)
    if (y[size_t(i)] != expected) return differs("sum", i, y[size_t(i)], expected);
  return "";
}

std::string check_pipeline(Context& ctx) {
  const int steps = 5;
  const auto x = numbers(steps * 4 * kThreads);
  Buffer<float> in(x), out(kThreads);
  launch(ctx, "self_test.pipeline", pipeline, {1, kThreads}, in, out, steps);
  const auto y = out.read();
  for (int t = 0; t < kThreads; ++t) {
    float sum = 0;
    for (int s = 0; s < steps; ++s)
      for (int i = 0; i < 4; ++i) sum += x[size_t(s * 4 * kThreads + 4 * ((t + 1) % kThreads) + i)];
    if (y[size_t(t)] != sum) return differs("sum", t, y[size_t(t)], sum);
  }
  return "";
}

// Every bit pattern of a half type but NaN's payloads comes back as it was.
template <class T> std::string check_half(Context& ctx, const char* name) {
  std::vector<T> x(4 * 1024);
  for (int part = 0; part < 16; ++part) {
    for (int i = 0; i < 4096; ++i) x[size_t(i)].bits = uint16_t(part * 4096 + i);
    Buffer<T> in(x), back(4096);
    Buffer<float> wide(4096);
    launch(ctx, name, widen<T>, {1, 1024}, in, wide, back);
    const auto y = back.read();
    const auto w = wide.read();
    for (int i = 0; i < 4096; ++i) {
      const bool is_nan = !(w[size_t(i)] == w[size_t(i)]);
      if (!is_nan && y[size_t(i)].bits != x[size_t(i)].bits) return differs("bits", part * 4096 + i, y[size_t(i)].bits, x[size_t(i)].bits);
      if (is_nan && to_float(y[size_t(i)]) == to_float(y[size_t(i)])) return "a NaN was lost";
    }
  }
  return "";
}

std::string check_two_launches(Context& ctx) {
  auto x = numbers(500);
  Buffer<float> in(x);
  launch(ctx, "self_test.double_in_place", double_in_place, {3, kThreads}, in, 500);
  launch(ctx, "self_test.double_in_place", double_in_place, {2, 64}, in, 500);
  const auto y = in.read();
  for (int i = 0; i < 500; ++i)
    if (y[size_t(i)] != 4 * x[size_t(i)]) return differs("product", i, y[size_t(i)], 4 * x[size_t(i)]);
  return "";
}

template <class Kernel, class... Arguments> Run faulty(const char* name, Kernel kernel, Launch shape, Arguments... arguments) {
  return [=](Context& ctx) -> std::string {
    Buffer<float> x(numbers(4 * kThreads)), y(kThreads * int(shape.grid));
    if constexpr (std::is_invocable_v<Kernel, float*, Arguments...>) launch(ctx, name, kernel, shape, y, arguments...);
    else if constexpr (std::is_invocable_v<Kernel, float*, float*, Arguments...>) launch(ctx, name, kernel, shape, x, y, arguments...);
    else launch(ctx, name, kernel, shape, reinterpret_cast<int*>(y.data), arguments...);
    return "nothing was reported";
  };
}

std::string check_after_free(Context& ctx) {
  Buffer<float> x(numbers(kThreads)), y(kThreads);
  const float* gone = x;
  cudaFree(x.data);
  x.data = nullptr;
  Buffer<float> other(kThreads);
  launch(ctx, "self_test.copy_in", copy_in, {1, kThreads}, gone, y);
  return "nothing was reported";
}

std::string check_lent(Context& ctx) {
  Buffer<float> pool(1024), y(kThreads);
  emulated::lend(pool.data, kThreads * sizeof(float), nullptr);
  launch(ctx, "self_test.copy_in", copy_in, {1, kThreads}, pool, y);
  if (!ctx.ok()) return "lent memory was refused";
  emulated::lend(pool.data, kThreads * sizeof(float) - 4, nullptr);
  launch(ctx, "self_test.copy_in", copy_in, {1, kThreads}, pool, y);
  return "nothing was reported";
}

std::string check_taken_back(Context& ctx) {
  Buffer<float> pool(1024), y(kThreads);
  emulated::lend(pool.data, kThreads * sizeof(float), nullptr);
  emulated::take_back(pool.data, nullptr);
  launch(ctx, "self_test.copy_in", copy_in, {1, kThreads}, pool, y);
  return "nothing was reported";
}

// Memory that was never written must show as NaN.
std::string check_unwritten(Context& ctx) {
  Buffer<float> x(kThreads), y(kThreads);
  launch(ctx, "self_test.copy_in", copy_in, {1, kThreads}, x, y);
  for (float v : y.read())
    if (v == v) return "unwritten device memory is not NaN";
  return "";
}

std::string check_shared_unwritten(Context& ctx) {
  Buffer<float> z(kThreads);
  for (int i = 0; i < 2; ++i) {
    launch(ctx, "self_test.copy_shared_unwritten", copy_shared_unwritten, {1, kThreads}, z);
    for (float v : z.read())
      if (v == v) return "unwritten shared memory is not NaN";
  }
  return "";
}

std::string check_failed_allocation(Context&) {
  auto options = emulated::options();
  options.fail_allocation = 2;
  emulated::configure(options);
  float *a = nullptr, *b = nullptr, *c = nullptr;
  const cudaError_t first = cudaMalloc(&a, 16), second = cudaMalloc(&b, 16);
  cudaGetLastError();
  const cudaError_t third = cudaMalloc(&c, 16);
  cudaFree(a), cudaFree(c);
  return first == cudaSuccess && second == cudaErrorMemoryAllocation && third == cudaSuccess ? "" : "the second allocation alone must fail";
}

std::string check_failed_launch(Context& ctx) {
  auto options = emulated::options();
  options.fail_launch = 1;
  emulated::configure(options);
  Buffer<float> x(numbers(16));
  launch(ctx, "self_test.double_in_place", double_in_place, {1, 32}, x, 16);
  const bool refused = ctx.fail == Fail::device && strcmp(ctx.code, "launch_failed") == 0;
  ctx = Context{};
  launch(ctx, "self_test.double_in_place", double_in_place, {1, 32}, x, 16);
  return refused && ctx.ok() ? "" : "the first launch alone must fail";
}

std::string check_traffic(Context& ctx) {
  Buffer<float> x(numbers(1024)), y(8);
  emulated::reset_audit();
  launch(ctx, "self_test.block_sum", block_sum, {1, kThreads}, x, y, 1024);
  Buffer<Float16> h(4096), back(4096);
  Buffer<float> wide(4096);
  launch(ctx, "self_test.widen", widen<Float16>, {1, 1024}, h, wide, back);
  std::string wrong;
  for (const emulated::Audit& a : emulated::audit()) {
    const bool sum = a.kernel == "self_test.block_sum";
    const uint64_t loaded = sum ? 4096 : 8192, stored = sum ? 4 : 16384 + 8192;
    if (a.launches != 1 || a.bytes_loaded != loaded || a.bytes_stored != stored || a.sectors_loaded != loaded / 32 || a.sectors_stored != (stored + 31) / 32)
      wrong = a.kernel + ": the traffic is miscounted";
  }
  return wrong;
}

// A fault stays until configure(), as a device's does.
std::string check_sticky(Context& ctx) {
  Buffer<float> x(numbers(16));
  launch(ctx, "self_test.global_overrun", global_overrun, {1, 32}, x);
  const bool caught = !ctx.ok();
  ctx = Context{};
  launch(ctx, "self_test.double_in_place", double_in_place, {1, 32}, x, 16);
  const bool refused = !ctx.ok() && cudaDeviceSynchronize() != cudaSuccess;
  emulated::configure(emulated::options());
  ctx = Context{};
  launch(ctx, "self_test.double_in_place", double_in_place, {1, 32}, x, 16);
  return caught && refused && ctx.ok() ? "" : "a fault must stay until configure()";
}

const std::vector<Case>& cases() {
  static const Launch one{1, kThreads}, cluster{2, kThreads, 2};
  static const std::vector<Case> all = {
      {"block_sum", "ok", check_block_sum},
      {"warp_scan", "ok", check_warp_scan},
      {"transpose", "ok", check_transpose},
      {"histogram", "ok", check_histogram},
      {"cluster_sum", "ok", check_cluster_sum},
      {"pipeline", "ok", check_pipeline},
      {"float16", "ok", [](Context& ctx) { return check_half<Float16>(ctx, "self_test.widen"); }},
      {"bfloat16", "ok", [](Context& ctx) { return check_half<BFloat16>(ctx, "self_test.widen"); }},
      {"two_launches", "ok", check_two_launches},
      {"unwritten_global", "ok", check_unwritten},
      {"unwritten_shared", "ok", check_shared_unwritten},
      {"failed_allocation", "ok", check_failed_allocation},
      {"failed_launch", "ok", check_failed_launch},
      {"traffic", "ok", check_traffic},
      {"sticky_fault", "ok", check_sticky},
      {"two_barriers", "divergent barrier", faulty("self_test.two_barriers", two_barriers, one)},
      {"early_return", "not all threads reach sync_block", faulty("self_test.early_return", early_return, one, 100)},
      {"barrier_in_a_branch", "not all threads reach sync_warp", faulty("self_test.barrier_in_a_branch", barrier_in_a_branch, one)},
      {"shuffle_in_a_branch", "not all threads reach a shuffle", faulty("self_test.shuffle_in_a_branch", shuffle_in_a_branch, one)},
      {"shared_overrun", "shared memory out of bounds", faulty("self_test.shared_overrun", shared_overrun, one)},
      {"global_overrun", "out of bounds", faulty("self_test.global_overrun", global_overrun, one)},
      {"global_underrun", "out of bounds: at byte -4", faulty("self_test.global_underrun", global_underrun, one)},
      {"misaligned", "not a multiple of 16", faulty("self_test.misaligned", misaligned, one)},
      {"misaligned_shared", "aligned to 16 bytes", faulty("self_test.misaligned_shared", misaligned_shared, one)},
      {"no_block_barrier", "race", faulty("self_test.no_block_barrier", no_block_barrier, one)},
      {"no_warp_barrier", "race", faulty("self_test.no_warp_barrier", no_warp_barrier, one)},
      {"no_barrier_after_reading", "race", faulty("self_test.no_barrier_after_reading", no_barrier_after_reading, one)},
      {"lost_update", "race", faulty("self_test.lost_update", lost_update, one)},
      {"blocks_collide", "race", faulty("self_test.blocks_collide", blocks_collide, {2, kThreads})},
      {"no_cluster_barrier_before", "may not have started", faulty("self_test.no_cluster_barrier_before", no_cluster_barrier_before, cluster)},
      {"no_cluster_barrier_between", "race", faulty("self_test.no_cluster_barrier_between", no_cluster_barrier_between, cluster)},
      {"no_cluster_barrier_at_the_end", "end", faulty("self_test.no_cluster_barrier_at_the_end", no_cluster_barrier_at_the_end, cluster)},
      {"no_async_wait", "asynchronous copy", faulty("self_test.no_async_wait", no_async_wait, one)},
      {"no_async_commit", "asynchronous copy", faulty("self_test.no_async_commit", no_async_commit, one)},
      {"no_barrier_after_wait", "race", faulty("self_test.no_barrier_after_wait", no_barrier_after_wait, one)},
      {"after_free", "freed memory", check_after_free},
      {"beyond_what_was_lent", "out of bounds", check_lent},
      {"taken_back", "freed memory", check_taken_back},
      {"readonly_in_place", "ld_readonly", faulty("self_test.readonly_in_place", readonly_in_place, one)},
#if defined(LIMBECK_SWITCH_X86_64) && defined(__linux__)
      {"raw_pointer", "without ld, st", faulty("self_test.raw_pointer", raw_pointer, one)},
      {"divide_by_zero", "by zero", faulty("self_test.divide", divide, one, 3)},
      {"deep_stack", "overflows its stack", faulty("self_test.deep_stack", deep_stack, one, 1000000)},
#endif
  };
  return all;
}

}  // namespace
}  // namespace limbeck::cuda

namespace limbeck::emulated {

// Each case under twenty orders of threads, with the device as it was before and after.
std::vector<SelfTest> self_test(const std::string& name) {
  std::lock_guard guard(state.lock);
  const Options before = state.options;
  const auto audit_before = state.audit;
  const auto sites_before = state.sync_sites;
  std::vector<SelfTest> out;
  for (const cuda::Case& c : cuda::cases()) {
    if (!name.empty() && name != c.name) continue;
    SelfTest result{c.name, c.expected, c.expected, true};
    for (uint64_t seed = 0; seed < 20 && result.ok; ++seed) {
      Options options;
      options.seed = seed;
      configure(options);
      const size_t allocated = allocated_bytes();
      Context ctx;
      ctx.device = 0;
      const std::string wrong = c.run(ctx);
      std::string got = !ctx.ok() ? ctx.message : wrong.empty() ? "ok" : wrong;
      result.ok = got.find(c.expected) != std::string::npos;
      if (allocated_bytes() != allocated) result.ok = false, got += "; device memory was lost";
      if (!result.ok) result.got = "seed " + std::to_string(seed) + ": " + got;
      else if (seed == 2) result.got = got;
    }
    out.push_back(result);
  }
  configure(before);
  state.audit = audit_before;
  state.sync_sites = sites_before;
  return out;
}

}  // namespace limbeck::emulated
