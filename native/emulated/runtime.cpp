// The CUDA runtime of the emulated device: libcudart's functions by their own names. Work is done when it is asked for,
// or, with lazy streams, when something waits for it.
#include "emulated/include/cuda_runtime_api.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>

#include "emulated/state.h"

using limbeck::emulated::state;

// How much of each stream's work, by its number, is done before whatever has this clock.
using Clock = std::map<uint64_t, uint64_t>;

struct LimbeckEmulatedStream {
  std::deque<std::function<void()>> work;
  bool busy = false;  // doing some of it
  uint64_t number = 0, asked = 0;
  Clock known;
};
// Reached when as many records have been done as were asked for.
struct LimbeckEmulatedEvent {
  Clock known;  // what the last record comes after
  uint64_t recorded = 0, reached = 0;
  cudaStream_t stream = nullptr;
  std::chrono::steady_clock::time_point when{};  // the host did the last record
};

namespace {

namespace emulated = limbeck::emulated;
thread_local cudaError_t last_error = cudaSuccess;

std::vector<cudaStream_t> streams{new LimbeckEmulatedStream};
uint64_t streams_made = 0;
std::map<const void*, size_t> pinned;

// Who read and wrote an allocation last, for each stream.
struct Use {
  uint64_t read = 0, written = 0;
  std::string what;
};
std::map<uintptr_t, std::map<uint64_t, Use>> uses;
Clock host;  // what the host has waited for: all that it asks for later comes after it

void learn(Clock& known, const Clock& other) {
  for (const auto& [number, asked] : other) known[number] = std::max(known[number], asked);
}

cudaStream_t stream_of(void* stream) { return stream != nullptr ? static_cast<cudaStream_t>(stream) : streams[0]; }

void do_one(cudaStream_t stream) {
  auto work = std::move(stream->work.front());
  stream->work.pop_front();
  stream->busy = true;
  work();
  stream->busy = false;
}

// A stream that is asked to go on while it waits for another one has nothing to add.
void drain(cudaStream_t stream) {
  while (!stream->busy && !stream->work.empty()) do_one(stream);
  learn(host, stream->known);
}
void drain_all() {
  for (cudaStream_t stream : streams) drain(stream);
}
void reach(cudaEvent_t event, uint64_t record) {
  while (event->reached < record && event->stream != nullptr && !event->stream->busy && !event->stream->work.empty()) do_one(event->stream);
}

// Between any two calls a device may have done some of its work.
void let_chance_work() {
  if (!state.options.lazy || state.options.seed < 2) return;
  uint64_t z = (state.options.seed << 32 ^ ++state.chances) * 0x9e3779b97f4a7c15u;
  z ^= z >> 29;
  for (cudaStream_t stream : streams)
    for (z = z * 0xbf58476d1ce4e5b9u + 1; (z >> 62) == 0 && !stream->busy && !stream->work.empty(); z = z * 0xbf58476d1ce4e5b9u + 1) do_one(stream);
}

cudaError_t note(int error) {
  if (error != cudaSuccess) last_error = cudaError_t(error);
  return cudaError_t(error);
}

// A kernel's fault stays, as it does on a device.
#define LIMBECK_ENTER                \
  std::lock_guard guard(state.lock); \
  let_chance_work();                 \
  if (state.faulted) return note(state.fault_error)

// The host waits here for work of a device, or would on a real one.
void count_wait(const char* call) { state.waits[call]++; }

cudaError_t finished() { return state.faulted ? note(state.fault_error) : cudaSuccess; }

cudaError_t copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (bytes == 0) return cudaSuccess;
  const bool to_device = emulated::on_device(to), from_device = emulated::on_device(from);
  const cudaMemcpyKind actual = to_device ? (from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
                                          : (from_device ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);
  if (kind != cudaMemcpyDefault && kind != actual) return cudaErrorInvalidValue;
  void* target = to_device ? emulated::host_address(to, bytes) : to;
  const void* source = from_device ? emulated::host_address(from, bytes) : from;
  if (target == nullptr || source == nullptr) return cudaErrorInvalidValue;
  memmove(target, source, bytes);
  return cudaSuccess;
}

bool is_pinned(const void* data) {
  auto after = pinned.upper_bound(data);
  if (after == pinned.begin()) return false;
  const auto& [begin, bytes] = *std::prev(after);
  return size_t(static_cast<const char*>(data) - static_cast<const char*>(begin)) < bytes;
}

void fail_stream(std::string what) {
  state.faulted = true;
  state.fault = std::move(what);
  state.fault_error = cudaErrorIllegalAddress;
}

// The next piece of a stream's work: it comes after all that the host has waited for.
void advance(cudaStream_t stream) {
  learn(stream->known, host);
  stream->known[stream->number] = ++stream->asked;
}

// The stream's last piece of work reads or writes an allocation: other streams' work on it must be known to be done before.
void use(cudaStream_t stream, uintptr_t allocation, bool writes, const char* what) {
  auto& all = uses[allocation];
  for (const auto& [number, other] : all) {
    if (number == stream->number || state.faulted) continue;
    if (std::max(other.written, writes ? other.read : 0) > stream->known[number])
      fail_stream("work of two streams on the same memory must be ordered by an event: " + other.what + " in one, then " + what + " in the other");
  }
  Use& own = all[stream->number];
  (writes ? own.written : own.read) = stream->asked;
  own.what = what;
}

void use_copy(cudaStream_t stream, const void* to, const void* from) {
  advance(stream);
  if (const uintptr_t allocation = emulated::allocation_begin(to)) use(stream, allocation, true, "a copy");
  if (const uintptr_t allocation = emulated::allocation_begin(from)) use(stream, allocation, false, "a copy");
}

}  // namespace

namespace limbeck::emulated {

void enqueue(void* stream, std::function<void()> work) {
  stream_of(stream)->work.push_back(std::move(work));
  let_chance_work();
}

// Whether a kernel reads or writes is not known from its arguments: it is taken to write.
void use_arguments(void* stream, const char* kernel, const void* arguments, size_t bytes) {
  advance(stream_of(stream));
  for (size_t at = 0; at + sizeof(uintptr_t) <= bytes; at += sizeof(uintptr_t)) {
    void* word = nullptr;
    memcpy(&word, static_cast<const char*>(arguments) + at, sizeof word);
    if (const uintptr_t allocation = allocation_begin(word)) use(stream_of(stream), allocation, true, kernel);
  }
}

cudaError_t allocate(void** data, size_t bytes) {
  LIMBECK_ENTER;
  count_wait("cudaMalloc");
  return note(allocate_device(data, bytes));
}

cudaError_t allocate_host(void** data, size_t bytes) {
  LIMBECK_ENTER;
  count_wait("cudaHostAlloc");
  *data = std::malloc(bytes == 0 ? 1 : bytes);
  if (*data != nullptr) pinned[*data] = bytes;
  return note(*data ? cudaSuccess : cudaErrorMemoryAllocation);
}

Options options() {
  std::lock_guard guard(state.lock);
  return state.options;
}

void configure(const Options& options) {
  std::lock_guard guard(state.lock);
  drain_all();
  state.options = options;
  const size_t colon = options.skip_sync.rfind(':');
  state.skip_file = colon == std::string::npos ? "" : options.skip_sync.substr(0, colon);
  state.skip_line = colon == std::string::npos ? 0 : atoi(options.skip_sync.c_str() + colon + 1);
  state.executed = state.chances = 0;
  state.faulted = false;
  state.fault.clear();
  last_error = cudaSuccess;
}

std::string fault() {
  std::lock_guard guard(state.lock);
  return state.fault;
}

std::vector<Audit> audit() {
  std::lock_guard guard(state.lock);
  std::vector<Audit> out;
  for (const auto& [name, counts] : state.audit) {
    out.push_back(counts);
    out.back().kernel = name;
  }
  return out;
}

void reset_audit() {
  std::lock_guard guard(state.lock);
  state.audit.clear();
  state.waits.clear();
}

std::map<std::string, uint64_t> waits() {
  std::lock_guard guard(state.lock);
  return state.waits;
}

}  // namespace limbeck::emulated

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return note(device == 0 ? cudaSuccess : cudaErrorInvalidDevice); }
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (device != 0) return note(cudaErrorInvalidDevice);
  *p = cudaDeviceProp{};
  strcpy(p->name, "emulated CUDA device");
  p->totalGlobalMem = state.options.memory_bytes;
  p->sharedMemPerBlock = emulated::kStaticBytes;
  p->sharedMemPerBlockOptin = emulated::kSharedBytes;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->major = 9;
  p->minor = 0;
  p->multiProcessorCount = state.options.multiprocessors;
  p->l2CacheSize = 1 << 20;
  p->maxThreadsPerMultiProcessor = 2048;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (cudaGetDeviceProperties(&p, device) != cudaSuccess) return note(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = int(p.sharedMemPerBlock); break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = int(p.sharedMemPerBlockOptin); break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
    case cudaDevAttrMemoryPoolsSupported: *value = 1; break;
    case cudaDevAttrClusterLaunch: *value = 1; break;
    default: return note(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  LIMBECK_ENTER;
  count_wait("cudaDeviceSynchronize");
  drain_all();
  return finished();
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  LIMBECK_ENTER;
  *total_bytes = state.options.memory_bytes;
  *free_bytes = state.options.memory_bytes - std::min(state.options.memory_bytes, emulated::allocated_bytes());
  return cudaSuccess;
}

cudaError_t cudaPeekAtLastError() {
  std::lock_guard guard(state.lock);
  return state.faulted ? cudaError_t(state.fault_error) : last_error;
}
cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  last_error = cudaSuccess;
  return error;
}

#define LIMBECK_ERRORS(X)                                                                             \
  X(cudaSuccess, "no error") X(cudaErrorInvalidValue, "invalid argument")                             \
  X(cudaErrorMemoryAllocation, "out of memory") X(cudaErrorInvalidConfiguration, "invalid configuration argument") \
  X(cudaErrorInvalidDevice, "invalid device ordinal") X(cudaErrorInvalidResourceHandle, "invalid resource handle") \
  X(cudaErrorNotReady, "device not ready") X(cudaErrorIllegalAddress, "an illegal memory access was encountered")  \
  X(cudaErrorLaunchOutOfResources, "too many resources requested for launch")                         \
  X(cudaErrorMisalignedAddress, "misaligned address") X(cudaErrorLaunchFailure, "unspecified launch failure") \
  X(cudaErrorNoDevice, "no CUDA-capable device is detected") X(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version")

const char* cudaGetErrorName(cudaError_t error) {
#define LIMBECK_ERROR_NAME(name, text) \
  if (error == name) return #name;
  LIMBECK_ERRORS(LIMBECK_ERROR_NAME)
  return "cudaErrorUnknown";
}

// What the emulator knows of a fault is more than the error number says.
const char* cudaGetErrorString(cudaError_t error) {
  std::lock_guard guard(state.lock);
  if (state.faulted && error == state.fault_error) return state.fault.c_str();
#define LIMBECK_ERROR_TEXT(name, text) \
  if (error == name) return text;
  LIMBECK_ERRORS(LIMBECK_ERROR_TEXT)
  return "unknown error";
}

// Freeing works after a fault too, so that nothing is lost when the fault is cleared.
cudaError_t cudaFree(void* data) {
  std::lock_guard guard(state.lock);
  count_wait("cudaFree");
  drain_all();
  uses.erase(emulated::allocation_begin(data));
  const int error = emulated::free_device(data);
  return note(state.faulted ? state.fault_error : error);
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t) { return cudaFree(data); }
cudaError_t cudaFreeHost(void* data) {
  std::lock_guard guard(state.lock);
  count_wait("cudaFreeHost");
  drain_all();
  pinned.erase(data);
  std::free(data);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  LIMBECK_ENTER;
  count_wait("cudaMemcpy");
  drain(streams[0]);
  return state.faulted ? finished() : note(copy(to, from, bytes, kind));
}
// Only copies of page-locked memory are left for later; of other host memory the driver takes a copy at once.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  LIMBECK_ENTER;
  const bool may_wait = (emulated::on_device(to) || is_pinned(to)) && (emulated::on_device(from) || is_pinned(from));
  if (!may_wait) count_wait("cudaMemcpyAsync of pageable memory");
  use_copy(stream_of(stream), to, from);
  if (state.faulted) return finished();
  if (!state.options.lazy) return note(copy(to, from, bytes, kind));
  if (!may_wait) {
    drain(stream_of(stream));
    return state.faulted ? finished() : note(copy(to, from, bytes, kind));
  }
  emulated::enqueue(stream, [=] {
    if (!state.faulted && copy(to, from, bytes, kind) != cudaSuccess) fail_stream("an asynchronous copy must lie inside one live allocation");
  });
  return cudaSuccess;
}
// Between places on the device alone.
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  LIMBECK_ENTER;
  if (kind != cudaMemcpyDeviceToDevice || width > to_pitch || width > from_pitch || (height > 0 && !(emulated::on_device(to) && emulated::on_device(from)))) return note(cudaErrorInvalidValue);
  use_copy(stream_of(stream), to, from);
  if (state.faulted) return finished();
  const auto work = [=] {
    for (size_t line = 0; line < height; line++)
      if (copy(static_cast<char*>(to) + line * to_pitch, static_cast<const char*>(from) + line * from_pitch, width, kind) != cudaSuccess) return cudaErrorInvalidValue;
    return cudaSuccess;
  };
  if (!state.options.lazy) return note(work());
  emulated::enqueue(stream, [=] {
    if (!state.faulted && work() != cudaSuccess) fail_stream("an asynchronous copy must lie inside one live allocation");
  });
  return cudaSuccess;
}
cudaError_t cudaMemset(void* data, int value, size_t bytes) {
  LIMBECK_ENTER;
  count_wait("cudaMemset");
  if (bytes == 0) return cudaSuccess;
  void* at = emulated::host_address(data, bytes);
  if (at == nullptr) return note(cudaErrorInvalidValue);
  memset(at, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  LIMBECK_ENTER;
  if (bytes == 0) return cudaSuccess;
  auto work = [=] {
    void* at = emulated::host_address(data, bytes);
    if (at != nullptr) memset(at, value, bytes);
    else if (!state.faulted) fail_stream("an asynchronous memset must lie inside one live allocation");
  };
  if (state.options.lazy) emulated::enqueue(stream, work);
  else work();
  return finished();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  LIMBECK_ENTER;
  *stream = new LimbeckEmulatedStream{};
  (*stream)->number = ++streams_made;
  streams.push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::lock_guard guard(state.lock);
  drain(stream);
  streams.erase(std::remove(streams.begin() + 1, streams.end(), stream), streams.end());
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  LIMBECK_ENTER;
  count_wait("cudaStreamSynchronize");
  drain(stream_of(stream));
  return finished();
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  LIMBECK_ENTER;
  if (!stream_of(stream)->work.empty()) return cudaErrorNotReady;
  learn(host, stream_of(stream)->known);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  LIMBECK_ENTER;
  if (state.options.drop_wait != 0 && --state.options.drop_wait == 0) return cudaSuccess;
  learn(stream_of(stream)->known, event->known);
  if (state.options.lazy) emulated::enqueue(stream, [event, record = event->recorded] { reach(event, record); });
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  LIMBECK_ENTER;
  *event = new LimbeckEmulatedEvent{};
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  std::lock_guard guard(state.lock);
  drain_all();
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  LIMBECK_ENTER;
  event->stream = stream_of(stream);
  advance(event->stream);
  event->known = event->stream->known;
  const uint64_t record = ++event->recorded;
  auto work = [=] {
    event->reached = std::max(event->reached, record);
    event->when = std::chrono::steady_clock::now();
  };
  if (state.options.lazy) emulated::enqueue(stream, work);
  else work();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  LIMBECK_ENTER;
  if (event->reached < event->recorded) count_wait("cudaEventSynchronize");
  reach(event, event->recorded);
  learn(host, event->known);
  return finished();
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  LIMBECK_ENTER;
  if (event->reached < event->recorded) return cudaErrorNotReady;
  learn(host, event->known);
  return cudaSuccess;
}
// The host's time: it says what the emulation took, nothing of a device.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  LIMBECK_ENTER;
  if (from->recorded == 0 || to->recorded == 0) return note(cudaErrorInvalidResourceHandle);
  if (from->reached < from->recorded || to->reached < to->recorded) return note(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(to->when - from->when).count();
  return finished();
}

}  // extern "C"
