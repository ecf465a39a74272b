// The thread pool: detached threads that sleep between calls, so that neither exit nor fork has to wait for them.
#include "cpu/threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace limbeck::cpu {
namespace {

constexpr int kMostThreads = 256;

void pause_core() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The quota of the control group and of all its parents, in processors; 0 where there is none.
double control_group_limit() {
  double limit = 0;
  const auto keep = [&](double processors) {
    if (processors > 0 && (limit == 0 || processors < limit)) limit = processors;
  };
  const auto read_max = [&](const char* path) {
    if (FILE* file = fopen(path, "re")) {
      double quota = 0, period = 0;
      if (fscanf(file, "%lf %lf", &quota, &period) == 2 && period > 0) keep(quota / period);
      fclose(file);
    }
  };
  const auto read_number = [](const char* path) {
    double value = -1;
    if (FILE* file = fopen(path, "re")) {
      if (fscanf(file, "%lf", &value) != 1) value = -1;
      fclose(file);
    }
    return value;
  };
  char line[2048], path[2304];
  if (FILE* file = fopen("/proc/self/cgroup", "re")) {
    while (fgets(line, sizeof line, file)) {
      if (strncmp(line, "0::", 3) != 0) continue;
      char* group = line + 3;
      group[strcspn(group, "\n")] = 0;
      for (;;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
        read_max(path);
        char* slash = strrchr(group, '/');
        if (!slash) break;
        *slash = 0;
      }
    }
    fclose(file);
  }
  read_max("/sys/fs/cgroup/cpu.max");
  const double quota = read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), period = read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (quota > 0 && period > 0) keep(quota / period);
  return limit;
}

int default_threads() {
  if (const char* asked = getenv("LIMBECK_THREADS")) {
    char* end = nullptr;
    const long count = strtol(asked, &end, 10);
    if (end != asked && *end == 0 && count >= 1) return count < kMostThreads ? static_cast<int>(count) : kMostThreads;
  }
  long count = sysconf(_SC_NPROCESSORS_ONLN);
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) count = CPU_COUNT(&allowed);
  const double limit = control_group_limit();
  if (limit > 0 && limit < static_cast<double>(count)) count = static_cast<long>(ceil(limit));
#endif
  return count < 1 ? 1 : count < kMostThreads ? static_cast<int>(count) : kMostThreads;
}

struct Job {
  void (*body)(void*, int64_t, int64_t);
  void* context;
  Pieces pieces;

  void work() {
    for (int64_t begin, end; pieces.next(begin, end);) body(context, begin, end);
  }
};

struct Pool {
  std::atomic_flag busy = ATOMIC_FLAG_INIT;  // held by the caller whose job is running
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t wake = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
  Job* job = nullptr;             // under the mutex
  int places = 0;                 // helpers that may still join the job, under the mutex
  int started = 0;                // threads in existence; touched by the holder of `busy` only
  std::atomic<int> running{0};    // helpers inside the job; rises under the mutex
  std::atomic<uint32_t> calls{0}; // rises with every job: what a waiting thread watches before it sleeps

  static void* serve(void* self) {
    static_cast<Pool*>(self)->loop();
    return nullptr;
  }

  [[noreturn]] void loop() {
    uint32_t seen = 0;
    for (;;) {
      // A short watch catches the next call of a tight loop without a system call.
      for (int turn = 0; turn < 500 && calls.load(std::memory_order_acquire) == seen; ++turn) pause_core();
      pthread_mutex_lock(&mutex);
      while (!job || places == 0) {
        seen = calls.load(std::memory_order_relaxed);
        pthread_cond_wait(&wake, &mutex);
      }
      seen = calls.load(std::memory_order_relaxed);
      --places;
      running.fetch_add(1, std::memory_order_relaxed);
      Job* mine = job;
      pthread_mutex_unlock(&mutex);
      mine->work();
      // The count falls under the mutex: the caller cannot miss it and the job is not touched after it.
      pthread_mutex_lock(&mutex);
      if (running.fetch_sub(1, std::memory_order_release) == 1) pthread_cond_signal(&done);
      pthread_mutex_unlock(&mutex);
    }
  }

  // Threads that cannot be had are done without.
  void grow(int helpers) {
    if (started >= helpers) return;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    while (started < helpers) {
      pthread_t thread;
      if (pthread_create(&thread, &attributes, serve, this) != 0) break;
      ++started;
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
  }

  void run(Job& mine, int helpers) {
    grow(helpers);
    pthread_mutex_lock(&mutex);
    job = &mine;
    places = helpers < started ? helpers : started;
    calls.fetch_add(1, std::memory_order_release);
    if (places == 1) pthread_cond_signal(&wake);
    else if (places > 1) pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&mutex);
    mine.work();
    pthread_mutex_lock(&mutex);
    job = nullptr;
    places = 0;
    const bool wait = running.load(std::memory_order_relaxed) != 0;
    pthread_mutex_unlock(&mutex);
    if (!wait) return;
    for (int turn = 0; turn < 2000 && running.load(std::memory_order_acquire) != 0; ++turn) pause_core();
    pthread_mutex_lock(&mutex);
    while (running.load(std::memory_order_relaxed) != 0) pthread_cond_wait(&done, &mutex);
    pthread_mutex_unlock(&mutex);
  }
};

std::atomic<Pool*> current_pool{nullptr};
std::atomic<int> wanted_threads{0};

// A child process has none of its parent's threads: it starts a new pool and leaves the old one be.
void forget_pool() { current_pool.store(nullptr, std::memory_order_relaxed); }

// Never freed: threads may sleep in it until the process is gone.
Pool* pool() {
  Pool* seen = current_pool.load(std::memory_order_acquire);
  if (seen) return seen;
  static std::atomic_flag watched = ATOMIC_FLAG_INIT;
  if (!watched.test_and_set()) pthread_atfork(nullptr, nullptr, forget_pool);
  Pool* fresh = new (std::nothrow) Pool;
  if (!fresh) return nullptr;
  if (current_pool.compare_exchange_strong(seen, fresh)) return fresh;
  delete fresh;
  return seen;
}

struct Scratch {
  void* data = nullptr;
  size_t bytes = 0;
  ~Scratch() { free(data); }
};
thread_local Scratch thread_scratch[3];

}  // namespace

int threads() {
  int count = wanted_threads.load(std::memory_order_relaxed);
  if (count == 0) {
    const int found = default_threads();
    count = wanted_threads.compare_exchange_strong(count, found) ? found : count;
  }
  return count;
}

void set_threads(int count) { wanted_threads.store(count < 1 ? 1 : count < kMostThreads ? count : kMostThreads, std::memory_order_relaxed); }

void parallel(int64_t count, int64_t grain, void (*body)(void*, int64_t, int64_t), void* context) {
  if (count <= 0) return;
  if (grain < 1) grain = 1;
  const int64_t pieces = count / grain, most = threads();
  const int workers = static_cast<int>(pieces < most ? pieces : most);
  Pool* shared = workers > 1 ? pool() : nullptr;
  if (!shared || shared->busy.test_and_set(std::memory_order_acquire)) return body(context, 0, count);
  Job job{body, context, {count, grain, workers}};
  shared->run(job, workers - 1);
  shared->busy.clear(std::memory_order_release);
}

size_t last_cache() {
  static const size_t bytes = [] {
    long found = 0;
#if defined(__linux__)
    // Of the cache itself: the C library's number may be that of all its copies in the processor.
    if (FILE* file = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "re")) {
      char unit = 0;
      if (fscanf(file, "%ld%c", &found, &unit) >= 1) found *= unit == 'K' ? 1024 : unit == 'M' ? 1024 * 1024 : 1;
      fclose(file);
    }
    if (found > 0) return static_cast<size_t>(found);
#endif
#if defined(_SC_LEVEL3_CACHE_SIZE)
    found = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
    return found > 0 ? static_cast<size_t>(found) : size_t(32) << 20;
  }();
  return bytes;
}

void prefer_large_pages(void* data, size_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t kPage = uintptr_t(2) << 20;
  const uintptr_t at = reinterpret_cast<uintptr_t>(data), begin = (at + kPage - 1) / kPage * kPage, end = (at + bytes) / kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

void* scratch(size_t bytes, int slot) {
  Scratch& mine = thread_scratch[slot];
  if (mine.data && bytes <= mine.bytes) return mine.data;
  free(mine.data);
  mine.bytes = 0;
  const size_t rounded = (bytes + 4096) / 4096 * 4096;
  mine.data = aligned_alloc(64, rounded);
  if (mine.data) mine.bytes = rounded;
  return mine.data;
}

}  // namespace limbeck::cpu
