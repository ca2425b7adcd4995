#include "runtime/engine.h"

#include <stdlib.h>

#include <array>
#include <atomic>
#include <future>
#include <string>
#include <system_error>
#include <utility>

#include "support/try.h"

namespace mcompress {

const OrtApi* g_api = nullptr;

Status check(OrtStatus* raw, RuntimeFailure::Stage stage, std::string_view file) {
  if (raw == nullptr) return ok_status();
  const Owned<OrtStatus> status(raw);
  const OrtErrorCode code = g_api->GetErrorCode(raw);
  RuntimeFailure failure;
  failure.stage = stage;
  failure.not_implemented = code == ORT_NOT_IMPLEMENTED;
  failure.no_such_file = code == ORT_NO_SUCHFILE;
  failure.text = g_api->GetErrorMessage(raw);
  failure.file = file;
  return runtime_error(failure);
}

namespace {

// What the runtime logs as an error it also returns; a library does not print.
void ORT_API_CALL drop_log(void*, OrtLoggingLevel, const char*, const char*, const char*,
                           const char*) {}

// Never released: the runtime's own statics may be gone before ours.
Engine g_engine;
std::optional<Error> g_failure;
std::atomic<bool> g_begun = false;

Status fill_engine() {
  g_api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  if (g_api == nullptr) {
    return Error(Code::kUnsupported, "runtime-too-old",
                 std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() +
                     " is older than the one mcompress was built for (1." +
                     std::to_string(ORT_API_VERSION) + ")");
  }
  MCOMPRESS_TRY(check(g_api->CreateEnvWithCustomLogger(drop_log, nullptr, ORT_LOGGING_LEVEL_ERROR,
                                                       "mcompress", &g_engine.environment)));
  MCOMPRESS_TRY(check(g_api->DisableTelemetryEvents(g_engine.environment)));
  MCOMPRESS_TRY(
      check(g_api->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &g_engine.memory)));
  return check(g_api->GetAllocatorWithDefaultOptions(&g_engine.allocator));
}

// Relu over one float, opset 13: the smallest model that has a kernel.
constexpr std::array<unsigned char, 61> kTinyModel = {
    0x08, 0x07, 0x3a, 0x33, 0x0a, 0x0c, 0x0a, 0x01, 'x',  0x12, 0x01, 'y',  0x22, 0x04, 'R',  'e',
    'l',  'u',  0x12, 0x01, 'g',  0x5a, 0x0f, 0x0a, 0x01, 'x',  0x12, 0x0a, 0x0a, 0x08, 0x08, 0x01,
    0x12, 0x04, 0x0a, 0x02, 0x08, 0x01, 0x62, 0x0f, 0x0a, 0x01, 'y',  0x12, 0x0a, 0x0a, 0x08, 0x08,
    0x01, 0x12, 0x04, 0x0a, 0x02, 0x08, 0x01, 0x42, 0x04, 0x0a, 0x00, 0x10, 0x0d};

// The first session of a process builds the kernel registries (5 ms): let it be this one.
Status warm_up() {
  OrtSessionOptions* options = nullptr;
  MCOMPRESS_TRY(check(g_api->CreateSessionOptions(&options)));
  const Owned<OrtSessionOptions> keep(options);
  MCOMPRESS_TRY(check(g_api->SetIntraOpNumThreads(options, 1)));
  OrtSession* session = nullptr;
  MCOMPRESS_TRY(check(g_api->CreateSessionFromArray(g_engine.environment, kTinyModel.data(),
                                                    kTinyModel.size(), options, &session)));
  g_api->ReleaseSession(session);
  return ok_status();
}

void make_engine() {
  Status status = fill_engine();
  if (status.ok()) status = warm_up();
  if (!status.ok()) g_failure = std::move(status).error();
}

const std::shared_future<void>& engine_started() {
  // Never destroyed: a runtime that somebody keeps in a static object may end after it.
  static const auto* const started = new std::shared_future<void>([] {
    try {
      return std::async(std::launch::async, make_engine).share();
    } catch (const std::system_error&) {  // no thread to be had
      return std::async(std::launch::deferred, make_engine).share();
    }
  }());
  return *started;
}

}  // namespace

void start_engine() {
  // Builds with telemetry keep a database in the user's home and send from it, from the moment the
  // environment is made: too late for DisableTelemetryEvents. Read once, by the runtime.
  static const int opted_out = ::setenv("ORT_DISABLE_TELEMETRY", "1", 1);
  static_cast<void>(opted_out);
  g_begun.store(true);
  engine_started();
}

void await_engine() {
  if (g_begun.load()) engine_started().wait();
}

Result<const Engine*> engine() {
  start_engine();
  await_engine();
  if (g_failure) return *g_failure;
  return const_cast<const Engine*>(&g_engine);
}

}  // namespace mcompress
