// What the binding asks of the CUDA side. With CUDA: cuda/runtime.cu. Without: cuda/runtime_absent.cpp, which says why.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/context.h"
#include "core/kernels.h"

namespace limbeck::cuda {

struct DeviceInfo {
  std::string name;
  int major = 0, minor = 0, multiprocessors = 0;
  size_t total_bytes = 0, free_bytes = 0;  // free_bytes: at the probe; 0 where the device was not opened then
  size_t cache_bytes = 0;      // the last level of cache
  bool usable = true;          // false: `code` and `reason` say why (unsupported_architecture, ...)
  std::string code, reason;
};

struct Probe {
  bool built = false;          // was CUDA compiled in
  bool emulated = false;       // the host stand-in
  std::string architectures;   // what was built for, e.g. "90a" or "80;90a;100;120;75-virtual"
  int driver_version = 0;      // 13000 = 13.0; 0 = no driver
  int runtime_version = 0;
  std::string code, reason;    // empty when at least one device can be used; else no_driver, driver_too_old, no_device, ...
  std::vector<DeviceInfo> devices;
};

struct MemoryStats { size_t live_bytes = 0, live_blocks = 0, pooled_bytes = 0, peak_bytes = 0; };

// First call does the work, later ones return the same answer. Never throws.
const Probe& probe();
// Null where CUDA was not built.
const Kernels* kernels();
// Who multiplies matrices on CUDA devices: 'cuBLAS 13.2.0', or 'limbeck' with the reason where LIMBECK_CUBLAS names a library that cannot be
// used. Opens the library. Empty where CUDA was not built.
std::string matrix_product_library();

// All of these report through ctx (ctx.device says where) and return null or false on failure. Thread-safe.
bool begin(Context& ctx);                        // selects the device, fills ctx.stream; refuses with the probe's code
void finish(Context& ctx);                       // after a kernel: launch errors into ctx
void* allocate(Context& ctx, size_t bytes);      // from the caching pool; out_of_memory says what is live and pooled
void release(int device, void* data);            // back to the pool, in stream order
bool upload(Context& ctx, void* device_data, const void* host, size_t bytes);    // host may be reused on return
// A point in the stream's work. forget() when no download that was given it is still to come.
void* moment(Context& ctx);
void forget(int device, void* moment);
// Waits for what was queued before that moment, null: before now; not for what came later.
bool download(Context& ctx, void* host, const void* device_data, size_t bytes, void* since = nullptr);
bool copy(Context& ctx, void* to, const void* from, size_t bytes);
// Lines of `bytes` each, that begin `to_stride` and `from_stride` bytes apart.
bool copy_lines(Context& ctx, void* to, size_t to_stride, const void* from, size_t from_stride, size_t bytes, size_t lines);
bool synchronize(Context& ctx);
inline constexpr int kMarks = 4096;              // slots of a device
bool mark(Context& ctx, int slot);               // an event in the stream, in [0, kMarks)
bool elapsed(Context& ctx, int from, int to, float& milliseconds);  // between two marks; waits for the second
MemoryStats memory(int device);
void trim(int device);                           // gives pooled memory back to the driver

}  // namespace limbeck::cuda
