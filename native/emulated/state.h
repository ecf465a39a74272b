// The emulated device's state, shared by the scheduler, the memory and the runtime. One lock guards all of it.
#pragma once
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "emulated/emulator.h"
#include "emulated/machine.h"

namespace limbeck::emulated {

// Who touched a word last, and when. tick 0: nobody; kPending: an asynchronous copy still writes it.
struct Stamp {
  uint32_t tick, where;  // where: thread 14 bits, line 12, bytes 4, atomic 1, readonly 1
};
inline constexpr uint32_t kPending = 0xffffffffu;

// The shadow of four bytes.
struct Cell {
  Stamp writer, reader, other;
};

struct Counters {
  uint64_t bytes_loaded = 0, bytes_stored = 0, loads = 0, sectors_loaded = 0, sectors_stored = 0;
  uint64_t block_barriers = 0, cluster_barriers = 0;
};

struct State {
  explicit State(const Options& first) : options(first) {}
  std::recursive_mutex lock;
  Options options;
  uint64_t executed = 0, chances = 0;  // since configure()
  uint64_t random = 0;
  uint64_t launch_number = 0;  // of the process
  uint32_t tick = 1, launch_tick = 1, cluster_tick = 1;
  const char* kernel = "";
  bool faulted = false;
  std::string fault;  // sticky until configure()
  int fault_error = 0;
  Counters counters;
  std::map<std::string, Audit> audit;
  std::map<std::string, uint64_t> waits;
  struct Seen {
    const char* kind;
    std::set<std::string> kernels;
  };
  std::map<std::pair<std::string, int>, Seen> sync_sites;
  std::string skip_file;
  int skip_line = 0;
};
extern State state;

// Calls of expf, expm1f, logf and log1pf by this host thread.
uint64_t exponentials();

inline uint64_t next_random() {
  uint64_t z = (state.random += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// A path from native/ on.
const char* short_path(const char* file);

// Reports a fault of the running thread and leaves the kernel for good.
__attribute__((format(printf, 3, 4))) [[noreturn]] void fail(Site site, int error, const char* format, ...);

// Work for a stream, done when something waits for it (options.lazy).
void enqueue(void* stream, std::function<void()> work);

// Every kernel says what it was launched with, so that streams are seen to be ordered.
void use_arguments(void* stream, const char* kernel, const void* arguments, size_t bytes);

// Memory. The host address of device bytes, or null where they are not inside one live allocation.
// A block's shared memory: static part, then dynamic; the limits are those of compute capability 9.0.
inline constexpr size_t kStaticBytes = 48 * 1024;
inline constexpr size_t kSharedBytes = 232448;
inline constexpr size_t kSharedStride = 512 * 1024;  // between the blocks of a cluster
bool reserve_shared();
unsigned char* shared_of(int rank);
void* host_address(const void* data, size_t bytes);
bool on_device(const void* data);
uintptr_t allocation_begin(const void* data);  // 0: not in a live one
int allocate_device(void** data, size_t bytes);  // a cudaError_t
int free_device(void* data);
size_t allocated_bytes();
bool in_arena(const void* address);
void clear_shadows();
void clear_shared_shadow();
void begin_block_traffic(int warps);
void end_block_traffic(int warps);
void mark_pending(void* shared, Site site);
void land_copy(void* shared, const void* from, Site site);

}  // namespace limbeck::emulated
