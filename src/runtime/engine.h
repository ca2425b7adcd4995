// The one environment of ONNX Runtime in this process, and what every use of its C interface
// needs. ONNX Runtime's headers stay in this folder.
#pragma once

#include <onnxruntime_c_api.h>

#include <memory>
#include <optional>
#include <string_view>

#include "mcompress/status.h"
#include "runtime/messages.h"

namespace mcompress {

extern const OrtApi* g_api;  // set once, before any object below exists

struct Release {
  void operator()(OrtSession* p) const { g_api->ReleaseSession(p); }
  void operator()(OrtSessionOptions* p) const { g_api->ReleaseSessionOptions(p); }
  void operator()(OrtValue* p) const { g_api->ReleaseValue(p); }
  void operator()(OrtTypeInfo* p) const { g_api->ReleaseTypeInfo(p); }
  void operator()(OrtTensorTypeAndShapeInfo* p) const { g_api->ReleaseTensorTypeAndShapeInfo(p); }
  void operator()(OrtStatus* p) const { g_api->ReleaseStatus(p); }
};
template <class T>
using Owned = std::unique_ptr<T, Release>;

// The status is released. `file` is the model's, for the error.
Status check(OrtStatus* status, RuntimeFailure::Stage stage = RuntimeFailure::Stage::kSetUp,
             std::string_view file = {});

struct Engine {
  OrtEnv* environment = nullptr;
  OrtMemoryInfo* memory = nullptr;
  OrtAllocator* allocator = nullptr;
};

// The environment registers thousands of schemas, about 30 ms: that work starts beside the
// caller's own (reading a model, say) and is waited for by the first session.
void start_engine();
// Waits for what was started. To be called before the process may end: what the runtime registers
// while it starts is destroyed at exit before anything of ours could wait for it.
void await_engine();
Result<const Engine*> engine();

}  // namespace mcompress
