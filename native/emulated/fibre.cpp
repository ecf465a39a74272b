// Stacks with guard pages, and the switch between them, annotated for AddressSanitizer.
#include "emulated/fibre.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define LIMBECK_ASAN 1
#endif

namespace limbeck::emulated {
namespace {

#if defined(LIMBECK_ASAN)
constexpr size_t kStack = 256 * 1024;
#else
constexpr size_t kStack = 64 * 1024;
#endif
constexpr size_t kGuard = 4096;
constexpr int kChunk = 256;

std::vector<unsigned char*> chunks;
Fibre* left = nullptr;  // the fibre that the last switch came from

unsigned char* stack(int number) {
  return chunks[size_t(number / kChunk)] + size_t(number % kChunk) * (kStack + kGuard) + kGuard;
}

}  // namespace

#if defined(LIMBECK_SWITCH_X86_64)
// Saves what a call must preserve, changes stacks, restores. limbeck_resume is where a diverted signal goes on.
extern "C" void limbeck_switch(void** save, void* load);
extern "C" void limbeck_resume();
asm(R"(
.text
.hidden limbeck_switch
.hidden limbeck_resume
.globl limbeck_switch
.globl limbeck_resume
.type limbeck_switch,@function
limbeck_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
limbeck_resume:
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size limbeck_switch,.-limbeck_switch
)");
#endif

bool reserve_stacks(int count) {
  while (int(chunks.size()) * kChunk < count) {
    void* chunk = mmap(nullptr, kChunk * (kStack + kGuard), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (chunk == MAP_FAILED) return false;
    for (int i = 0; i < kChunk; ++i) mprotect(static_cast<unsigned char*>(chunk) + size_t(i) * (kStack + kGuard), kGuard, PROT_NONE);
    chunks.push_back(static_cast<unsigned char*>(chunk));
  }
  return true;
}

void prepare_fibre(Fibre& fibre, int number, void (*entry)()) {
  fibre.bottom = stack(number);
  fibre.size = kStack;
  fibre.sanitizer = nullptr;
#if defined(LIMBECK_SWITCH_X86_64)
  // Tops are spread over the first-level cache's sets; all stacks would share one otherwise.
  void** top = reinterpret_cast<void**>(fibre.bottom + kStack - size_t(number % 31) * 128);
  top[-1] = nullptr;
  top[-2] = reinterpret_cast<void*>(entry);
  for (int i = 3; i <= 8; ++i) top[-i] = nullptr;
  fibre.stack_pointer = top - 8;
#else
  getcontext(&fibre.context);
  fibre.context.uc_stack.ss_sp = fibre.bottom;
  fibre.context.uc_stack.ss_size = kStack - size_t(number % 31) * 128;
  fibre.context.uc_link = nullptr;
  makecontext(&fibre.context, entry, 0);
#endif
}

void switch_fibre(Fibre& from, Fibre& to) {
  left = &from;
#if defined(LIMBECK_ASAN)
  __sanitizer_start_switch_fiber(&from.sanitizer, to.bottom, to.size);
#endif
#if defined(LIMBECK_SWITCH_X86_64)
  limbeck_switch(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
#if defined(LIMBECK_ASAN)
  __sanitizer_finish_switch_fiber(from.sanitizer, nullptr, nullptr);
#endif
}

void fibre_entered() {
#if defined(LIMBECK_ASAN)
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  // The thread's own stack is only known from here.
  if (left->bottom == nullptr) left->bottom = static_cast<unsigned char*>(const_cast<void*>(bottom)), left->size = size;
#endif
}

void forgive_stacks([[maybe_unused]] int count) {
#if defined(LIMBECK_ASAN)
  for (int i = 0; i < count; ++i) __asan_unpoison_memory_region(stack(i), kStack);
#endif
}

bool in_stack_guard(const void* address) {
  for (unsigned char* chunk : chunks) {
    const size_t offset = size_t(static_cast<const unsigned char*>(address) - chunk);
    if (offset < kChunk * (kStack + kGuard) && offset % (kStack + kGuard) < kGuard) return true;
  }
  return false;
}

bool divert_signal([[maybe_unused]] void* signal_context, [[maybe_unused]] Fibre& to) {
#if defined(LIMBECK_SWITCH_X86_64) && defined(__linux__)
#if defined(LIMBECK_ASAN)
  void* abandoned = nullptr;
  __sanitizer_start_switch_fiber(&abandoned, to.bottom, to.size);
#endif
  auto* registers = static_cast<ucontext_t*>(signal_context)->uc_mcontext.gregs;
  registers[REG_RSP] = greg_t(to.stack_pointer);
  registers[REG_RIP] = greg_t(&limbeck_resume);
  return true;
#else
  return false;
#endif
}

}  // namespace limbeck::emulated
