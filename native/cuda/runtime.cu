// Devices, streams, memory and copies: the interface of cuda/runtime.h over libcudart. The emulated device supplies the same calls.
#include "cuda/runtime.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "cuda/device.h"
#include "cuda/limits.h"
#if defined(__CUDACC__)
#include <cuda_runtime_api.h>
#else
#include "emulated/emulator.h"
#include "emulated/include/cuda_runtime_api.h"
#endif

#ifndef LIMBECK_CUDA_ARCHITECTURES
#define LIMBECK_CUDA_ARCHITECTURES "unknown"
#endif

namespace limbeck::cuda {

LIMBECK_KERNEL void try_device() {}

namespace {

constexpr size_t kSmall = size_t(1) << 20;    // below: classes of 512 bytes
constexpr size_t kStaging = size_t(1) << 19;  // bytes of one pinned piece
constexpr int kPieces = 16;                   // per direction

const char* stable_code(cudaError_t error) {
#if !defined(__CUDACC__)
  if (!emulated::fault().empty()) return "emulator_fault";
#endif
  switch (int(error)) {
    case 2: return "out_of_memory";
    case 35: return "driver_too_old";
    case 46: return "device_unavailable";
    case 100: case 101: return "no_device";
    case 209: case 222: return "unsupported_architecture";
    case 803: case 804: return "driver_mismatch";
    default: return "device_failed";
  }
}

const char* advice(cudaError_t error) {
  switch (int(error)) {
    case 2: return "; another process may hold the memory: nvidia-smi lists it";
    case 46: return "; another process holds the device in exclusive mode: nvidia-smi -q -d COMPUTE shows the mode";
    case 209: return "; this build has no code for the card: build from source on this machine (npm run build:native)";
    case 222: return "; the driver is older than the compiler that built limbeck: update the driver, or build from source on this machine";
    case 700: case 701: case 714: case 715: case 716: case 717: case 718: case 719:
      return "; CUDA cannot be used any more in this process: start a new one, and please report how this came about";
    case 803: return "; the driver was updated without a restart: reboot, or reload the nvidia kernel module";
    case 804: return "; remove the CUDA compatibility package, or update the driver";
    default: return "";
  }
}

// Records a failed call. The sticky copy of the error is taken away, so that the next call does not report it again.
bool failed(Context& ctx, cudaError_t error, const char* action) {
  if (error == cudaSuccess) return false;
  cudaGetLastError();
  ctx.refuse_device(stable_code(error), "%s must succeed: CUDA error %d, %s%s", action, int(error), cudaGetErrorString(error), advice(error));
  return true;
}

// Pinned pieces used in turn: some are filled while others travel. So many that the batches of several training steps fit, and the host
// waits for a step long past at most.
struct Staging {
  std::mutex mutex;
  char* memory = nullptr;
  cudaEvent_t arrived[kPieces] = {};
  int events = 0, turn = 0;

  bool open(Context& ctx) {
    if (memory != nullptr) return true;
    for (; events < kPieces; events++)
      if (failed(ctx, cudaEventCreateWithFlags(&arrived[events], cudaEventDisableTiming), "creating an event")) return false;
    char* made = nullptr;
    if (failed(ctx, cudaHostAlloc(&made, kStaging * kPieces, cudaHostAllocDefault), "allocating page-locked memory")) return false;
    memory = made;
    return true;
  }
  char* piece(int i) const { return memory + size_t(i) * kStaging; }
  int next() { return turn = (turn + 1) % kPieces; }
};

struct Block {
  size_t bytes;  // its class
  size_t asked;
};

struct Device {
  std::mutex opening;
  bool open = false;
  // Kernels and uploads. An upload goes where queued kernels may still read, memory of the pool, so it has its turn among them.
  cudaStream_t stream = nullptr;
  // Downloads: they wait for what was asked for before them, and for nothing after.
  cudaStream_t copies = nullptr;
  std::mutex noting;
  std::vector<cudaEvent_t> moments;  // to be used again
  Limits limits;

  std::mutex pool;
  std::unordered_map<void*, Block> live;
  std::multimap<size_t, void*> free;
  MemoryStats stats;

  Staging up, down;

  std::mutex marking;
  std::vector<cudaEvent_t> marks;  // those used so far, null elsewhere
};

// Made once and never destroyed: at process exit the CUDA runtime may be gone before we are.
struct State {
  Probe probe;
  std::unique_ptr<Device[]> devices;
};

// The rules of the CUDA programming guide: machine code serves its major version from its minor on, intermediate code every
// later card, and "a" code exactly its card. An entry without a suffix may hold both kinds; open() finds out.
bool built_for(const std::string& architectures, int major, int minor) {
  const int card = major * 10 + minor;
  bool parsed = false;
  for (size_t at = 0; at < architectures.size();) {
    size_t end = architectures.find_first_of(",;", at);
    if (end == std::string::npos) end = architectures.size();
    const std::string entry = architectures.substr(at, end - at);
    at = end + 1;
    const int built = std::atoi(entry.c_str());
    if (built <= 0) continue;
    parsed = true;
    const bool exact = entry.find('a') != std::string::npos && entry.find('a') == entry.find_first_not_of("0123456789");
    const bool virtual_only = entry.find("-virtual") != std::string::npos, real_only = entry.find("-real") != std::string::npos;
    if (card == built) return true;
    if (exact) continue;
    if (!virtual_only && built / 10 == major && built <= card) return true;
    if (!real_only && built <= card) return true;
  }
  return !parsed;
}

std::string versions(int driver, int runtime) {
  char text[96];
  snprintf(text, sizeof text, "the driver offers CUDA %d.%d and this build needs %d.%d", driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  return text;
}

bool open(Context& ctx, Device& device);

State& state() {
  static State* made = [] {
    auto* s = new State;
    Probe& p = s->probe;
    p.built = true;
#if defined(__CUDACC__)
    p.architectures = LIMBECK_CUDA_ARCHITECTURES;
#else
    p.emulated = true;
    p.architectures = "emulated";
#endif
    if (cudaDriverGetVersion(&p.driver_version) != cudaSuccess) p.driver_version = 0;
    if (cudaRuntimeGetVersion(&p.runtime_version) != cudaSuccess) p.runtime_version = 0;
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
      cudaGetLastError();
      p.code = stable_code(error);
      const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
      if (error == cudaErrorInsufficientDriver && p.driver_version == 0) {
        p.code = "no_driver";
        p.reason = "no NVIDIA driver was found: install driver 580 or later (in a container: start it with GPU access)";
      } else if (error == cudaErrorInsufficientDriver) {
        p.reason = versions(p.driver_version, p.runtime_version) + ": update the NVIDIA driver (CUDA 13 needs 580 or later)";
      } else if (error == cudaErrorNoDevice) {
        p.reason = visible != nullptr ? std::string("the driver shows no CUDA device: CUDA_VISIBLE_DEVICES is \"") + visible + "\""
                                      : std::string("the driver shows no CUDA device: nvidia-smi lists what it sees");
      } else {
        p.reason = std::string("CUDA could not start: error ") + std::to_string(int(error)) + ", " + cudaGetErrorString(error) + advice(error);
      }
      return s;
    }
    if (count == 0) {
      p.code = "no_device";
      p.reason = "the driver shows no CUDA device: nvidia-smi lists what it sees";
      return s;
    }
    s->devices = std::make_unique<Device[]>(size_t(count));
    p.devices.resize(size_t(count));
    bool any = false;
    for (int i = 0; i < count; i++) {
      DeviceInfo& info = p.devices[size_t(i)];
      cudaDeviceProp properties{};
      const cudaError_t asked = cudaGetDeviceProperties(&properties, i);
      if (asked != cudaSuccess) {
        cudaGetLastError();
        info.usable = false;
        info.code = stable_code(asked);
        info.reason = std::string("its properties could not be read: ") + cudaGetErrorString(asked) + advice(asked);
        continue;
      }
      info.name = properties.name;
      info.major = properties.major;
      info.minor = properties.minor;
      info.multiprocessors = properties.multiProcessorCount;
      info.total_bytes = properties.totalGlobalMem;
      info.cache_bytes = size_t(std::max(properties.l2CacheSize, 0));
      if (!built_for(p.architectures, info.major, info.minor)) {
        info.usable = false;
        info.code = "unsupported_architecture";
        info.reason = "compute capability " + std::to_string(info.major) + "." + std::to_string(info.minor) + " is not among those this build has code for (" +
                      p.architectures + "): build from source on this machine (npm run build:native)";
        continue;
      }
      // A context costs hundreds of MB on its device, so only devices up to the first that works are tried now, the others when used.
      if (any) continue;
      Context ctx;
      ctx.device = i;
      if (open(ctx, s->devices[size_t(i)])) {
        any = true;
        size_t total = 0;
        if (cudaMemGetInfo(&info.free_bytes, &total) != cudaSuccess) cudaGetLastError();
      } else {
        info.usable = false;
        info.code = ctx.code;
        info.reason = ctx.message;
      }
    }
    if (!any) {
      p.code = p.devices[0].code;
      p.reason = p.devices[0].name + ": " + p.devices[0].reason;
    }
    return s;
  }();
  return *made;
}

// The first use of a device: its context, a kernel that does nothing (is there code for this card?), its stream.
bool open(Context& ctx, Device& device) {
  if (failed(ctx, cudaSetDevice(ctx.device), "selecting the device")) return false;
  std::lock_guard<std::mutex> lock(device.opening);
  if (device.open) return true;
  cudaStream_t stream = nullptr;
  if (failed(ctx, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream")) return false;
#if defined(__CUDACC__)
  cudaFuncAttributes attributes{};
  cudaError_t error = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&try_device));
#else
  cudaError_t error = cudaSuccess;
#endif
  bool ok = !failed(ctx, error, "loading a kernel");
  if (ok) {
    ctx.stream = stream;
    launch(ctx, "try_device", try_device, Launch{1, 32});
    ok = ctx.ok() && !failed(ctx, cudaStreamSynchronize(stream), "running a kernel");
  }
  int shared = 0, count = 0, major = 0;
  ok = ok && !failed(ctx, cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ctx.device), "asking for the device's limits") &&
       !failed(ctx, cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, ctx.device), "asking for the device's limits") &&
       !failed(ctx, cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, ctx.device), "asking for the device's limits");
  cudaStream_t copies = nullptr;
  ok = ok && !failed(ctx, cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking), "creating a stream");
  if (!ok) {
    cudaStreamDestroy(stream);
    return false;
  }
  device.stream = stream;
  device.copies = copies;
  device.limits.multiprocessors = std::max(count, 1);
  device.limits.shared_bytes = std::max(shared - 4096, 16 * 1024);
  device.limits.clusters = major >= 9;
  device.open = true;
  return true;
}

Device* device_of(int ordinal) {
  State& s = state();
  return ordinal >= 0 && size_t(ordinal) < s.probe.devices.size() ? &s.devices[size_t(ordinal)] : nullptr;
}

// Eight classes per power of two: at most an eighth of a block is unused.
size_t size_class(size_t bytes) {
  if (bytes <= kSmall) return std::max<size_t>((bytes + 511) / 512 * 512, 512);
  size_t step = kSmall / 8;
  while (step * 16 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

std::string megabytes(size_t bytes) {
  char text[32];
  snprintf(text, sizeof text, "%.1f MiB", double(bytes) / (1 << 20));
  return text;
}

// Under device.pool. The stream is idle afterwards: nothing queued may still use what is given back.
void give_back(Device& device) {
  if (device.free.empty()) return;
  if (cudaStreamSynchronize(device.stream) != cudaSuccess) cudaGetLastError();
  for (const auto& [bytes, data] : device.free)
    if (cudaFree(data) != cudaSuccess) cudaGetLastError();
  device.free.clear();
  device.stats.pooled_bytes = 0;
}

}  // namespace

const Probe& probe() { return state().probe; }

Limits limits(const Context& ctx) {
  Limits limits = device_of(ctx.device)->limits;
#if !defined(__CUDACC__)
  limits.multiprocessors = emulated::options().multiprocessors;  // may be another one for the next launch
#endif
  return limits;
}

bool begin(Context& ctx) {
  const Probe& p = probe();
  if (!p.code.empty()) return ctx.refuse_device(p.code.c_str(), "%s", p.reason.c_str());
  Device* device = device_of(ctx.device);
  if (device == nullptr)
    return ctx.refuse_device("no_device", "the device must exist: it is cuda:%d, and this machine has %zu CUDA device%s", ctx.device, p.devices.size(),
                             p.devices.size() == 1 ? "" : "s");
  const DeviceInfo& info = p.devices[size_t(ctx.device)];
  if (!info.usable) return ctx.refuse_device(info.code.c_str(), "cuda:%d (%s): %s", ctx.device, info.name.c_str(), info.reason.c_str());
  if (!open(ctx, *device)) return false;
  ctx.stream = device->stream;
  return true;
}

void finish(Context& ctx) { failed(ctx, cudaGetLastError(), "the launch"); }

void* allocate(Context& ctx, size_t bytes) {
  Device* device = device_of(ctx.device);
  if (device == nullptr || !device->open) {
    ctx.refuse_device("no_device", "the device must be open: it is cuda:%d", ctx.device);
    return nullptr;
  }
  const size_t wanted = size_class(bytes);
  std::lock_guard<std::mutex> lock(device->pool);
  MemoryStats& stats = device->stats;
  void* data = nullptr;
  size_t held = wanted;
  // One stream per device: whatever still uses a released block comes before whatever is launched from now on.
  const auto found = device->free.lower_bound(wanted);
  if (found != device->free.end() && found->first <= wanted + wanted / 4) {
    held = found->first;
    data = found->second;
    device->free.erase(found);
    stats.pooled_bytes -= held;
  } else {
    cudaError_t error = cudaMalloc(&data, wanted);
    if (error == cudaErrorMemoryAllocation && stats.pooled_bytes > 0) {
      cudaGetLastError();
      give_back(*device);
      error = cudaMalloc(&data, wanted);
    }
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      size_t free = 0, total = 0;
      if (cudaMemGetInfo(&free, &total) != cudaSuccess) cudaGetLastError();
      ctx.refuse_device("out_of_memory",
                        "cuda:%d must have %s free: %s of %s are; limbeck holds %s in %zu tensors and %s in its pool; dispose() tensors, or wrap each step in tidy()",
                        ctx.device, megabytes(wanted).c_str(), megabytes(free).c_str(), megabytes(total).c_str(), megabytes(stats.live_bytes).c_str(),
                        stats.live_blocks, megabytes(stats.pooled_bytes).c_str());
      return nullptr;
    }
    if (failed(ctx, error, "allocating device memory")) return nullptr;
  }
#if !defined(__CUDACC__)
  emulated::lend(data, bytes, device->stream);
#endif
  device->live.emplace(data, Block{held, bytes});
  stats.live_bytes += bytes;
  stats.live_blocks++;
  stats.peak_bytes = std::max(stats.peak_bytes, stats.live_bytes);
  return data;
}

// Touches no CUDA function: it also runs in finalizers and while the process ends.
void release(int ordinal, void* data) {
  Device* device = data == nullptr ? nullptr : device_of(ordinal);
  if (device == nullptr) return;
  std::lock_guard<std::mutex> lock(device->pool);
  const auto found = device->live.find(data);
  if (found == device->live.end()) return;
  const Block block = found->second;
#if !defined(__CUDACC__)
  emulated::take_back(data, device->stream);
#endif
  device->live.erase(found);
  device->free.emplace(block.bytes, data);
  device->stats.live_bytes -= block.asked;
  device->stats.live_blocks--;
  device->stats.pooled_bytes += block.bytes;
}

bool upload(Context& ctx, void* device_data, const void* host, size_t bytes) {
  Device* device = device_of(ctx.device);
  if (device == nullptr) return ctx.refuse_device("no_device", "the device must exist: it is cuda:%d", ctx.device);
  std::lock_guard<std::mutex> lock(device->up.mutex);
  if (!device->up.open(ctx)) return false;
  for (size_t at = 0; at < bytes; at += kStaging) {
    const size_t part = std::min(kStaging, bytes - at);
    const int turn = device->up.next();
    // Also guards against the copies of earlier calls: an event never recorded counts as reached.
    if (failed(ctx, cudaEventSynchronize(device->up.arrived[turn]), "an earlier copy")) return false;
    std::memcpy(device->up.piece(turn), static_cast<const char*>(host) + at, part);
    if (failed(ctx, cudaMemcpyAsync(static_cast<char*>(device_data) + at, device->up.piece(turn), part, cudaMemcpyHostToDevice, device->stream), "copying to the device") ||
        failed(ctx, cudaEventRecord(device->up.arrived[turn], device->stream), "recording an event"))
      return false;
  }
  return true;
}

void* moment(Context& ctx) {
  Device* device = device_of(ctx.device);
  if (device == nullptr) {
    ctx.refuse_device("no_device", "the device must exist: it is cuda:%d", ctx.device);
    return nullptr;
  }
  cudaEvent_t event = nullptr;
  {
    std::lock_guard<std::mutex> lock(device->noting);
    if (!device->moments.empty()) {
      event = device->moments.back();
      device->moments.pop_back();
    }
  }
  if (event == nullptr && failed(ctx, cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event")) return nullptr;
  if (!failed(ctx, cudaEventRecord(event, device->stream), "recording an event")) return event;
  forget(ctx.device, event);
  return nullptr;
}

void forget(int ordinal, void* moment) {
  Device* device = moment == nullptr ? nullptr : device_of(ordinal);
  if (device == nullptr) return;
  std::lock_guard<std::mutex> lock(device->noting);
  device->moments.push_back(static_cast<cudaEvent_t>(moment));
}

bool download(Context& ctx, void* host, const void* device_data, size_t bytes, void* since) {
  Device* device = device_of(ctx.device);
  if (device == nullptr) return ctx.refuse_device("no_device", "the device must exist: it is cuda:%d", ctx.device);
  if (since == nullptr) {
    since = moment(ctx);
    const bool ok = since != nullptr && download(ctx, host, device_data, bytes, since);
    forget(ctx.device, since);
    return ok;
  }
  std::lock_guard<std::mutex> lock(device->down.mutex);
  if (!device->down.open(ctx)) return false;
  if (failed(ctx, cudaStreamWaitEvent(device->copies, static_cast<cudaEvent_t>(since), 0), "waiting for an event")) return false;
  // Up to all pieces but one are under way while that one is emptied.
  const size_t parts = (bytes + kStaging - 1) / kStaging, ahead = kPieces - 1;
  const auto size_of = [&](size_t part) { return std::min(kStaging, bytes - part * kStaging); };
  for (size_t part = 0; part < parts + ahead; part++) {
    if (part < parts) {
      const int turn = int(part % kPieces);
      if (failed(ctx, cudaMemcpyAsync(device->down.piece(turn), static_cast<const char*>(device_data) + part * kStaging, size_of(part), cudaMemcpyDeviceToHost, device->copies), "copying from the device") ||
          failed(ctx, cudaEventRecord(device->down.arrived[turn], device->copies), "recording an event"))
        return false;
    }
    if (part >= ahead) {
      const size_t done = part - ahead;
      const int turn = int(done % kPieces);
      if (failed(ctx, cudaEventSynchronize(device->down.arrived[turn]), "the device's work")) return false;
      std::memcpy(static_cast<char*>(host) + done * kStaging, device->down.piece(turn), size_of(done));
    }
  }
  return true;
}

bool copy(Context& ctx, void* to, const void* from, size_t bytes) {
  return !failed(ctx, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(ctx.stream)), "copying on the device");
}

bool copy_lines(Context& ctx, void* to, size_t to_stride, const void* from, size_t from_stride, size_t bytes, size_t lines) {
  return !failed(ctx, cudaMemcpy2DAsync(to, to_stride, from, from_stride, bytes, lines, cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(ctx.stream)), "copying on the device");
}

bool synchronize(Context& ctx) { return !failed(ctx, cudaStreamSynchronize(static_cast<cudaStream_t>(ctx.stream)), "the device's work"); }

bool mark(Context& ctx, int slot) {
  Device* device = device_of(ctx.device);
  if (device == nullptr) return ctx.refuse_device("no_device", "the device must exist: it is cuda:%d", ctx.device);
  if (slot < 0 || slot >= kMarks) return ctx.refuse(Fail::value, "a mark must be in [0, %d): it is %d", kMarks, slot);
  std::lock_guard<std::mutex> lock(device->marking);
  if (size_t(slot) >= device->marks.size()) device->marks.resize(size_t(slot) + 1, nullptr);
  cudaEvent_t& event = device->marks[size_t(slot)];
  if (event == nullptr && failed(ctx, cudaEventCreateWithFlags(&event, cudaEventDefault), "creating an event")) {
    event = nullptr;
    return false;
  }
  return !failed(ctx, cudaEventRecord(event, device->stream), "recording an event");
}

bool elapsed(Context& ctx, int from, int to, float& milliseconds) {
  Device* device = device_of(ctx.device);
  if (device == nullptr) return ctx.refuse_device("no_device", "the device must exist: it is cuda:%d", ctx.device);
  std::lock_guard<std::mutex> lock(device->marking);
  const auto there = [&](int slot) { return slot >= 0 && size_t(slot) < device->marks.size() && device->marks[size_t(slot)] != nullptr; };
  if (!there(from) || !there(to)) return ctx.refuse(Fail::value, "both marks must have been set: they are %d and %d", from, to);
  return !failed(ctx, cudaEventSynchronize(device->marks[size_t(to)]), "the device's work") &&
         !failed(ctx, cudaEventElapsedTime(&milliseconds, device->marks[size_t(from)], device->marks[size_t(to)]), "reading the time between two events");
}

MemoryStats memory(int ordinal) {
  Device* device = device_of(ordinal);
  if (device == nullptr) return {};
  std::lock_guard<std::mutex> lock(device->pool);
  return device->stats;
}

void trim(int ordinal) {
  Device* device = device_of(ordinal);
  if (device == nullptr || !device->open) return;
  if (cudaSetDevice(ordinal) != cudaSuccess) cudaGetLastError();
  std::lock_guard<std::mutex> lock(device->pool);
  give_back(*device);
}

}  // namespace limbeck::cuda
