// The only file that knows Node-API. Generic over kernels.inc: it names no op.
#include <napi.h>

#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/codes.h"
#include "core/kernels.h"
#include "cpu/dispatch.h"
#include "cpu/threads.h"
#include "cuda/runtime.h"
#include "ops/checks.h"
#ifdef LIMBECK_EMULATED
#include "emulated/emulator.h"
#endif

#ifndef LIMBECK_VERSION
#define LIMBECK_VERSION "unknown"
#endif

namespace {

using namespace limbeck;

// ---- errors

Napi::Error to_error(Napi::Env env, const Context& ctx) {
  switch (ctx.fail) {
    case Fail::kind: return Napi::TypeError::New(env, ctx.message);
    case Fail::value: return Napi::RangeError::New(env, ctx.message);
    default: {
      Napi::Error error = Napi::Error::New(env, ctx.message);
      error.Set("code", Napi::String::New(env, ctx.code));
      return error;
    }
  }
}

void require(Napi::Env env, const Context& ctx) {
  if (!ctx.ok()) throw to_error(env, ctx);
}

// ---- device memory as a JavaScript object

struct Allocation {
  int device;
  void* data;
  size_t bytes;
  bool owned;  // false: memory of another addon, which outlives the call
  Allocation(int device, void* data, size_t bytes, bool owned = true) : device(device), data(data), bytes(bytes), owned(owned) {}
  Allocation(const Allocation&) = delete;
  Allocation& operator=(const Allocation&) = delete;
  ~Allocation() {
    if (owned) cuda::release(device, data);
  }
};

const napi_type_tag kDeviceBufferTag = {0x6c696d6265636b21, 0x646576696365206d};

class DeviceBuffer : public Napi::ObjectWrap<DeviceBuffer> {
 public:
  static Napi::Function init(Napi::Env env) {
    return DefineClass(env, "DeviceBuffer",
                       {InstanceAccessor<&DeviceBuffer::get_size>("size"), InstanceAccessor<&DeviceBuffer::get_dtype>("dtype"),
                        InstanceAccessor<&DeviceBuffer::get_device>("device"), InstanceAccessor<&DeviceBuffer::get_bytes>("bytes"),
                        InstanceMethod<&DeviceBuffer::free>("free")});
  }

  explicit DeviceBuffer(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DeviceBuffer>(info) {
    // Only allocate() below makes one: it passes the allocation as an External.
    if (info.Length() != 3 || !info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "a DeviceBuffer comes from allocate()");
    memory = std::move(*info[0].As<Napi::External<std::shared_ptr<Allocation>>>().Data());
    dtype = DType(info[1].As<Napi::Number>().Int32Value());
    size = info[2].As<Napi::Number>().Int64Value();
    napi_type_tag_object(info.Env(), info.This(), &kDeviceBufferTag);
  }

  static DeviceBuffer* from(napi_env env, napi_value value) {
    bool tagged = false;
    void* self = nullptr;
    if (napi_check_object_type_tag(env, value, &kDeviceBufferTag, &tagged) != napi_ok || !tagged) return nullptr;
    return napi_unwrap(env, value, &self) == napi_ok ? static_cast<DeviceBuffer*>(self) : nullptr;
  }

  Napi::Value get_size(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), double(size)); }
  Napi::Value get_dtype(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), kDTypeNames[int(dtype)]); }
  Napi::Value get_device(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), memory ? memory->device : -1); }
  Napi::Value get_bytes(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), double(size * kDTypeBytes[int(dtype)])); }
  Napi::Value free(const Napi::CallbackInfo& info) {
    memory.reset();
    return info.Env().Undefined();
  }

  std::shared_ptr<Allocation> memory;  // empty once freed
  int64_t size = 0;
  DType dtype = DType::float32;
};

struct Instance {
  Napi::FunctionReference device_buffer;
};

// ---- JavaScript values to kernel arguments

// What the tensors of one call agree on.
struct Call {
  napi_env env;
  Context ctx;
  bool placed = false;    // has any tensor been seen
  bool deferred = false;  // runs after JavaScript goes on: plain memory may be taken away or moved by then
  std::vector<std::shared_ptr<void>> lists = {};  // what the lists among the arguments point to
};

bool place(Call& call, int device, const char* name) {
  if (!call.placed) {
    call.placed = true;
    call.ctx.device = device;
    return true;
  }
  if (call.ctx.device == device) return true;
  return call.ctx.refuse(Fail::kind, "%s must be on the same device as the other tensors", name);
}

bool dtype_of(napi_typedarray_type type, DType& dtype) {
  switch (type) {
    case napi_float32_array: dtype = DType::float32; return true;
    case napi_float64_array: dtype = DType::float64; return true;
    case napi_int32_array: dtype = DType::int32; return true;
    case napi_uint8_array: dtype = DType::uint8; return true;
    case napi_uint16_array: dtype = DType::float16; return true;
    // A second view of the same 16 bits tells bfloat16 from float16.
    case napi_int16_array: dtype = DType::bfloat16; return true;
    default: return false;
  }
}

// SharedArrayBuffers can be neither detached nor shrunk.
bool is_shared(napi_env env, napi_value array) {
  napi_value buffer;
  bool plain = true;
  return napi_get_typedarray_info(env, array, nullptr, nullptr, nullptr, &buffer, nullptr) == napi_ok &&
         napi_is_arraybuffer(env, buffer, &plain) == napi_ok && !plain;
}

template <class Tensor> void convert_tensor(Call& call, napi_value value, const char* name, Tensor& out) {
  napi_valuetype type;
  if (napi_typeof(call.env, value, &type) != napi_ok || type == napi_undefined || type == napi_null) return;
  bool typed = false;
  if (type == napi_object && napi_is_typedarray(call.env, value, &typed) == napi_ok && typed) {
    napi_typedarray_type kind;
    size_t length;
    void* data;
    if (napi_get_typedarray_info(call.env, value, &kind, &length, &data, nullptr, nullptr) != napi_ok || !dtype_of(kind, out.dtype)) {
      call.ctx.refuse(Fail::kind, "%s must be a Float32Array, Float64Array, Int32Array, Uint8Array, Uint16Array or Int16Array", name);
      return;
    }
    if (!place(call, -1, name)) return;
    if (call.deferred && !is_shared(call.env, value)) {
      call.ctx.refuse(Fail::kind, "%s must lie in a SharedArrayBuffer to be used asynchronously", name);
      return;
    }
    out.data = length == 0 ? nullptr : data;
    out.size = int64_t(length);
    return;
  }
  if (DeviceBuffer* buffer = type == napi_object ? DeviceBuffer::from(call.env, value) : nullptr) {
    if (!buffer->memory) {
      call.ctx.refuse(Fail::kind, "%s must be live: it was disposed", name);
      return;
    }
    if (!place(call, buffer->memory->device, name)) return;
    out.data = buffer->size == 0 ? nullptr : buffer->memory->data;
    out.size = buffer->size;
    out.dtype = buffer->dtype;
    return;
  }
  call.ctx.refuse(Fail::kind, "%s must be a typed array or a device buffer", name);
}

bool convert_number(Call& call, napi_value value, const char* name, double& out) {
  if (napi_get_value_double(call.env, value, &out) == napi_ok) return true;
  bool truth;
  if (napi_get_value_bool(call.env, value, &truth) == napi_ok) {
    out = truth;
    return true;
  }
  return call.ctx.refuse(Fail::kind, "%s must be a number", name);
}

void convert(Call& call, napi_value value, const char* name, In& out) { convert_tensor(call, value, name, out); }
void convert(Call& call, napi_value value, const char* name, Out& out) { convert_tensor(call, value, name, out); }
void convert(Call& call, napi_value value, const char* name, InOut& out) { convert_tensor(call, value, name, out); }
void convert(Call& call, napi_value value, const char* name, Float& out) { convert_number(call, value, name, out); }
void convert(Call& call, napi_value value, const char* name, Int& out) {
  double number = 0;
  if (!convert_number(call, value, name, number)) return;
  if (!(std::fabs(number) <= 9007199254740991.0) || number != std::trunc(number)) {
    call.ctx.refuse(Fail::value, "%s must be a whole number: it is %g", name, number);
    return;
  }
  out = Int(number);
}

template <class T> void convert(Call& call, napi_value value, const char* name, List<T>& out) {
  bool is_array = false;
  uint32_t length = 0;
  if (napi_is_array(call.env, value, &is_array) != napi_ok || !is_array || napi_get_array_length(call.env, value, &length) != napi_ok) {
    call.ctx.refuse(Fail::kind, "%s must be an array", name);
    return;
  }
  auto items = std::make_shared<std::vector<T>>(length);
  for (uint32_t i = 0; i < length && call.ctx.ok(); i++) {
    napi_value item;
    if (napi_get_element(call.env, value, i, &item) == napi_ok) convert(call, item, name, (*items)[i]);
    else call.ctx.refuse(Fail::kind, "%s must be an array whose entries can be read", name);
  }
  out = {items->data(), Int(length)};
  call.lists.push_back(std::move(items));
}

// "In student, Float temperature" -> {"student", "temperature"}
std::vector<std::string> parameter_names(const char* schema) {
  std::vector<std::string> names;
  std::string text(schema);
  for (size_t at = 0; at < text.size();) {
    size_t comma = text.find(',', at);
    if (comma == std::string::npos) comma = text.size();
    names.push_back(text.substr(text.rfind(' ', comma - 1) + 1, comma - 1 - text.rfind(' ', comma - 1)));
    at = comma + 1;
  }
  return names;
}

// Converts and checks the arguments of a call. The table its kernel is in, or null with the reason in the call's context.
template <class... Args>
const Kernels* prepare(Call& call, napi_callback_info info, const char* schema, bool (*check)(Context&, Args...),
                       std::array<napi_value, sizeof...(Args)>& values, std::tuple<Args...>& args) {
  constexpr size_t kCount = sizeof...(Args);
  size_t given = kCount;
  napi_get_cb_info(call.env, info, &given, values.data(), nullptr, nullptr);
  Context& ctx = call.ctx;
  if (given < kCount) {
    ctx.refuse(Fail::kind, "%zu arguments are needed (%s): %zu were given", kCount, schema, given);
    return nullptr;
  }
  // Names are only wanted when something is wrong, so they are parsed then.
  auto convert_all = [&](const char* const* names) {
    [&]<size_t... I>(std::index_sequence<I...>) {
      (convert(call, values[I], names[I], std::get<I>(args)), ...);
    }(std::make_index_sequence<kCount>{});
  };
  static constexpr auto kNoNames = [] {
    std::array<const char*, kCount> names{};
    for (auto& name : names) name = "argument";
    return names;
  }();
  convert_all(kNoNames.data());
  if (!ctx.ok()) {
    const std::vector<std::string> names = parameter_names(schema);
    std::array<const char*, kCount> pointers;
    for (size_t i = 0; i < kCount; i++) pointers[i] = names[i].c_str();
    ctx = Context{};
    call.placed = false;
    convert_all(pointers.data());
  }
  const bool on_device = ctx.device >= 0;
  const Kernels* table = on_device ? cuda::kernels() : &cpu::kernels();
  if (ctx.ok() && on_device && table == nullptr) ctx.refuse_device("not_built", "CUDA is not part of this build");
  if (ctx.ok() && std::apply([&](Args... a) { return check(ctx, a...); }, args) && (!on_device || cuda::begin(ctx))) return table;
  return nullptr;
}

template <class... Args> void launch(Context& ctx, void (*kernel)(Context&, Args...), const std::tuple<Args...>& args) {
  // A kernel may ask for scratch memory; nothing it throws may cross into Node.
  try {
    std::apply([&](Args... a) { kernel(ctx, a...); }, args);
  } catch (const std::exception& error) {
    ctx.refuse_device("out_of_memory", "scratch memory is needed: %s", error.what());
  }
  if (ctx.device >= 0) cuda::finish(ctx);
}

template <class... Args>
napi_value run(napi_env env, napi_callback_info info, const char* schema, bool (*check)(Context&, Args...),
               void (*Kernels::*kernel)(Context&, Args...)) {
  std::array<napi_value, sizeof...(Args)> values;
  std::tuple<Args...> args;
  Call call{env, {}};
  if (const Kernels* table = prepare(call, info, schema, check, values, args)) launch(call.ctx, table->*kernel, args);
  if (!call.ctx.ok()) to_error(Napi::Env(env), call.ctx).ThrowAsJavaScriptException();
  return nullptr;
}

// ---- kernels that leave the event loop free

// One asynchronous call. It holds what its pointers point into; Node waits for it before an environment goes.
struct Job {
  napi_env env = nullptr;
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;
  Context ctx;
  std::function<void(Context&)> execute;
  std::vector<napi_ref> arrays;
  std::vector<std::shared_ptr<Allocation>> buffers;
  std::vector<std::shared_ptr<void>> lists;

  void hold(napi_value value) {
    bool typed = false, listed = false;
    uint32_t length = 0;
    if (napi_is_array(env, value, &listed) == napi_ok && listed && napi_get_array_length(env, value, &length) == napi_ok) {
      napi_value item;
      for (uint32_t i = 0; i < length; i++)
        if (napi_get_element(env, value, i, &item) == napi_ok) hold(item);
      return;
    }
    if (napi_is_typedarray(env, value, &typed) == napi_ok && typed) {
      napi_ref array;
      if (napi_create_reference(env, value, 1, &array) == napi_ok) arrays.push_back(array);
    } else if (napi_valuetype type; napi_typeof(env, value, &type) == napi_ok && type == napi_object) {
      if (DeviceBuffer* buffer = DeviceBuffer::from(env, value)) buffers.push_back(buffer->memory);
    }
  }

  ~Job() {
    for (napi_ref array : arrays) napi_delete_reference(env, array);
    if (work != nullptr) napi_delete_async_work(env, work);
  }
};

// The statuses are not looked at: in an environment that is going there is nobody left to tell.
void finish_job(napi_env env, napi_status status, void* data) {
  std::unique_ptr<Job> job(static_cast<Job*>(data));
  if (status != napi_ok) job->ctx.refuse_device("cancelled", "the call was cancelled");
  napi_value value = nullptr;
  if (job->ctx.ok()) {
    napi_get_undefined(env, &value);
    napi_resolve_deferred(env, job->deferred, value);
    return;
  }
  try {
    value = to_error(Napi::Env(env), job->ctx).Value();
  } catch (...) {
    napi_get_undefined(env, &value);
  }
  napi_reject_deferred(env, job->deferred, value);
}

// As run(), on a thread of libuv's. What is wrong with the arguments is thrown at once.
template <class... Args>
napi_value run_async(napi_env env, napi_callback_info info, const char* schema, bool (*check)(Context&, Args...),
                     void (*Kernels::*kernel)(Context&, Args...)) {
  std::array<napi_value, sizeof...(Args)> values;
  std::tuple<Args...> args;
  Call call{env, {}};
  call.deferred = true;
  const Kernels* table = prepare(call, info, schema, check, values, args);
  // A device runs its kernels in the order of the calls, so the launch is now and only the wait is elsewhere.
  if (table != nullptr && call.ctx.device >= 0) launch(call.ctx, table->*kernel, args);
  if (!call.ctx.ok()) {
    to_error(Napi::Env(env), call.ctx).ThrowAsJavaScriptException();
    return nullptr;
  }
  auto job = std::make_unique<Job>();
  job->env = env;
  job->ctx = call.ctx;
  if (call.ctx.device >= 0)
    job->execute = [](Context& ctx) { cuda::begin(ctx) && cuda::synchronize(ctx); };
  else
    job->execute = [entry = table->*kernel, args](Context& ctx) { launch(ctx, entry, args); };
  job->lists = std::move(call.lists);
  for (napi_value value : values) job->hold(value);
  napi_value promise, name;
  const auto execute = [](napi_env, void* data) {
    Job& job = *static_cast<Job*>(data);
    job.execute(job.ctx);
  };
  if (napi_create_promise(env, &job->deferred, &promise) != napi_ok ||
      napi_create_string_utf8(env, "limbeck", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_async_work(env, nullptr, name, execute, finish_job, job.get(), &job->work) != napi_ok ||
      napi_queue_async_work(env, job->work) != napi_ok) {
    napi_throw_error(env, nullptr, "the call must be queued, which Node refuses");
    return nullptr;
  }
  job.release();
  return promise;
}

#define K(name, ...)                                                                      \
  napi_value call_##name(napi_env env, napi_callback_info info) {                         \
    return run(env, info, #__VA_ARGS__, &checks::name, &Kernels::name);                   \
  }                                                                                       \
  napi_value call_async_##name(napi_env env, napi_callback_info info) {                   \
    return run_async(env, info, #__VA_ARGS__, &checks::name, &Kernels::name);             \
  }
#include "kernels.inc"
#undef K

// ---- memory and copies

Context on_device(const Napi::CallbackInfo& info, int device) {
  Context ctx;
  ctx.device = device;
  if (cuda::kernels() == nullptr)
    ctx.refuse_device("not_built", "CUDA is not part of this build");
  else
    cuda::begin(ctx);
  require(info.Env(), ctx);
  return ctx;
}

DeviceBuffer& live_buffer(const Napi::CallbackInfo& info, size_t index) {
  DeviceBuffer* buffer = info.Length() > index && info[index].IsObject() ? DeviceBuffer::from(info.Env(), info[index]) : nullptr;
  if (buffer == nullptr) throw Napi::TypeError::New(info.Env(), "a device buffer is needed");
  if (!buffer->memory) throw Napi::TypeError::New(info.Env(), "the tensor must be live: it was disposed");
  return *buffer;
}

// The bytes of a typed array, read anew: it may have been detached since JavaScript looked.
struct HostBytes {
  void* data = nullptr;
  size_t bytes = 0;
};

HostBytes host_bytes(Napi::Env env, Napi::Value value, size_t wanted) {
  if (!value.IsTypedArray()) throw Napi::TypeError::New(env, "a typed array is needed");
  Napi::TypedArray array = value.As<Napi::TypedArray>();
  HostBytes host;
  host.bytes = array.ByteLength();
  if (host.bytes != wanted)
    throw Napi::RangeError::New(env, "the typed array must hold " + std::to_string(wanted) + " bytes: it holds " + std::to_string(host.bytes));
  if (wanted > 0) host.data = static_cast<uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset();
  return host;
}

size_t bytes_of(const DeviceBuffer& buffer) { return size_t(buffer.size) * size_t(kDTypeBytes[int(buffer.dtype)]); }

// The (device, dtype, size) of a new buffer.
struct BufferShape {
  int device, dtype;
  double size;

  size_t bytes() const { return size_t(size) * size_t(kDTypeBytes[dtype]); }

  static BufferShape of(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (info.Length() < 3 || !info[0].IsNumber() || !info[1].IsString() || !info[2].IsNumber())
      throw Napi::TypeError::New(env, "a buffer needs (device, dtype, size)");
    const std::string name = info[1].As<Napi::String>();
    const double size = info[2].As<Napi::Number>().DoubleValue();
    int dtype = -1;
    for (size_t i = 0; i < std::size(kDTypeNames); i++)
      if (name == kDTypeNames[i]) dtype = int(i);
    if (dtype < 0) throw Napi::TypeError::New(env, "dtype must be one of the six: it is " + name);
    if (!(size >= 0 && size <= double(checks::kMaxElements) / 8) || size != std::trunc(size))
      throw Napi::RangeError::New(env, "size must be a whole number of elements: it is " + std::to_string(size));
    return {info[0].As<Napi::Number>().Int32Value(), dtype, size};
  }

  Napi::Value with(Napi::Env env, void* data, bool owned) const {
    auto memory = std::make_shared<Allocation>(device, data, bytes(), owned);
    auto passed = Napi::External<std::shared_ptr<Allocation>>::New(env, &memory);
    return env.GetInstanceData<Instance>()->device_buffer.New({passed, Napi::Number::New(env, dtype), Napi::Number::New(env, size)});
  }
};

Napi::Value allocate(const Napi::CallbackInfo& info) {
  const BufferShape shape = BufferShape::of(info);
  Context ctx = on_device(info, shape.device);
  void* data = shape.bytes() == 0 ? nullptr : cuda::allocate(ctx, shape.bytes());
  require(info.Env(), ctx);
  return shape.with(info.Env(), data, true);
}

void* pointer_argument(const Napi::CallbackInfo& info, size_t index) {
  bool lossless = false;
  const uint64_t address = info[index].As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) throw Napi::RangeError::New(info.Env(), "the pointer must fit 64 bits");
  return reinterpret_cast<void*>(static_cast<uintptr_t>(address));
}

// (device, dtype, size, pointer): memory of another addon on a CUDA device, as a buffer that does not own it.
Napi::Value borrow(const Napi::CallbackInfo& info) {
  const BufferShape shape = BufferShape::of(info);
  if (info.Length() != 4 || !info[3].IsBigInt()) throw Napi::TypeError::New(info.Env(), "borrow needs (device, dtype, size, pointer)");
  on_device(info, shape.device);
  return shape.with(info.Env(), pointer_argument(info, 3), false);
}

// (pointer, bytes): memory of another addon on the host, as an ArrayBuffer that does not own it.
Napi::Value host_memory(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() != 2 || !info[0].IsBigInt() || !info[1].IsNumber()) throw Napi::TypeError::New(env, "hostMemory needs (pointer, bytes)");
  napi_value buffer;
  const auto keep = [](napi_env, void*, void*) {};
  const size_t bytes = size_t(info[1].As<Napi::Number>().Int64Value());
  if (napi_create_external_arraybuffer(env, pointer_argument(info, 0), bytes, keep, nullptr, &buffer) != napi_ok)
    throw Napi::Error::New(env, "this Node does not take memory of others");
  return Napi::Value(env, buffer);
}

// (buffer or typed array): where it begins on its device.
Napi::Value address(const Napi::CallbackInfo& info) {
  void* data = nullptr;
  if (info.Length() == 1 && info[0].IsTypedArray() &&
      napi_get_typedarray_info(info.Env(), info[0], nullptr, nullptr, &data, nullptr, nullptr) == napi_ok)
    return Napi::BigInt::New(info.Env(), uint64_t(reinterpret_cast<uintptr_t>(data)));
  return Napi::BigInt::New(info.Env(), uint64_t(reinterpret_cast<uintptr_t>(live_buffer(info, 0).memory->data)));
}

// (typed array of fresh memory): asks for large pages, which take fewer faults and fewer walks through the page table. Where there are none, nothing.
void prefer_large_pages(const Napi::CallbackInfo& info) {
  void* data = nullptr;
  size_t count = 0;
  if (info.Length() == 1 && info[0].IsTypedArray() && napi_get_typedarray_info(info.Env(), info[0], nullptr, &count, &data, nullptr, nullptr) == napi_ok)
    cpu::prefer_large_pages(data, count * info[0].As<Napi::TypedArray>().ElementSize());
}

Napi::Value upload(const Napi::CallbackInfo& info) {
  DeviceBuffer& buffer = live_buffer(info, 0);
  Context ctx = on_device(info, buffer.memory->device);
  const HostBytes host = host_bytes(info.Env(), info[1], bytes_of(buffer));
  if (host.bytes > 0) cuda::upload(ctx, buffer.memory->data, host.data, host.bytes);
  require(info.Env(), ctx);
  return info.Env().Undefined();
}

Napi::Value download(const Napi::CallbackInfo& info) {
  DeviceBuffer& buffer = live_buffer(info, 0);
  Context ctx = on_device(info, buffer.memory->device);
  const HostBytes host = host_bytes(info.Env(), info[1], bytes_of(buffer));
  if (host.bytes > 0) cuda::download(ctx, host.data, buffer.memory->data, host.bytes);
  require(info.Env(), ctx);
  return info.Env().Undefined();
}

// Waits for the device off the main thread. It reads a snapshot taken in stream order, because an optimiser may update the
// tensor in place meanwhile, and the bytes land in memory of their own first, because the array may be detached.
class Download : public Napi::AsyncWorker {
 public:
  Download(Napi::Env env, std::shared_ptr<Allocation> memory, void* moment, size_t bytes, Napi::TypedArray target)
      : Napi::AsyncWorker(env, "limbeck:download"), deferred(env), memory(std::move(memory)), moment(moment), staging(bytes),
        target(Napi::Reference<Napi::TypedArray>::New(target, 1)) {}
  ~Download() override { cuda::forget(memory->device, moment); }

  void Execute() override {
    ctx.device = memory->device;
    if (cuda::begin(ctx) && !staging.empty()) cuda::download(ctx, staging.data(), memory->data, staging.size(), moment);
  }

  void OnOK() override {
    Napi::HandleScope scope(Env());
    if (!ctx.ok()) return deferred.Reject(to_error(Env(), ctx).Value());
    try {
      const HostBytes host = host_bytes(Env(), target.Value(), staging.size());
      if (host.bytes > 0) std::memcpy(host.data, staging.data(), host.bytes);
      deferred.Resolve(Env().Undefined());
    } catch (const Napi::Error& error) {
      deferred.Reject(error.Value());
    }
  }

  Napi::Promise::Deferred deferred;

 private:
  std::shared_ptr<Allocation> memory;
  void* moment;  // when the snapshot is there
  std::vector<uint8_t> staging;
  Napi::Reference<Napi::TypedArray> target;
  Context ctx;
};

Napi::Value download_async(const Napi::CallbackInfo& info) {
  DeviceBuffer& buffer = live_buffer(info, 0);
  Context ctx = on_device(info, buffer.memory->device);
  const size_t bytes = bytes_of(buffer);
  host_bytes(info.Env(), info[1], bytes);
  std::shared_ptr<Allocation> snapshot;
  void* moment = nullptr;
  if (bytes > 0) {
    snapshot = std::make_shared<Allocation>(ctx.device, cuda::allocate(ctx, bytes), bytes);
    require(info.Env(), ctx);
    cuda::copy(ctx, snapshot->data, buffer.memory->data, bytes);
    require(info.Env(), ctx);
    moment = cuda::moment(ctx);
    require(info.Env(), ctx);
  } else {
    snapshot = buffer.memory;
  }
  auto* worker = new Download(info.Env(), snapshot, moment, bytes, info[1].As<Napi::TypedArray>());
  Napi::Promise promise = worker->deferred.Promise();
  worker->Queue();
  return promise;
}

Napi::Value copy(const Napi::CallbackInfo& info) {
  DeviceBuffer &to = live_buffer(info, 0), &from = live_buffer(info, 1);
  if (to.memory->device != from.memory->device) throw Napi::TypeError::New(info.Env(), "both buffers must be on one device");
  if (bytes_of(to) != bytes_of(from)) throw Napi::RangeError::New(info.Env(), "both buffers must have the same size");
  Context ctx = on_device(info, to.memory->device);
  if (bytes_of(to) > 0) cuda::copy(ctx, to.memory->data, from.memory->data, bytes_of(to));
  require(info.Env(), ctx);
  return info.Env().Undefined();
}

// (to, from, lines, bytes of a line, bytes from one line to the next in to, in from): lines of one matrix into another of the same device.
Napi::Value copy_lines(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  DeviceBuffer &to = live_buffer(info, 0), &from = live_buffer(info, 1);
  if (to.memory->device != from.memory->device) throw Napi::TypeError::New(env, "both buffers must be on one device");
  size_t numbers[4];
  for (size_t i = 0; i < 4; ++i) {
    const double value = info.Length() > i + 2 && info[i + 2].IsNumber() ? info[i + 2].As<Napi::Number>().DoubleValue() : -1;
    if (!(value >= 0 && value <= 9007199254740991.0) || value != std::floor(value)) throw Napi::RangeError::New(env, "lines, bytes and strides must be whole numbers of at least 0");
    numbers[i] = size_t(value);
  }
  const size_t lines = numbers[0], bytes = numbers[1], to_stride = numbers[2], from_stride = numbers[3];
  Context ctx = on_device(info, to.memory->device);
  if (lines > 0 && bytes > 0) {
    const auto fits = [&](const DeviceBuffer& buffer, size_t stride) {
      return bytes <= stride && bytes <= bytes_of(buffer) && (lines - 1) <= (bytes_of(buffer) - bytes) / stride;
    };
    if (!fits(to, to_stride) || !fits(from, from_stride)) throw Napi::RangeError::New(env, "the lines must lie in the buffers, and not over each other");
    cuda::copy_lines(ctx, to.memory->data, to_stride, from.memory->data, from_stride, bytes, lines);
  }
  require(env, ctx);
  return env.Undefined();
}

int device_argument(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsNumber()) throw Napi::TypeError::New(info.Env(), "a device number is needed");
  return info[0].As<Napi::Number>().Int32Value();
}

Napi::Value synchronize(const Napi::CallbackInfo& info) {
  Context ctx = on_device(info, device_argument(info));
  cuda::synchronize(ctx);
  require(info.Env(), ctx);
  return info.Env().Undefined();
}

// (device, slot): notes when the work so far is done; (device, from, to): waits, and gives the milliseconds between two such notes.
Napi::Value mark(const Napi::CallbackInfo& info) {
  Context ctx = on_device(info, device_argument(info));
  cuda::mark(ctx, info[1].ToNumber().Int32Value());
  require(info.Env(), ctx);
  return info.Env().Undefined();
}

Napi::Value elapsed(const Napi::CallbackInfo& info) {
  Context ctx = on_device(info, device_argument(info));
  float milliseconds = 0;
  cuda::elapsed(ctx, info[1].ToNumber().Int32Value(), info[2].ToNumber().Int32Value(), milliseconds);
  require(info.Env(), ctx);
  return Napi::Number::New(info.Env(), milliseconds);
}

Napi::Value memory(const Napi::CallbackInfo& info) {
  const cuda::MemoryStats stats = cuda::memory(device_argument(info));
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("liveBytes", double(stats.live_bytes));
  out.Set("liveBlocks", double(stats.live_blocks));
  out.Set("pooledBytes", double(stats.pooled_bytes));
  out.Set("peakBytes", double(stats.peak_bytes));
  return out;
}

Napi::Value trim(const Napi::CallbackInfo& info) {
  cuda::trim(device_argument(info));
  return info.Env().Undefined();
}

// ---- what is there

Napi::Value string_or_null(Napi::Env env, const char* text) { return text ? Napi::Value(Napi::String::New(env, text)) : env.Null(); }

Napi::Value info(const Napi::CallbackInfo& call) {
  Napi::Env env = call.Env();
  const cuda::Probe& probe = cuda::probe();
  Napi::Array sets = Napi::Array::New(env);
  for (const char* name : cpu::instruction_sets()) sets.Set(sets.Length(), name);

  Napi::Array devices = Napi::Array::New(env);
  for (const cuda::DeviceInfo& device : probe.devices) {
    Napi::Object one = Napi::Object::New(env);
    one.Set("name", device.name);
    one.Set("major", device.major);
    one.Set("minor", device.minor);
    one.Set("multiprocessors", device.multiprocessors);
    one.Set("totalBytes", double(device.total_bytes));
    one.Set("freeBytes", double(device.free_bytes));
    one.Set("cacheBytes", double(device.cache_bytes));
    one.Set("usable", device.usable);
    one.Set("code", device.code);
    one.Set("reason", device.reason);
    devices.Set(devices.Length(), one);
  }
  Napi::Object cuda = Napi::Object::New(env);
  cuda.Set("built", probe.built);
  cuda.Set("emulated", probe.emulated);
  cuda.Set("architectures", probe.architectures);
  cuda.Set("driverVersion", probe.driver_version);
  cuda.Set("runtimeVersion", probe.runtime_version);
  cuda.Set("code", probe.code);
  cuda.Set("reason", probe.reason);
  cuda.Set("devices", devices);

  Napi::Object out = Napi::Object::New(env);
  out.Set("version", LIMBECK_VERSION);
  out.Set("instructionSet", cpu::instruction_set());
  out.Set("instructionSets", sets);
  out.Set("instructionSetError", string_or_null(env, cpu::instruction_set_error()));
  out.Set("threads", cpu::threads());
  out.Set("matrixProduct", cpu::matrix_product_library());
  out.Set("cuda", cuda);
  return out;
}

Napi::Value cuda_matrix_product(const Napi::CallbackInfo& call) { return Napi::String::New(call.Env(), cuda::matrix_product_library()); }

Napi::Value set_threads(const Napi::CallbackInfo& info) {
  const int count = device_argument(info);
  if (count < 1 || count > 256) throw Napi::RangeError::New(info.Env(), "threads must be in 1..256: it is " + std::to_string(count));
  cpu::set_threads(count);
  return info.Env().Undefined();
}

Napi::Object codes(Napi::Env env) {
  Napi::Object out = Napi::Object::New(env);
  Napi::Array list;
#define LIMBECK_NAME_ENTRY(name) list.Set(list.Length(), #name);
#define LIMBECK_LIST(key, entries)  \
  list = Napi::Array::New(env);     \
  entries(LIMBECK_NAME_ENTRY)       \
  out.Set(key, list);
  LIMBECK_LIST("target", LIMBECK_TARGETS)
  LIMBECK_LIST("residual", LIMBECK_RESIDUALS)
  LIMBECK_LIST("reduction", LIMBECK_REDUCTIONS)
  LIMBECK_LIST("denominator", LIMBECK_DENOMINATORS)
  LIMBECK_LIST("unary", LIMBECK_UNARY)
  LIMBECK_LIST("activation", LIMBECK_ACTIVATIONS)
  LIMBECK_LIST("binary", LIMBECK_BINARY)
  LIMBECK_LIST("broadcast", LIMBECK_BROADCASTS)
  LIMBECK_LIST("reduce", LIMBECK_REDUCES)
  LIMBECK_LIST("scan", LIMBECK_SCANS)
  LIMBECK_LIST("sample_method", LIMBECK_SAMPLE_METHODS)
  LIMBECK_LIST("label_function", LIMBECK_LABEL_TARGETS)
  LIMBECK_LIST("pool_function", LIMBECK_POOLS)
  LIMBECK_LIST("divergence", LIMBECK_DIVERGENCES)
#undef LIMBECK_LIST
#undef LIMBECK_NAME_ENTRY
  return out;
}

// ---- the emulated device's own controls

#ifdef LIMBECK_EMULATED
#include "emulated/controls.inc"
#endif

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* instance = new Instance;
  env.SetInstanceData(instance);
  instance->device_buffer = Napi::Persistent(DeviceBuffer::init(env));

  Napi::Object kernels = Napi::Object::New(env), deferred = Napi::Object::New(env), schema = Napi::Object::New(env);
#define K(name, ...)                                                                          \
  {                                                                                           \
    napi_value function;                                                                      \
    napi_create_function(env, #name, NAPI_AUTO_LENGTH, call_##name, nullptr, &function);      \
    kernels.Set(#name, Napi::Value(env, function));                                           \
    napi_create_function(env, #name, NAPI_AUTO_LENGTH, call_async_##name, nullptr, &function); \
    deferred.Set(#name, Napi::Value(env, function));                                          \
    schema.Set(#name, #__VA_ARGS__);                                                          \
  }
#include "kernels.inc"
#undef K
  exports.Set("kernels", kernels);
  exports.Set("kernelsAsync", deferred);
  exports.Set("schema", schema);
  exports.Set("codes", codes(env));
  exports.Set("info", Napi::Function::New(env, info, "info"));
  exports.Set("cudaMatrixProduct", Napi::Function::New(env, cuda_matrix_product, "cudaMatrixProduct"));
  exports.Set("setThreads", Napi::Function::New(env, set_threads, "setThreads"));
  exports.Set("allocate", Napi::Function::New(env, allocate, "allocate"));
  exports.Set("borrow", Napi::Function::New(env, borrow, "borrow"));
  exports.Set("hostMemory", Napi::Function::New(env, host_memory, "hostMemory"));
  exports.Set("address", Napi::Function::New(env, address, "address"));
  exports.Set("preferLargePages", Napi::Function::New(env, prefer_large_pages, "preferLargePages"));
  exports.Set("upload", Napi::Function::New(env, upload, "upload"));
  exports.Set("download", Napi::Function::New(env, download, "download"));
  exports.Set("downloadAsync", Napi::Function::New(env, download_async, "downloadAsync"));
  exports.Set("copy", Napi::Function::New(env, copy, "copy"));
  exports.Set("copyLines", Napi::Function::New(env, copy_lines, "copyLines"));
  exports.Set("synchronize", Napi::Function::New(env, synchronize, "synchronize"));
  exports.Set("mark", Napi::Function::New(env, mark, "mark"));
  exports.Set("elapsed", Napi::Function::New(env, elapsed, "elapsed"));
  exports.Set("memory", Napi::Function::New(env, memory, "memory"));
  exports.Set("trim", Napi::Function::New(env, trim, "trim"));
#ifdef LIMBECK_EMULATED
  exports.Set("emulator", emulator_controls(env));
#endif
  return exports;
}

}  // namespace

NODE_API_MODULE(limbeck, init)
