// What runs a kernel on the host: threads as fibres, warps, blocks and clusters, and the checks behind every access and barrier.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/context.h"
#include "emulated/fibre.h"

namespace limbeck::cuda {
struct Launch;
}

namespace limbeck::emulated {

// The place in a kernel's source that an access or a barrier stands at.
struct Site {
  const char* file = nullptr;
  int line = 0;
};

struct Warp;
struct Block;

// One CUDA thread. Ticks are the moments of its last barriers: what another thread did before them is ordered before what it does now.
struct Thread {
  Fibre fibre;
  Warp* warp = nullptr;
  Block* block = nullptr;
  int index = 0, lane = 0;
  uint32_t id = 0;  // rank in the cluster << 10 | index
  uint32_t warp_tick = 0, block_tick = 0, cluster_tick = 0;
  uint64_t result = 0;  // of the last shuffle or vote
  const char* waits_at = nullptr;
  Site wait_site;
  bool finished = false;
};

// One warp's pending shuffle, vote or barrier.
enum class Collective : uint8_t { none, sync, shuffle, shuffle_xor, shuffle_down, shuffle_up, ballot, together };
struct Warp {
  Block* block = nullptr;
  int first = 0, arrived = 0, number = 0;
  uint32_t phase = 0;  // grows whenever all lanes have met
  Collective kind = Collective::none;
  Site site;
  uint64_t values[32];
  int arguments[32];
};

struct Block {
  int index = 0, rank = 0, threads = 0, arrived = 0, finished = 0, votes = 0;
  bool started = false;
  Site site;
  unsigned char* shared = nullptr;
  // The last access from another block of the cluster: it must be ordered before this block's end.
  uint32_t remote_tick = 0, remote_thread = 0, cluster_tick = 0;
  Site remote_site;
};

extern Thread* current;
extern int current_block_size, current_grid_size, current_cluster_size;

// Static shared memory: one per SHARED in the source and template instance; offsets are dealt out anew for each launch.
struct SharedSlot {
  uint64_t launch = 0;
  int offset = 0;
};
unsigned char* shared_memory(SharedSlot& slot, size_t bytes, const char* name);
unsigned char* dynamic_shared_memory(size_t& bytes);
unsigned char* map_shared(unsigned char* data, int rank, Site site);

enum class Access : uint8_t { load, load_readonly, store, atomic };
// Checks, counts and records an access; returns where the bytes are on the host. Never returns on a fault.
void* global_access(const void* address, unsigned bytes, Access access, const char* file, int line);
void shared_access(const void* data, unsigned bytes, unsigned alignment, Access access, const char* file, int line);
[[noreturn]] void shared_out_of_bounds(int64_t index, int64_t size, const char* file, int line);

void sync_block(Site site);
void sync_warp(Site site);
void sync_cluster(Site site);
// A barrier of the block that adds up a number.
int vote_block(int vote, Site site);
uint64_t collective(Collective kind, uint64_t value, int argument, Site site);
// What a warp does as one: `all` gets what each lane gave, once all lanes have come.
void together(void (*all)(void* const* lanes), void* mine, Site site);

void copy_async16(void* to, const void* from, Site site);
void copy_async_commit();
void copy_async_wait(int pending, Site site);

// Runs a kernel to its end: `invoke(arguments)` in every thread. Faults and refusals go to ctx. With lazy streams only when its turn comes.
void run(Context& ctx, const char* name, const cuda::Launch& launch, void (*invoke)(void*), std::shared_ptr<void> arguments, size_t bytes);

}  // namespace limbeck::emulated
