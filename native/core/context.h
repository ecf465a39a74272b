// One native call: where it runs and the first thing that went wrong.
#pragma once
#include <cstdarg>
#include <cstdint>
#include <cstdio>

namespace limbeck {

// kind: wrong type; value: wrong value; device: a LimbeckError with a code.
enum class Fail : uint8_t { none, kind, value, device };

struct Context {
  int device = -1;         // -1: CPU, otherwise the CUDA ordinal
  void* stream = nullptr;  // cudaStream_t of that device
  Fail fail = Fail::none;
  char code[32] = "";      // stable code, for Fail::device
  char message[480] = "";

  bool ok() const { return fail == Fail::none; }

  // Keeps the first failure; later ones are its consequences. Returns false, so that checks can `return ctx.refuse(...)`.
  __attribute__((format(printf, 3, 4))) bool refuse(Fail kind, const char* format, ...) {
    if (fail != Fail::none) return false;
    fail = kind;
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return false;
  }

  __attribute__((format(printf, 3, 4))) bool refuse_device(const char* stable_code, const char* format, ...) {
    if (fail != Fail::none) return false;
    fail = Fail::device;
    snprintf(code, sizeof code, "%s", stable_code);
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return false;
  }
};

}  // namespace limbeck
