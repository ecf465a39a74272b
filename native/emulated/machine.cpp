// The scheduler: clusters of blocks of fibres, barriers, shuffles and votes, asynchronous copies, and what happens when a kernel is wrong.
#include "emulated/machine.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "cuda/device.h"
#include "emulated/include/cuda_runtime_api.h"
#include "emulated/state.h"

namespace limbeck::emulated {

Thread* current = nullptr;
int current_block_size = 0, current_grid_size = 0, current_cluster_size = 0;

namespace {

Options first_options() {
  Options o;
  if (const char* seed = getenv("LIMBECK_EMULATE_SEED")) o.seed = strtoull(seed, nullptr, 10);
  if (const char* count = getenv("LIMBECK_EMULATE_MULTIPROCESSORS")) o.multiprocessors = atoi(count) > 0 ? atoi(count) : 1;
  return o;
}

}  // namespace

State state(first_options());

namespace {

// A copy under way, and the groups of copies that were committed and not waited for.
struct Copy {
  void* to;
  const void* from;
  Site site;
};
struct Copies {
  std::vector<Copy> open;
  std::vector<std::vector<Copy>> groups;
};

Fibre main_fibre;
std::vector<Thread> threads;
std::vector<Warp> warps;
std::vector<Block> blocks;
std::vector<Copies> copies;
int thread_count = 0, threads_per_block = 0, cluster_arrived = 0;
Site cluster_site;
void (*kernel_invoke)(void*) = nullptr;
void* kernel_arguments = nullptr;
size_t static_bytes = 0, dynamic_bytes = 0;
bool copies_used = false;
void* fault_address = nullptr;
int fault_signal = 0;
pthread_t runner;
Site last_site;
const char* last_site_kernel = nullptr;

// Runnable threads: a ring, taken from the front.
struct Queue {
  static constexpr uint32_t kSize = 32768;
  Thread* ring[kSize];
  uint32_t front = 0, back = 0;
  bool empty() const { return front == back; }
  Thread* take() { return ring[front++ % kSize]; }
  void push_back(Thread* t) { ring[back++ % kSize] = t; }
  void push_front(Thread* t) { ring[--front % kSize] = t; }
} queue;

void switch_to(Thread* next) {
  Thread* from = current;
  if (next == from) return;
  current = next;
  switch_fibre(from->fibre, next->fibre);
}

// Leaves the running thread until somebody has put it back into the queue.
void give_way() {
  if (!queue.empty()) return switch_to(queue.take());
  Thread* from = current;
  current = nullptr;
  switch_fibre(from->fibre, main_fibre);
}

// Threads first..first+count-1 may go on, in an order that the seed decides.
void release(Thread* first, int count) {
  const uint64_t seed = state.options.seed;
  if (seed == 0) {
    for (int i = 0; i < count; ++i) queue.push_back(first + i);
  } else if (seed == 1) {
    for (int i = 0; i < count; ++i) queue.push_front(first + i);
  } else if (count == 32) {
    // Affine orders of a warp are enough, and cheap.
    const uint64_t r = next_random();
    const unsigned step = unsigned(r) | 1u, start = unsigned(r >> 32);
    const bool ahead = (r >> 63) != 0;
    for (unsigned i = 0; i < 32; ++i) {
      Thread* t = first + ((i * step + start) & 31u);
      ahead ? queue.push_front(t) : queue.push_back(t);
    }
  } else {
    static std::vector<Thread*> order;
    order.resize(size_t(count));
    for (int i = 0; i < count; ++i) order[size_t(i)] = first + i;
    for (int i = count - 1; i > 0; --i) std::swap(order[size_t(i)], order[next_random() % uint64_t(i + 1)]);
    for (Thread* t : order) queue.push_back(t);
  }
}

bool same_place(Site a, Site b) { return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0); }

void wait_at(const char* what, Site site) {
  current->waits_at = what;
  current->wait_site = site;
}

// Barriers that the mutation test leaves out; every one that is passed is noted for its list.
bool skipped(Site site) {
  if (site.line != state.skip_line || state.skip_file.empty()) return false;
  const size_t n = strlen(site.file);
  return n >= state.skip_file.size() && state.skip_file == site.file + (n - state.skip_file.size());
}
void note_site(Site site, const char* kind) {
  if (last_site.file == site.file && last_site.line == site.line && last_site_kernel == state.kernel) return;
  last_site = site, last_site_kernel = state.kernel;
  auto& seen = state.sync_sites[{short_path(site.file), site.line}];
  seen.kind = kind;
  seen.kernels.insert(state.kernel);
}

void complete(const Copy& copy) { land_copy(copy.to, copy.from, copy.site); }

void complete_all(Copies& mine) {
  for (auto& group : mine.groups)
    for (const Copy& c : group) complete(c);
  for (const Copy& c : mine.open) complete(c);
  mine.groups.clear();
  mine.open.clear();
}

void thread_main() {
  fibre_entered();
  for (;;) {
    kernel_invoke(kernel_arguments);
    Thread* t = current;
    Block* b = t->block;
    if (copies_used) complete_all(copies[size_t(t - threads.data())]);
    t->finished = true;
    if (++b->finished == b->threads && b->remote_tick != 0 && b->remote_tick >= b->cluster_tick)
      fail(b->remote_site, cudaErrorLaunchFailure, "block %d ends while another block of its cluster may still reach into its shared memory: a sync_cluster must stand between", b->index);
    give_way();
  }
}

void arrive_block(Site site, int vote, bool is_vote) {
  Block* b = current->block;
  if (b->arrived == 0) {
    b->site = site;
    b->votes = 0;
  } else if (!same_place(b->site, site)) {
    fail(site, cudaErrorLaunchFailure, "divergent barrier: other threads of the block wait at %s:%d", short_path(b->site.file), b->site.line);
  }
  b->votes += vote;
  if (++b->arrived < b->threads) {
    wait_at(is_vote ? "a vote of the block" : "sync_block", site);
    return give_way();
  }
  b->arrived = 0;
  ++state.counters.block_barriers;
  if (!is_vote) note_site(site, "sync_block");
  Thread* first = &threads[size_t(b->rank) * size_t(b->threads)];
  const uint32_t tick = ++state.tick;
  for (int i = 0; i < b->threads; ++i) {
    first[i].warp_tick = first[i].block_tick = tick;
    first[i].result = uint64_t(b->votes);
    if (first[i].lane == 0) ++first[i].warp->phase;
  }
  release(first, b->threads);
  give_way();
}

// Why nobody can go on, for the message.
void explain_deadlock() {
  const Thread* waiting = nullptr;
  for (int i = 0; i < thread_count && !waiting; ++i)
    if (!threads[size_t(i)].finished) waiting = &threads[size_t(i)];
  if (!waiting) return;
  int same = 0, finished = 0;
  const Thread* elsewhere = nullptr;
  const bool whole_cluster = strcmp(waiting->waits_at, "sync_cluster") == 0;
  const bool whole_block = strcmp(waiting->waits_at, "sync_block") == 0 || strcmp(waiting->waits_at, "a vote of the block") == 0;
  int members = 0;
  for (int i = 0; i < thread_count; ++i) {
    const Thread& t = threads[size_t(i)];
    if (!whole_cluster && (whole_block ? t.block != waiting->block : t.warp != waiting->warp)) continue;
    ++members;
    if (t.finished) ++finished;
    else if (t.wait_site.file == waiting->wait_site.file && t.wait_site.line == waiting->wait_site.line) ++same;
    else if (!elsewhere) elsewhere = &t;
  }
  char other[200] = "";
  if (elsewhere)
    snprintf(other, sizeof other, ", thread %d waits in %s at %s:%d", elsewhere->index, elsewhere->waits_at, short_path(elsewhere->wait_site.file), elsewhere->wait_site.line);
  char text[480];
  snprintf(text, sizeof text, "kernel %s, block %d, %s:%d: not all threads reach %s: %d of %d are there, %d have returned%s", state.kernel, waiting->block->index,
           short_path(waiting->wait_site.file), waiting->wait_site.line, waiting->waits_at, same, members, finished, other);
  state.faulted = true;
  state.fault = text;
  state.fault_error = cudaErrorLaunchFailure;
}

void explain_signal() {
  char text[480];
  const Thread* t = current;
  const char* what = fault_signal == SIGFPE                 ? "divides an integer by zero"
                     : in_stack_guard(fault_address)        ? "overflows its stack"
                     : in_arena(fault_address)              ? "touches device memory without ld, st, atomic or copy_async"
                                                            : "touches memory that is not the device's";
  snprintf(text, sizeof text, "kernel %s, block %d, thread %d: %s", state.kernel, t ? t->block->index : -1, t ? t->index : -1, what);
  state.faulted = true;
  state.fault = text;
  state.fault_error = cudaErrorIllegalAddress;
}

void run_cluster(int first_block, int cluster, int block_threads) {
  thread_count = cluster * block_threads;
  threads_per_block = block_threads;
  cluster_arrived = 0;
  state.cluster_tick = ++state.tick;
  if (int(threads.size()) < thread_count) threads.resize(size_t(thread_count)), copies.resize(size_t(thread_count));
  const int warps_per_block = block_threads / 32;
  if (int(warps.size()) < cluster * warps_per_block) warps.resize(size_t(cluster * warps_per_block));
  if (int(blocks.size()) < cluster) blocks.resize(size_t(cluster));
  for (int r = 0; r < cluster; ++r) {
    Block& b = blocks[size_t(r)];
    b = Block{};
    b.index = first_block + r;
    b.rank = r;
    b.threads = block_threads;
    b.cluster_tick = state.tick;
    b.shared = shared_of(r);
    memset(b.shared, 0xff, static_bytes);
    memset(b.shared + kStaticBytes, 0xff, dynamic_bytes);
    for (int w = 0; w < warps_per_block; ++w) {
      Warp& warp = warps[size_t(r * warps_per_block + w)];
      warp.block = &b;
      warp.number = r * warps_per_block + w;
      warp.first = r * block_threads + w * 32;
      warp.arrived = 0;
      warp.phase = 0;
      warp.kind = Collective::none;
    }
    for (int i = 0; i < block_threads; ++i) {
      const int n = r * block_threads + i;
      Thread& t = threads[size_t(n)];
      t.warp = &warps[size_t(r * warps_per_block + i / 32)];
      t.block = &b;
      t.index = i;
      t.lane = i & 31;
      t.id = uint32_t(r) << 10 | uint32_t(i);
      t.warp_tick = t.block_tick = t.cluster_tick = state.tick;
      t.finished = false;
      t.waits_at = "nothing";
      t.wait_site = {"", 0};
      prepare_fibre(t.fibre, n, thread_main);
    }
  }
  queue.front = queue.back = 0;
  release(threads.data(), thread_count);
  begin_block_traffic(cluster * warps_per_block);
  current = queue.take();
  switch_fibre(main_fibre, current->fibre);
  if (fault_signal != 0) explain_signal(), fault_signal = 0;
  else if (!state.faulted) explain_deadlock();
  end_block_traffic(cluster * warps_per_block);
  current = nullptr;
  if (state.faulted) {
    for (Copies& c : copies) c.open.clear(), c.groups.clear();
    forgive_stacks(thread_count);
    clear_shared_shadow();
  }
}

struct sigaction old_segv, old_fpe;

void on_signal(int number, siginfo_t* info, void* signal_context) {
  fault_address = info->si_addr;
  fault_signal = number;
  if (current != nullptr && pthread_equal(runner, pthread_self()) && divert_signal(signal_context, main_fibre)) return;
  // Not ours: let the handler that was there have it, on the second try.
  fault_signal = 0;
  sigaction(number, number == SIGFPE ? &old_fpe : &old_segv, nullptr);
}

// While a kernel runs, its wild accesses are its fault and not the process's end.
struct SignalScope {
  stack_t old_stack;
  unsigned char* memory;
  SignalScope() : memory(static_cast<unsigned char*>(malloc(kBytes))) {
    stack_t own{};
    own.ss_sp = memory;
    own.ss_size = kBytes;
    sigaltstack(&own, &old_stack);
    struct sigaction action {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, &old_segv);
    sigaction(SIGFPE, &action, &old_fpe);
  }
  ~SignalScope() {
    sigaction(SIGSEGV, &old_segv, nullptr);
    sigaction(SIGFPE, &old_fpe, nullptr);
    sigaltstack(&old_stack, nullptr);
    free(memory);
  }
  static constexpr size_t kBytes = 64 * 1024;
};

// The kernel itself, in the thread that happens to wait for it.
void execute(const char* name, const cuda::Launch& launch, void (*invoke)(void*), void* arguments) {
  if (state.faulted) return;
  main_fibre = Fibre{};
  runner = pthread_self();
  if (state.tick > 0xf0000000u) {
    clear_shadows();
    state.tick = 1;
  }
  state.random = state.options.seed * 0x9e3779b97f4a7c15u + ++state.executed;
  ++state.launch_number;
  state.launch_tick = ++state.tick;
  state.kernel = name;
  state.counters = {};
  const uint64_t exponentials_before = exponentials();
  current_block_size = launch.block;
  current_grid_size = int(launch.grid);
  current_cluster_size = launch.cluster;
  kernel_invoke = invoke;
  kernel_arguments = arguments;
  static_bytes = 0;
  dynamic_bytes = launch.shared_bytes;
  copies_used = false;

  const int64_t clusters = launch.grid / launch.cluster;
  int64_t step = 1, start = 0;
  if (state.options.seed > 1 && clusters > 1) {
    do step = int64_t(next_random() % uint64_t(clusters));
    while (std::gcd(step, clusters) != 1);
    start = int64_t(next_random() % uint64_t(clusters));
  }
  {
    SignalScope signals;
    for (int64_t i = 0; i < clusters && !state.faulted; ++i) {
      const int64_t c = state.options.seed == 1 ? clusters - 1 - i : int64_t((__int128(i) * step + start) % clusters);
      run_cluster(int(c * launch.cluster), launch.cluster, launch.block);
    }
  }
  Audit& total = state.audit[name];
  ++total.launches;
  total.bytes_loaded += state.counters.bytes_loaded;
  total.loads += state.counters.loads;
  total.bytes_stored += state.counters.bytes_stored;
  total.sectors_loaded += state.counters.sectors_loaded;
  total.sectors_stored += state.counters.sectors_stored;
  total.block_barriers += state.counters.block_barriers;
  total.cluster_barriers += state.counters.cluster_barriers;
  total.block = launch.block;
  total.cluster = launch.cluster;
  total.shared_bytes = static_bytes + dynamic_bytes;
  total.exponentials += exponentials() - exponentials_before;
}

}  // namespace

const char* short_path(const char* file) {
  const char* native = strstr(file, "native/");
  return native ? native + 7 : file;
}

void fail(Site site, int error, const char* format, ...) {
  char detail[320], text[480];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(detail, sizeof detail, format, arguments);
  va_end(arguments);
  snprintf(text, sizeof text, "kernel %s, block %d, thread %d, %s:%d: %s", state.kernel, current->block->index, current->index, short_path(site.file), site.line, detail);
  state.faulted = true;
  state.fault = text;
  state.fault_error = error;
  Thread* from = current;
  switch_fibre(from->fibre, main_fibre);
  __builtin_unreachable();
}

unsigned char* shared_memory(SharedSlot& slot, size_t bytes, const char* name) {
  if (slot.launch != state.launch_number) {
    slot.launch = state.launch_number;
    slot.offset = int(static_bytes);
    const size_t grown = (bytes + 15) / 16 * 16;
    if (static_bytes + grown > kStaticBytes || static_bytes + grown + dynamic_bytes > kSharedBytes)
      fail({name, 0}, cudaErrorLaunchOutOfResources, "shared memory must stay within %zu bytes static and %zu in all: it is %zu and %zu", kStaticBytes, kSharedBytes,
           static_bytes + grown, static_bytes + grown + dynamic_bytes);
    for (int r = 0; r < current_cluster_size; ++r) memset(shared_of(r) + static_bytes, 0xff, grown);
    static_bytes += grown;
  }
  return current->block->shared + slot.offset;
}

// At the far end, so that static memory that is met later does not move it.
unsigned char* dynamic_shared_memory(size_t& bytes) {
  bytes = dynamic_bytes;
  return current->block->shared + kStaticBytes;
}

unsigned char* map_shared(unsigned char* data, int rank, Site site) {
  if (rank < 0 || rank >= current_cluster_size)
    fail(site, cudaErrorIllegalAddress, "map_rank must name a block of the cluster: %d of %d", rank, current_cluster_size);
  return data - current->block->shared + shared_of(rank);
}

void sync_block(Site site) {
  if (!skipped(site)) arrive_block(site, 0, false);
}

int vote_block(int vote, Site site) {
  arrive_block(site, vote, true);
  return int(current->result);
}

void sync_warp(Site site) {
  if (!skipped(site)) collective(Collective::sync, 0, 0, site);
}

uint64_t collective(Collective kind, uint64_t value, int argument, Site site) {
  Thread* t = current;
  Warp* w = t->warp;
  if (w->arrived == 0) {
    w->kind = kind;
    w->site = site;
  } else if (w->kind != kind || !same_place(w->site, site)) {
    fail(site, cudaErrorLaunchFailure, "divergent warp: other lanes wait at %s:%d", short_path(w->site.file), w->site.line);
  }
  w->values[t->lane] = value;
  w->arguments[t->lane] = argument;
  if (++w->arrived < 32) {
    t->waits_at = kind == Collective::sync ? "sync_warp" : kind == Collective::ballot ? "a vote of the warp" : kind == Collective::together ? "a step of the whole warp" : "a shuffle";
    t->wait_site = site;
    give_way();
    return t->result;
  }
  w->arrived = 0;
  ++w->phase;
  Thread* lanes = &threads[size_t(w->first)];
  if (kind == Collective::sync) {
    note_site(site, "sync_warp");
    const uint32_t tick = ++state.tick;
    for (int l = 0; l < 32; ++l) lanes[l].warp_tick = tick;
  } else if (kind == Collective::ballot) {
    uint64_t bits = 0;
    for (int l = 0; l < 32; ++l) bits |= (w->values[l] & 1u) << l;
    for (int l = 0; l < 32; ++l) lanes[l].result = bits;
  } else if (kind != Collective::together) {
    for (int l = 0; l < 32; ++l) {
      const int a = w->arguments[l];
      const int source = kind == Collective::shuffle ? a & 31 : kind == Collective::shuffle_xor ? l ^ a : kind == Collective::shuffle_down ? l + a : l - a;
      lanes[l].result = w->values[source >= 0 && source < 32 ? source : l];
    }
  }
  release(lanes, 32);
  give_way();
  return t->result;
}

void together(void (*all)(void* const* lanes), void* mine, Site site) {
  Warp* w = current->warp;
  void* given[32];
  // The lane that comes last finds the others' values and does the work before any of them goes on.
  if (w->arrived == 31 && w->kind == Collective::together && same_place(w->site, site)) {
    for (int l = 0; l < 32; ++l) given[l] = l == current->lane ? mine : reinterpret_cast<void*>(w->values[l]);
    all(given);
  }
  collective(Collective::together, reinterpret_cast<uintptr_t>(mine), 0, site);
}

void sync_cluster(Site site) {
  if (skipped(site)) return;
  if (cluster_arrived == 0) {
    cluster_site = site;
  } else if (!same_place(cluster_site, site)) {
    fail(site, cudaErrorLaunchFailure, "divergent barrier: other threads of the cluster wait at %s:%d", short_path(cluster_site.file), cluster_site.line);
  }
  if (++cluster_arrived < thread_count) {
    wait_at("sync_cluster", site);
    return give_way();
  }
  cluster_arrived = 0;
  ++state.counters.cluster_barriers;
  note_site(site, "sync_cluster");
  const uint32_t tick = ++state.tick;
  for (int i = 0; i < thread_count; ++i) {
    Thread& t = threads[size_t(i)];
    t.warp_tick = t.block_tick = t.cluster_tick = tick;
    if (t.lane == 0) ++t.warp->phase;
  }
  for (int r = 0; r < current_cluster_size; ++r) blocks[size_t(r)].cluster_tick = tick;
  release(threads.data(), thread_count);
  give_way();
}

void copy_async16(void* to, const void* from, Site site) {
  global_access(from, 16, Access::load, site.file, site.line);
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0) fail(site, cudaErrorMisalignedAddress, "copy_async16 must be given 16-byte aligned shared memory");
  const Copy copy{to, from, site};
  if (!state.options.async_late) return complete(copy);
  copies_used = true;
  mark_pending(to, site);
  copies[size_t(current - threads.data())].open.push_back(copy);
}

void copy_async_commit() {
  Copies& mine = copies[size_t(current - threads.data())];
  mine.groups.push_back(std::move(mine.open));
  mine.open.clear();
}

void copy_async_wait(int pending, Site site) {
  if (skipped(site)) return;
  note_site(site, "copy_async_wait");
  Copies& mine = copies[size_t(current - threads.data())];
  while (int(mine.groups.size()) > pending) {
    for (const Copy& c : mine.groups.front()) complete(c);
    mine.groups.erase(mine.groups.begin());
  }
}

std::vector<SyncSite> sync_sites() {
  std::lock_guard guard(state.lock);
  std::vector<SyncSite> out;
  for (const auto& [where, seen] : state.sync_sites)
    out.push_back({where.first + ":" + std::to_string(where.second), seen.kind, {seen.kernels.begin(), seen.kernels.end()}});
  return out;
}

void reset_sync_sites() {
  std::lock_guard guard(state.lock);
  state.sync_sites.clear();
  last_site_kernel = nullptr;
}

void run(Context& ctx, const char* name, const cuda::Launch& launch, void (*invoke)(void*), std::shared_ptr<void> arguments, size_t bytes) {
  std::lock_guard guard(state.lock);
  if (!state.faulted) use_arguments(ctx.stream, name, arguments.get(), bytes);
  if (state.faulted) {
    ctx.refuse_device("emulator_fault", "no kernel must have failed before %s: %s", name, state.fault.c_str());
    return;
  }
  if (state.options.fail_launch != 0 && --state.options.fail_launch == 0) {
    ctx.refuse_device("launch_failed", "kernel %s must launch: the emulated device was told to refuse", name);
    return;
  }
  if (launch.shared_bytes > kSharedBytes) {
    ctx.refuse_device("launch_failed", "kernel %s must ask for at most %zu bytes of dynamic shared memory: it asks for %zu", name, kSharedBytes, launch.shared_bytes);
    return;
  }
  if (!reserve_stacks(launch.cluster * launch.block) || !reserve_shared()) {
    ctx.refuse_device("out_of_memory", "kernel %s must have stacks for %d threads: the emulated device has no more memory", name, launch.cluster * launch.block);
    return;
  }
  if (state.options.lazy) {
    enqueue(ctx.stream, [=, shape = launch] { execute(name, shape, invoke, arguments.get()); });
    return;
  }
  execute(name, launch, invoke, arguments.get());
  if (state.faulted) ctx.refuse_device("emulator_fault", "the kernel must be correct: %s", state.fault.c_str());
}

}  // namespace limbeck::emulated
