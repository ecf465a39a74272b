// The CUDA side of a build without CUDA: it says so, and how to get it.
#include "cuda/runtime.h"

namespace limbeck::cuda {
namespace {

constexpr const char* kCode = "not_built";
constexpr const char* kReason =
    "this build of limbeck has no CUDA kernels: install a prebuilt package, or build from source where nvcc 12 or later is on the PATH (npm run build:native)";

bool refuse(Context& ctx) { return ctx.refuse_device(kCode, "%s", kReason); }

}  // namespace

const Probe& probe() {
  static const Probe* answer = [] {
    auto* p = new Probe;
    p->code = kCode;
    p->reason = kReason;
    return p;
  }();
  return *answer;
}

const Kernels* kernels() { return nullptr; }
std::string matrix_product_library() { return {}; }
bool begin(Context& ctx) { return refuse(ctx); }
void finish(Context&) {}
void* allocate(Context& ctx, size_t) {
  refuse(ctx);
  return nullptr;
}
void release(int, void*) {}
bool upload(Context& ctx, void*, const void*, size_t) { return refuse(ctx); }
void* moment(Context& ctx) {
  refuse(ctx);
  return nullptr;
}
void forget(int, void*) {}
bool download(Context& ctx, void*, const void*, size_t, void*) { return refuse(ctx); }
bool copy(Context& ctx, void*, const void*, size_t) { return refuse(ctx); }
bool copy_lines(Context& ctx, void*, size_t, const void*, size_t, size_t, size_t) { return refuse(ctx); }
bool synchronize(Context& ctx) { return refuse(ctx); }
bool mark(Context& ctx, int) { return refuse(ctx); }
bool elapsed(Context& ctx, int, int, float&) { return refuse(ctx); }
MemoryStats memory(int) { return {}; }
void trim(int) {}

}  // namespace limbeck::cuda
