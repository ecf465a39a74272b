// Fibres: a stack each and a switch of about ten instructions; ucontext where that is not written.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && !defined(LIMBECK_UCONTEXT)
#define LIMBECK_SWITCH_X86_64 1
#else
#include <ucontext.h>
#endif

namespace limbeck::emulated {

struct Fibre {
  void* stack_pointer = nullptr;
  unsigned char* bottom = nullptr;  // of the stack, above its guard page
  size_t size = 0;
  void* sanitizer = nullptr;
#if !defined(LIMBECK_SWITCH_X86_64)
  ucontext_t context;
#endif
};

bool reserve_stacks(int count);
// `entry` runs at the first switch and must never return.
void prepare_fibre(Fibre& fibre, int number, void (*entry)());
void switch_fibre(Fibre& from, Fibre& to);
// First call in every fibre.
void fibre_entered();
// Stacks that a fault left in the middle of a call may be used again.
void forgive_stacks(int count);
bool in_stack_guard(const void* address);
// For signal handlers: changes the interrupted context so that it goes on in `to`. False where that is not possible.
bool divert_signal(void* signal_context, Fibre& to);

}  // namespace limbeck::emulated
