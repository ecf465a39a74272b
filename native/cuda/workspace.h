// Device memory for the length of one call; it goes back to the pool in stream order, after the launches that use it.
#pragma once
#include "cuda/runtime.h"

namespace limbeck::cuda {

class Workspace {
 public:
  Workspace(Context& ctx, size_t bytes) : device_(ctx.device), data_(allocate(ctx, bytes)) {}
  ~Workspace() { release(device_, data_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  template <class T> T* as() const { return static_cast<T*>(data_); }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  int device_;
  void* data_;
};

}  // namespace limbeck::cuda
