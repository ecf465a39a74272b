// cuBLAS by dlopen: the library, a handle for each device, and the one call that is made of it.
// LIMBECK_CUBLAS=OFF leaves it out; a path names the library. The emulated device uses one only by its path.
#include "cuda/cublas.h"

#include <cstdlib>
#include <map>
#include <mutex>

#include "cuda/runtime.h"
#if defined(__CUDACC__)
#include <cuda_runtime_api.h>
#else
#include "emulated/include/cuda_runtime_api.h"
#include "emulated/state.h"
#endif
#if defined(__linux__)
#include <dlfcn.h>
#endif

namespace limbeck::cuda {
namespace {

// Of cublas_api.h and library_types.h; enumerations are ints in C.
constexpr int kOk = 0, kExecutionFailed = 13, kInternalError = 14;
constexpr int kPlain = 0, kTransposed = 1;          // cublasOperation_t
constexpr int kFloat = 0, kHalf = 2, kBfloat = 14;  // cudaDataType_t: CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF
constexpr int kComputeFloat = 68;                   // CUBLAS_COMPUTE_32F: no TF32
constexpr int kSumsInFloat = 16;                    // CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION
constexpr int kAnyAlgorithm = -1;                   // CUBLAS_GEMM_DEFAULT
constexpr size_t kWorkspace = size_t(32) << 20;     // what NVIDIA advises for sm_90; with a workspace of ours bits repeat

struct Library {
  int (*create)(void** handle) = nullptr;
  int (*destroy)(void* handle) = nullptr;
  int (*version)(void* handle, int* version) = nullptr;
  int (*set_stream)(void* handle, cudaStream_t stream) = nullptr;
  int (*set_workspace)(void* handle, void* workspace, size_t bytes) = nullptr;
  int (*set_math_mode)(void* handle, int mode) = nullptr;
  int (*multiply)(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a, int lda, const void* b, int type_b, int ldb,
                  const void* beta, void* c, int type_c, int ldc, int compute, int algorithm) = nullptr;
  bool usable = false;
  std::string refused;  // why the library that was asked for is not
};

#if defined(__linux__)
template <class F> bool find(void* handle, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(handle, name));
  return function != nullptr;
}

bool open(Library& library, const char* name) {
  void* handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* error = dlerror();
    library.refused = error != nullptr ? error : name;
    return false;
  }
  library.usable = find(handle, "cublasCreate_v2", library.create) && find(handle, "cublasDestroy_v2", library.destroy) &&
                   find(handle, "cublasGetVersion_v2", library.version) && find(handle, "cublasSetStream_v2", library.set_stream) &&
                   find(handle, "cublasSetWorkspace_v2", library.set_workspace) && find(handle, "cublasSetMathMode", library.set_math_mode) &&
                   find(handle, "cublasGemmEx", library.multiply);
  // Never closed: the driver may still call into it at exit.
  if (!library.usable) library.refused = std::string(name) + " lacks a function of cuBLAS 12 or later";
  return library.usable;
}

Library opened() {
  Library library;
  const char* asked = std::getenv("LIMBECK_CUBLAS");
  const std::string wanted = asked == nullptr ? "" : asked;
  if (wanted == "OFF" || wanted == "off") return library;
  if (wanted.find('/') != std::string::npos) {
    open(library, wanted.c_str());
    return library;
  }
  if (!wanted.empty() && wanted != "AUTO" && wanted != "auto") {
    library.refused = "LIMBECK_CUBLAS must be AUTO, OFF or a path: it is " + wanted;
    return library;
  }
#if defined(__CUDACC__)
  for (const char* name : {"libcublas.so.13", "libcublas.so.12"})
    if (open(library, name)) break;
  library.refused.clear();
#endif
  return library;
}
#else
Library opened() { return {}; }
#endif

Library& library() {
  static Library* once = new Library(opened());
  return *once;
}

// A handle serves one call at a time.
struct Device {
  void* handle = nullptr;
  bool tried = false;
};
std::mutex mutex;

// Under the mutex, on the device of ctx. Null where cuBLAS cannot start there: memory is short, or the card is too old for it.
void* handle_of(const Context& ctx) {
  static auto* devices = new std::map<int, Device>;
  Device& device = (*devices)[ctx.device];
  if (device.tried) return device.handle;
  device.tried = true;
  const Library& cublas = library();
  void *handle = nullptr, *workspace = nullptr;
  if (cublas.create(&handle) != kOk) return nullptr;
  if (cudaMalloc(&workspace, kWorkspace) != cudaSuccess) {
    cudaGetLastError();
    cublas.destroy(handle);
    return nullptr;
  }
  // The workspace belongs to the stream that is set, so it comes after it.
  if (cublas.set_stream(handle, static_cast<cudaStream_t>(ctx.stream)) != kOk || cublas.set_workspace(handle, workspace, kWorkspace) != kOk ||
      cublas.set_math_mode(handle, kSumsInFloat) != kOk) {
    cublas.destroy(handle);
    cudaFree(workspace);
    return nullptr;
  }
  return device.handle = handle;
}

int type_of(DType dtype) { return dtype == DType::float32 ? kFloat : dtype == DType::float16 ? kHalf : kBfloat; }

}  // namespace

bool multiplied_by_cublas(Context& ctx, const Product& p) {
  const bool is_taken = p.a.dtype == p.b.dtype && (p.c.dtype == p.a.dtype || p.c.dtype == DType::float32) && p.k > 0 && p.m <= INT32_MAX && p.n <= INT32_MAX && p.k <= INT32_MAX && p.a_stride <= INT32_MAX &&
                        p.b_stride <= INT32_MAX && p.c_stride <= INT32_MAX;
  if (!is_taken || !library().usable) return false;
  std::lock_guard<std::mutex> lock(mutex);
  void* handle = handle_of(ctx);
  if (handle == nullptr) return false;
  const int type = type_of(p.a.dtype), type_c = type_of(p.c.dtype);
  const float beta = p.accumulate ? 1.0f : 0.0f;
  // cuBLAS counts down columns: what it calls cᵀ = op(b)ᵀ·op(a)ᵀ is our c by rows.
  const auto multiply = [=, q = p](const void* a, const void* b, void* c) {
    return library().multiply(handle, q.transpose_b ? kTransposed : kPlain, q.transpose_a ? kTransposed : kPlain, int(q.n), int(q.m), int(q.k), &q.scale, b, type,
                              int(q.b_stride), a, type, int(q.a_stride), &beta, c, type_c, int(q.c_stride), kComputeFloat, kAnyAlgorithm);
  };
#if defined(__CUDACC__)
  const int status = multiply(p.a.data, p.b.data, p.c.data);
#else
  // Device addresses have no memory behind them, and the stream's earlier work may not be done yet.
  int status = kOk;
  const auto work = [=, q = p] {
    const auto host = [](const void* data, Int size, DType dtype) { return emulated::host_address(data, size_t(size) * kDTypeBytes[int(dtype)]); };
    const auto extent = [](Int lines, Int run, Int stride) { return (lines - 1) * stride + run; };
    return multiply(host(q.a.data, q.transpose_a ? extent(q.k, q.m, q.a_stride) : extent(q.m, q.k, q.a_stride), q.a.dtype),
                    host(q.b.data, q.transpose_b ? extent(q.n, q.k, q.b_stride) : extent(q.k, q.n, q.b_stride), q.b.dtype),
                    host(q.c.data, extent(q.m, q.n, q.c_stride), q.c.dtype));
  };
  std::lock_guard<std::recursive_mutex> device(emulated::state.lock);
  if (emulated::state.options.lazy) emulated::enqueue(ctx.stream, [work] { work(); });
  else status = work();
#endif
  if (status == kOk) return true;
  // Anything else was refused before it began: types or sizes that this version or this card does not take.
  if (status != kExecutionFailed && status != kInternalError) return false;
  ctx.refuse_device("device_failed", "cublasGemmEx must succeed: status %d", status);
  return true;
}

std::string matrix_product_library() {
  const Library& cublas = library();
  if (!cublas.usable) return cublas.refused.empty() ? "limbeck" : "limbeck (" + cublas.refused + ")";
  // The version needs no handle since cuBLAS 11.
  int version = 0;
  if (cublas.version(nullptr, &version) != kOk) return "cuBLAS";
  return "cuBLAS " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
}

}  // namespace limbeck::cuda
