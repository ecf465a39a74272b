// Device and shared memory: guarded allocations, exact bounds, the race detector's shadow, and the count of bytes and sectors.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "emulated/include/cuda_runtime_api.h"
#include "emulated/state.h"

namespace limbeck::emulated {
namespace {

constexpr size_t kPage = 4096;
constexpr int kClusterLimit = 16;

struct Allocation {
  uintptr_t begin = 0, end = 0;  // what may be touched
  uintptr_t capacity = 0;        // end of what was allocated
  Cell* shadow = nullptr;
  bool live = false;
};

// Device addresses have no memory behind them: the bytes lie `delta` further on, where only ld, st and the runtime look.
// So a pointer that host code or a kernel follows by itself ends in a signal.
struct Arena {
  uintptr_t base = 0, next = 0;
  size_t span = 0, used = 0;
  intptr_t delta = 0;
  uint32_t* pages = nullptr;  // page → allocation; 0: none
  std::vector<Allocation> allocations{1};
  std::map<uintptr_t, uint32_t> live;
} arena;

unsigned char* shared_base = nullptr;
Cell* shared_shadow = nullptr;
constexpr size_t kSharedShadowBytes = kClusterLimit * kSharedStride / 4 * sizeof(Cell);

void* reserve(size_t bytes, int protection) {
  void* at = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? nullptr : at;
}

bool reserve_arena() {
  if (arena.base != 0) return true;
  for (size_t span = size_t(64) << 30; span >= size_t(1) << 30; span /= 2) {
    void* seen = reserve(span, PROT_NONE);
    void* backing = seen ? reserve(span, PROT_NONE) : nullptr;
    void* pages = backing ? reserve(span / kPage * sizeof(uint32_t), PROT_READ | PROT_WRITE) : nullptr;
    if (pages) {
      arena.base = arena.next = reinterpret_cast<uintptr_t>(seen);
      arena.span = span;
      arena.delta = intptr_t(reinterpret_cast<uintptr_t>(backing)) - intptr_t(arena.base);
      arena.pages = static_cast<uint32_t*>(pages);
      return true;
    }
    if (backing) munmap(backing, span);
    if (seen) munmap(seen, span);
  }
  return false;
}

size_t pages_of(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

Allocation* allocation_of(const void* data) {
  const size_t offset = reinterpret_cast<uintptr_t>(data) - arena.base;
  return offset < arena.span ? &arena.allocations[arena.pages[offset / kPage]] : nullptr;
}

// ---- races ----

uint32_t stamp_place(int line, unsigned bytes, Access access) {
  return current->id << 18 | uint32_t(line & 4095) << 6 | bytes << 2 | uint32_t(access == Access::atomic) << 1 | uint32_t(access == Access::load_readonly);
}
bool same_thread(Stamp a, Stamp b) { return ((a.where ^ b.where) >> 18) == 0; }
bool overlap(Stamp a, Stamp b) { return (a.where & b.where & 0x3cu) != 0; }
bool is_atomic(Stamp a) { return (a.where & 2u) != 0; }
bool is_readonly(Stamp a) { return (a.where & 1u) != 0; }

// Whether everything up to that stamp happened before what the running thread does now.
bool ordered(Stamp s, bool shared) {
  if (s.tick < state.launch_tick) return true;
  if (s.tick == kPending) return false;
  if (s.tick < state.cluster_tick) return shared;
  const uint32_t apart = (s.where >> 18) ^ current->id;
  if (apart == 0) return true;
  if (apart < 32) return s.tick < current->warp_tick;
  if (apart < 1024) return s.tick < current->block_tick;
  return s.tick < current->cluster_tick;
}

[[noreturn]] void report_race(const char* memory, Access access, Stamp other, bool other_wrote, const char* file, int line) {
  const char* verb = access == Access::atomic ? "updates" : access == Access::store ? "writes" : "reads";
  if (other.tick == kPending)
    fail({file, line}, cudaErrorLaunchFailure, "race: %s %s memory that the asynchronous copy of line %u still writes: a copy_async_wait must stand between", verb, memory, (other.where >> 6) & 4095u);
  const uint32_t thread = other.where >> 18;
  fail({file, line}, cudaErrorLaunchFailure, "race: %s %s memory that thread %u%s %s at line %u, and no barrier stands between", verb, memory, thread & 1023u,
       (thread >> 10) != (current->id >> 10) || other.tick < state.cluster_tick ? " of another block" : "", other_wrote ? "wrote" : "read", (other.where >> 6) & 4095u);
}

// One access of the running thread, and what its last barriers settle without a closer look.
struct Look {
  Stamp me;
  Access access;
  bool shared;
  uint32_t low, from, below;  // ticks below `low`, and those in [from, below), are ordered before this access
  const char* file;
  int line;

  bool settled(Stamp s) const { return s.tick < low || (s.tick >= from && s.tick < below) || ordered(s, shared); }
  const char* memory() const { return shared ? "shared" : "global"; }
};

inline __attribute__((always_inline)) void watch_word(Cell& cell, const Look& l) {
  const bool writes = l.access == Access::store || l.access == Access::atomic;
  if (cell.writer.tick >= state.launch_tick) {
    if (!l.settled(cell.writer) && overlap(cell.writer, l.me) && !(is_atomic(cell.writer) && is_atomic(l.me)))
      report_race(l.memory(), l.access, cell.writer, true, l.file, l.line);
    if (l.access == Access::load_readonly && overlap(cell.writer, l.me))
      fail({l.file, l.line}, cudaErrorLaunchFailure, "ld_readonly must not read what the same launch writes: line %u wrote it", (cell.writer.where >> 6) & 4095u);
  }
  if (writes) {
    for (const Stamp& r : {cell.reader, cell.other}) {
      if (r.tick < state.launch_tick || !overlap(r, l.me)) continue;
      if (is_readonly(r))
        fail({l.file, l.line}, cudaErrorLaunchFailure, "what ld_readonly reads must not be written by the same launch: line %u read it", (r.where >> 6) & 4095u);
      if (!l.settled(r)) report_race(l.memory(), l.access, r, false, l.file, l.line);
    }
    cell.writer = l.me;
    return;
  }
  // Two readers, of two warps where possible, stand for all of them.
  if (same_thread(cell.reader, l.me) && cell.reader.tick == l.me.tick) {
    cell.reader.where |= l.me.where & 0x3du;
  } else if (same_thread(cell.reader, l.me) || l.settled(cell.reader)) {
    cell.reader = l.me;
  } else if (same_thread(cell.other, l.me) || l.settled(cell.other) || ((cell.reader.where ^ cell.other.where) >> 23) == 0) {
    cell.other = l.me;
  }
}

inline __attribute__((always_inline)) void watch(Cell* cells, uintptr_t offset, unsigned bytes, Access access, bool shared, const char* file, int line) {
  const unsigned mask = bytes >= 4 ? 15u : ((1u << bytes) - 1) << (offset & 3u);
  const Look look{{state.tick, stamp_place(line, mask, access)},
                  access,
                  shared,
                  shared ? state.cluster_tick : state.launch_tick,
                  state.cluster_tick,
                  current_cluster_size == 1 ? current->block_tick : current->cluster_tick,
                  file,
                  line};
  Cell* cell = cells + offset / 4;
  watch_word(*cell, look);
  for (unsigned i = 1; i < bytes / 4; ++i) watch_word(cell[i], look);
}

// ---- traffic ----

// The n-th access of each lane at one place in the source, counted from where all lanes last met, is one access of the warp.
// This is the set of its sectors.
struct WarpAccess {
  uint64_t base, bits;
};
struct Place {
  const char* file = nullptr;
  int line = 0;
  Access access = Access::load;
  uint32_t phase = 0;
  uint32_t counts[32];
  std::vector<WarpAccess> accesses;
};
struct WarpTraffic {
  std::vector<Place> places = std::vector<Place>(64);
  std::vector<int> used;
};
std::vector<WarpTraffic> traffic;
std::unordered_set<uint64_t> far_sectors;

void note_sectors(uintptr_t offset, unsigned bytes, Access access, const char* file, int line) {
  WarpTraffic& t = traffic[size_t(current->warp->number)];
  size_t slot = (size_t(line) * 5 + size_t(access)) & 63u;
  Place* place;
  for (size_t probes = 0;; ++probes) {
    place = &t.places[slot];
    if (place->file == nullptr) {
      place->file = file, place->line = line, place->access = access;
      place->phase = ~current->warp->phase;
      t.used.push_back(int(slot));
      break;
    }
    if (place->line == line && place->access == access && place->file == file) break;
    if (probes == 63) return;
    slot = (slot + 1) & 63u;
  }
  if (place->phase != current->warp->phase) {
    place->phase = current->warp->phase;
    place->accesses.clear();
    memset(place->counts, 0, sizeof place->counts);
  }
  const uint32_t n = place->counts[current->lane]++;
  const uint64_t first = offset / 32, last = (offset + bytes - 1) / 32;
  if (n >= place->accesses.size()) place->accesses.resize(n + 1, WarpAccess{first - 31, 0});
  WarpAccess& a = place->accesses[n];
  if (a.bits == 0) a.base = first - 31;
  for (uint64_t sector = first; sector <= last; ++sector) {
    const uint64_t at = sector - a.base;
    bool fresh;
    if (at < 64) {
      fresh = (a.bits >> at & 1u) == 0;
      a.bits |= uint64_t(1) << at;
    } else {
      fresh = far_sectors.insert((sector * 0x9e3779b97f4a7c15u) ^ ((uint64_t(place->phase) << 32 | n) * 0xff51afd7ed558ccdu) ^ (uint64_t(current->warp->number) << 48 | slot << 40)).second;
    }
    if (fresh) ++(access == Access::store ? state.counters.sectors_stored : state.counters.sectors_loaded);
    if (fresh && access == Access::atomic) ++state.counters.sectors_stored;
  }
}

[[noreturn]] void refuse_access(uintptr_t address, unsigned bytes, Access access, const char* file, int line) {
  const char* verb = access == Access::atomic ? "updates" : access == Access::store ? "writes" : "reads";
  const Allocation* a = allocation_of(reinterpret_cast<void*>(address));
  if (a == nullptr) fail({file, line}, cudaErrorIllegalAddress, "%s %u bytes at an address that is not device memory (%#zx)", verb, bytes, size_t(address));
  // The pages around an allocation belong to nobody: its neighbour is meant, a live one before a freed one.
  if (a->begin == 0) {
    const size_t page = (address - arena.base) / kPage;
    const Allocation* before = &arena.allocations[page > 0 ? arena.pages[page - 1] : 0];
    const Allocation* after = &arena.allocations[(page + 1) * kPage < arena.span ? arena.pages[page + 1] : 0];
    a = before->live ? before : after->live || before->begin == 0 ? after : before;
  }
  if (a->begin == 0) fail({file, line}, cudaErrorIllegalAddress, "%s %u bytes outside every allocation", verb, bytes);
  if (!a->live || (a->end == a->begin && a->capacity > a->begin)) fail({file, line}, cudaErrorIllegalAddress, "%s %u bytes of freed memory", verb, bytes);
  if (address < a->begin || address + bytes > a->end)
    fail({file, line}, cudaErrorIllegalAddress, "%s %u bytes out of bounds: at byte %lld of an allocation of %lld", verb, bytes, (long long)(address - a->begin), (long long)(a->end - a->begin));
  fail({file, line}, cudaErrorMisalignedAddress, "%s %u bytes at an address that is not a multiple of %u", verb, bytes, bytes);
}

}  // namespace

void* global_access(const void* data, unsigned bytes, Access access, const char* file, int line) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(data);
  const size_t offset = address - arena.base;
  if (offset >= arena.span) refuse_access(address, bytes, access, file, line);
  Allocation& a = arena.allocations[arena.pages[offset / kPage]];
  if (address < a.begin || address + bytes > a.end || (address & (bytes - 1)) != 0) refuse_access(address, bytes, access, file, line);
  if (access == Access::store) state.counters.bytes_stored += bytes;
  else state.counters.bytes_loaded += bytes, state.counters.loads++;
  if (access == Access::atomic) state.counters.bytes_stored += bytes;
  if (state.options.sectors) note_sectors(offset, bytes, access, file, line);
  if (state.options.races) {
    if (a.shadow == nullptr) a.shadow = static_cast<Cell*>(reserve((a.capacity - a.begin + 4) / 4 * sizeof(Cell), PROT_READ | PROT_WRITE));
    if (a.shadow != nullptr) watch(a.shadow, address - a.begin, bytes, access, false, file, line);
  }
  return reinterpret_cast<void*>(address + uintptr_t(arena.delta));
}

void shared_access(const void* data, unsigned bytes, unsigned alignment, Access access, const char* file, int line) {
  const size_t offset = size_t(static_cast<const unsigned char*>(data) - shared_base);
  if (reinterpret_cast<uintptr_t>(data) & (alignment - 1)) fail({file, line}, cudaErrorMisalignedAddress, "shared memory must be aligned to %u bytes here", alignment);
  const int rank = int(offset / kSharedStride);
  Block* mine = current->block;
  if (rank != mine->rank) {
    Block& other = mine[rank - mine->rank];
    if (current->cluster_tick == state.cluster_tick) fail({file, line}, cudaErrorLaunchFailure, "block %d may not have started: a sync_cluster must come before its shared memory is used", other.index);
    if (other.finished == other.threads) fail({file, line}, cudaErrorLaunchFailure, "block %d has ended: a sync_cluster must keep it until its shared memory was used", other.index);
    other.remote_tick = state.tick;
    other.remote_site = {file, line};
  }
  if (state.options.races) watch(shared_shadow, offset, bytes, access, true, file, line);
}

void shared_out_of_bounds(int64_t index, int64_t size, const char* file, int line) {
  fail({file, line}, cudaErrorIllegalAddress, "shared memory out of bounds: index %lld of %lld", (long long)index, (long long)size);
}

void mark_pending(void* shared, Site site) {
  shared_access(shared, 16, 16, Access::store, site.file, site.line);
  if (!state.options.races) return;
  Cell* cell = shared_shadow + size_t(static_cast<unsigned char*>(shared) - shared_base) / 4;
  for (int i = 0; i < 4; ++i) cell[i].writer.tick = kPending;
}

// An asynchronous copy arrives: as late as it may, with the bytes the source holds then.
void land_copy(void* shared, const void* from, Site site) {
  const void* source = host_address(from, 16);
  if (source == nullptr) fail(site, cudaErrorIllegalAddress, "the source of an asynchronous copy is no longer there");
  memcpy(shared, source, 16);
  if (!state.options.races) return;
  Cell* cell = shared_shadow + size_t(static_cast<unsigned char*>(shared) - shared_base) / 4;
  for (int i = 0; i < 4; ++i) cell[i].writer = {state.tick, stamp_place(site.line, 15, Access::store)};
}

void begin_block_traffic(int warps) {
  if (int(traffic.size()) < warps) traffic.resize(size_t(warps));
}

void end_block_traffic(int warps) {
  for (int w = 0; w < warps; ++w) {
    for (int slot : traffic[size_t(w)].used) {
      Place& place = traffic[size_t(w)].places[size_t(slot)];
      place.file = nullptr;
      place.accesses.clear();
    }
    traffic[size_t(w)].used.clear();
  }
  far_sectors.clear();
}

bool reserve_shared() {
  if (shared_base == nullptr) shared_base = static_cast<unsigned char*>(reserve(kClusterLimit * kSharedStride, PROT_READ | PROT_WRITE));
  if (shared_shadow == nullptr) shared_shadow = static_cast<Cell*>(reserve(kSharedShadowBytes, PROT_READ | PROT_WRITE));
  return shared_base != nullptr && shared_shadow != nullptr;
}

unsigned char* shared_of(int rank) { return shared_base + size_t(rank) * kSharedStride; }

void clear_shared_shadow() {
  if (shared_shadow != nullptr) madvise(shared_shadow, kSharedShadowBytes, MADV_DONTNEED);
}

void clear_shadows() {
  clear_shared_shadow();
  for (Allocation& a : arena.allocations) {
    if (a.shadow != nullptr) munmap(a.shadow, (a.capacity - a.begin + 4) / 4 * sizeof(Cell));
    a.shadow = nullptr;
  }
}

bool on_device(const void* data) { return reinterpret_cast<uintptr_t>(data) - arena.base < arena.span; }
bool in_arena(const void* address) { return on_device(address) || on_device(static_cast<const char*>(address) - arena.delta); }

void* host_address(const void* data, size_t bytes) {
  const Allocation* a = allocation_of(data);
  const uintptr_t address = reinterpret_cast<uintptr_t>(data);
  if (a == nullptr || !a->live || address < a->begin || bytes > a->end - address) return nullptr;
  return reinterpret_cast<void*>(address + uintptr_t(arena.delta));
}

int allocate_device(void** data, size_t bytes) {
  *data = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (state.options.fail_allocation != 0 && --state.options.fail_allocation == 0) return cudaErrorMemoryAllocation;
  if (bytes > state.options.memory_bytes || arena.used + bytes > state.options.memory_bytes || !reserve_arena()) return cudaErrorMemoryAllocation;
  // One page of nothing on each side; addresses go round the arena before one comes back.
  const size_t size = pages_of(bytes) + 2 * kPage;
  uintptr_t at = 0;
  for (int round = 0; round < 2 && at == 0; ++round) {
    uintptr_t candidate = arena.next;
    while (candidate + size <= arena.base + arena.span) {
      auto following = arena.live.lower_bound(candidate);
      if (following != arena.live.begin()) {
        const Allocation& before = arena.allocations[std::prev(following)->second];
        candidate = std::max(candidate, before.begin + pages_of(before.capacity - before.begin));
      }
      if (following == arena.live.end() || following->first >= candidate + size) {
        at = candidate;
        break;
      }
      const Allocation& blocking = arena.allocations[following->second];
      candidate = blocking.begin + pages_of(blocking.capacity - blocking.begin);
    }
    if (at == 0) arena.next = arena.base;
  }
  if (at == 0) return cudaErrorMemoryAllocation;
  Allocation a;
  a.begin = at + kPage;
  a.end = a.capacity = a.begin + bytes;
  a.live = true;
  void* backing = reinterpret_cast<void*>(a.begin + uintptr_t(arena.delta));
  if (mprotect(backing, pages_of(bytes), PROT_READ | PROT_WRITE) != 0) return cudaErrorMemoryAllocation;
  memset(backing, 0xff, bytes);
  const uint32_t number = uint32_t(arena.allocations.size());
  arena.allocations.push_back(a);
  const size_t first = (a.begin - arena.base) / kPage;
  std::fill_n(arena.pages + first, pages_of(bytes) / kPage, number);
  arena.live[a.begin] = number;
  arena.next = at + size - kPage;
  arena.used += bytes;
  *data = reinterpret_cast<void*>(a.begin);
  return cudaSuccess;
}

int free_device(void* data) {
  if (data == nullptr) return cudaSuccess;
  Allocation* a = allocation_of(data);
  if (a == nullptr || !a->live || a->begin != reinterpret_cast<uintptr_t>(data)) return cudaErrorInvalidValue;
  const size_t bytes = a->capacity - a->begin;
  void* backing = reinterpret_cast<void*>(a->begin + uintptr_t(arena.delta));
  madvise(backing, pages_of(bytes), MADV_DONTNEED);
  mprotect(backing, pages_of(bytes), PROT_NONE);
  if (a->shadow != nullptr) munmap(a->shadow, (bytes + 4) / 4 * sizeof(Cell));
  a->shadow = nullptr;
  a->live = false;
  a->end = a->begin;
  arena.live.erase(a->begin);
  arena.used -= bytes;
  return cudaSuccess;
}

uintptr_t allocation_begin(const void* data) {
  if (arena.base == 0) return 0;
  const Allocation* a = allocation_of(data);
  return a != nullptr && a->live ? a->begin : 0;
}

size_t allocated_bytes() { return arena.used; }

void lend(void* data, size_t bytes, void* stream) {
  std::lock_guard guard(state.lock);
  if (state.options.lazy && stream != nullptr) return enqueue(stream, [=] { lend(data, bytes, nullptr); });
  Allocation* a = allocation_of(data);
  if (a == nullptr || !a->live || a->begin != reinterpret_cast<uintptr_t>(data) || bytes > a->capacity - a->begin) return;
  a->end = a->begin + bytes;
  memset(reinterpret_cast<void*>(a->begin + uintptr_t(arena.delta)), 0xff, a->capacity - a->begin);
}

void take_back(void* data, void* stream) {
  std::lock_guard guard(state.lock);
  if (state.options.lazy && stream != nullptr) return enqueue(stream, [=] { take_back(data, nullptr); });
  Allocation* a = allocation_of(data);
  if (a != nullptr && a->live && a->begin == reinterpret_cast<uintptr_t>(data)) a->end = a->begin;
}

}  // namespace limbeck::emulated
