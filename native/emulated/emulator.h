// The emulated device's own controls, for the binding and the tests: options, traffic audit, barriers seen, self tests.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace limbeck::emulated {

struct Options {
  uint64_t seed = 0;             // order of threads and blocks: 0 ascending, 1 descending, else shuffled; LIMBECK_EMULATE_SEED at first
  bool races = true;             // the race detector
  bool sectors = true;           // count 32-byte sectors per warp access
  bool async_late = true;        // asynchronous copies complete at their wait, not before
  bool lazy = false;             // streams do their work when something waits for it, or by chance before; faults show then
  uint64_t fail_allocation = 0;  // the n-th allocation from here fails; 0: none
  uint64_t fail_launch = 0;      // the n-th launch from here fails; 0: none
  uint64_t drop_wait = 0;        // the n-th wait of a stream for an event from here is left out; 0: none
  int multiprocessors = 1;       // 1: few rows already go round a grid; LIMBECK_EMULATE_MULTIPROCESSORS at first
  size_t memory_bytes = size_t(4) << 30;
  std::string skip_sync;         // "file:line" of a barrier to leave out, file by the end of its path
};

// configure() also clears a fault, which until then makes every launch and CUDA call fail as on a real device.
Options options();
void configure(const Options& options);
std::string fault();

// One kernel name, all launches since the last reset. Loads are those of single threads, sectors are counted per warp access, as the memory
// system does; barriers per block and per cluster; exponentials are those of float, with expm1 and the logarithms.
struct Audit {
  std::string kernel;
  uint64_t launches = 0, bytes_loaded = 0, bytes_stored = 0, loads = 0, sectors_loaded = 0, sectors_stored = 0;
  uint64_t block_barriers = 0, cluster_barriers = 0, exponentials = 0;
  int block = 0, cluster = 0;  // of the last launch
  uint64_t shared_bytes = 0;   // of a block, static and dynamic
};
std::vector<Audit> audit();
// Calls of the runtime that make the host wait for work queued before, or may (allocations), by name, since the last reset. Of events only
// those not reached, so with lazy streams alone.
std::map<std::string, uint64_t> waits();
void reset_audit();  // of the waits too

// A sync_* or copy_async_wait in the source that some kernel has passed since reset_sync_sites().
struct SyncSite {
  std::string site, kind;
  std::vector<std::string> kernels;
};
std::vector<SyncSite> sync_sites();
void reset_sync_sites();

// Kernels that must pass under every order of threads, and faulty ones that must be caught. An empty name runs all.
struct SelfTest {
  std::string name, expected, got;
  bool ok = false;
};
std::vector<SelfTest> self_test(const std::string& name);

// What a pool built on device memory hands out and takes back: exact bounds, NaN contents, and no access in between.
// In the order of the stream that the pool serves.
void lend(void* data, size_t bytes, void* stream);
void take_back(void* data, void* stream);

}  // namespace limbeck::emulated
