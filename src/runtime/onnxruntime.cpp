// Sessions of ONNX Runtime.
#include <onnxruntime_c_api.h>
#include <onnxruntime_session_options_config_keys.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mcompress/runtime.h"
#include "onnx/runtime_bytes.h"
#include "runtime/counting.h"
#include "runtime/engine.h"
#include "runtime/executed_model.h"
#include "runtime/feeds.h"
#include "runtime/model_facts.h"
#include "runtime/observe.h"
#include "runtime/scratch.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Stage = RuntimeFailure::Stage;

// From this many bytes of large tensors on, the runtime's own graph is written with its tensors
// beside it: a single message ends at 2 GiB.
constexpr std::uint64_t kInlineGraphLimit = 1'500'000'000;

// Numbers agree with ONNX up to the 4-bit integers; later ones are taken from this header.
DataType data_type(ONNXTensorElementDataType type) {
  return type <= ONNX_TENSOR_ELEMENT_DATA_TYPE_INT4 ? static_cast<DataType>(type)
                                                    : DataType::kUndefined;
}

bool can_hand_over(const Tensor& tensor) {
  return !tensor.is_opaque() && tensor.dtype() <= DataType::kInt4 &&
         tensor.dtype() != DataType::kComplex64 && tensor.dtype() != DataType::kComplex128;
}

GraphOptimizationLevel level_of(Optimisation optimisation) {
  switch (optimisation) {
    case Optimisation::kNone:
      return ORT_DISABLE_ALL;
    case Optimisation::kBasic:
      return ORT_ENABLE_BASIC;
    case Optimisation::kExtended:
      return ORT_ENABLE_EXTENDED;
    case Optimisation::kAll:
      break;
  }
  return ORT_ENABLE_ALL;
}

Result<Owned<OrtSessionOptions>> make_options(const SessionOptions& options) {
  OrtSessionOptions* raw = nullptr;
  MCOMPRESS_TRY(check(g_api->CreateSessionOptions(&raw)));
  Owned<OrtSessionOptions> result(raw);
  MCOMPRESS_TRY(check(g_api->SetIntraOpNumThreads(raw, std::max(options.threads, 1))));
  MCOMPRESS_TRY(check(g_api->SetInterOpNumThreads(raw, 1)));
  MCOMPRESS_TRY(check(g_api->SetSessionExecutionMode(raw, ORT_SEQUENTIAL)));
  MCOMPRESS_TRY(
      check(g_api->SetSessionGraphOptimizationLevel(raw, level_of(options.optimisation))));
  MCOMPRESS_TRY(check(g_api->SetDeterministicCompute(raw, true)));
  MCOMPRESS_TRY(
      check(g_api->AddSessionConfigEntry(raw, kOrtSessionOptionsConfigAllowIntraOpSpinning, "0")));
  if (!options.prepack) {
    MCOMPRESS_TRY(
        check(g_api->AddSessionConfigEntry(raw, kOrtSessionOptionsConfigDisablePrepacking, "1")));
  }
  if (!options.observed.empty()) {
    MCOMPRESS_ASSIGN(OrtCustomOpDomain * domain, observer_domain(*g_api));
    MCOMPRESS_TRY(check(g_api->AddCustomOpDomain(raw, domain)));
  }
  if (!options.memory_arena) {
    MCOMPRESS_TRY(check(g_api->DisableCpuMemArena(raw)));
    MCOMPRESS_TRY(check(g_api->DisableMemPattern(raw)));
  }
  if (options.count_memory) {
    MCOMPRESS_ASSIGN(const Engine* ready, engine());
    MCOMPRESS_TRY(register_counting_allocator(*ready));
    MCOMPRESS_TRY(
        check(g_api->AddSessionConfigEntry(raw, kOrtSessionOptionsConfigUseEnvAllocators, "1")));
    // Planned blocks would hide what is alive when.
    MCOMPRESS_TRY(check(g_api->DisableMemPattern(raw)));
  }
  if (!options.optimised_model_path.empty()) {
    MCOMPRESS_TRY(
        check(g_api->SetOptimizedModelFilePath(raw, options.optimised_model_path.c_str())));
  }
  return result;
}

// Dimensions are said to be none both for a scalar and for a value of unknown rank: `known` is
// what the model says, when it is at hand.
Result<TypeInfo> read_type(const OrtTypeInfo& info, const TypeInfo* known) {
  TypeInfo type;
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;  // owned by `info`
  MCOMPRESS_TRY(check(g_api->CastTypeInfoToTensorInfo(&info, &tensor)));
  if (tensor == nullptr) return type;
  ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  MCOMPRESS_TRY(check(g_api->GetTensorElementType(tensor, &element)));
  type.element = data_type(element);
  std::size_t rank = 0;
  MCOMPRESS_TRY(check(g_api->GetDimensionsCount(tensor, &rank)));
  if (rank == 0) {
    if (known != nullptr) type.shape = known->shape;
    return type;
  }
  std::vector<std::int64_t> dims(rank);
  std::vector<const char*> symbols(rank);
  MCOMPRESS_TRY(check(g_api->GetDimensions(tensor, dims.data(), rank)));
  MCOMPRESS_TRY(check(g_api->GetSymbolicDimensions(tensor, symbols.data(), rank)));
  type.shape.emplace(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    Dim& dim = (*type.shape)[i];
    if (dims[i] >= 0) {
      dim.size = dims[i];
    } else if (symbols[i] != nullptr) {
      dim.symbol = symbols[i];
    }
  }
  return type;
}

using CountFn = OrtStatusPtr(ORT_API_CALL*)(const OrtSession*, std::size_t*);
using NameFn = OrtStatusPtr(ORT_API_CALL*)(const OrtSession*, std::size_t, OrtAllocator*, char**);
using TypeFn = OrtStatusPtr(ORT_API_CALL*)(const OrtSession*, std::size_t, OrtTypeInfo**);

Result<std::vector<PortInfo>> read_ports(const OrtSession& session, OrtAllocator& allocator,
                                         const KnownTypes& known, CountFn count_of, NameFn name_of,
                                         TypeFn type_of) {
  std::size_t count = 0;
  MCOMPRESS_TRY(check(count_of(&session, &count)));
  std::vector<PortInfo> ports(count);
  for (std::size_t i = 0; i < count; ++i) {
    char* name = nullptr;
    MCOMPRESS_TRY(check(name_of(&session, i, &allocator, &name)));
    ports[i].name = name;
    allocator.Free(&allocator, name);
    OrtTypeInfo* raw = nullptr;
    MCOMPRESS_TRY(check(type_of(&session, i, &raw)));
    const Owned<OrtTypeInfo> info(raw);
    const auto found = known.find(ports[i].name);
    MCOMPRESS_ASSIGN(ports[i].type,
                     read_type(*info, found == known.end() ? nullptr : found->second));
  }
  return ports;
}

// A tensor's bytes as the runtime wants them, kept as long as this lives.
struct Handed {
  Pinned pin;
  std::vector<std::byte> copy;  // only for bytes that are not aligned to their elements
  Owned<OrtValue> value;
};

Result<Handed> hand_over(const NamedTensor& named, const OrtMemoryInfo& memory) {
  static std::byte nothing{};
  const Tensor& tensor = named.tensor;
  Location where;
  where.subject = named.name;
  if (!can_hand_over(tensor)) {
    return Error(Code::kUnsupported, "tensor-type",
                 "a " + dtype_name(tensor.dtype()) + " tensor can not be handed over",
                 std::move(where));
  }
  Handed result;
  MCOMPRESS_ASSIGN(result.pin, tensor.storage()->pin(0, tensor.byte_size()));
  std::span<const std::byte> bytes = result.pin.bytes();
  const DTypeInfo* type = find_dtype(tensor.dtype());
  const std::size_t alignment = type == nullptr ? 1 : std::max<std::size_t>(type->bits / 8, 1);
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignment != 0) {
    result.copy.assign(bytes.begin(), bytes.end());
    bytes = result.copy;
  }
  // The runtime only reads inputs and initializers, whatever its signature says.
  void* data = bytes.empty() ? &nothing : const_cast<std::byte*>(bytes.data());
  OrtValue* raw = nullptr;
  MCOMPRESS_TRY(check(g_api->CreateTensorWithDataAsOrtValue(
      &memory, data, bytes.size(), tensor.dims().data(), tensor.dims().size(),
      static_cast<ONNXTensorElementDataType>(tensor.dtype()), &raw)));
  result.value.reset(raw);
  return result;
}

// What a session must keep while it lives.
struct Belongings {
  std::vector<Handed> weights;  // only where the runtime reads them in place
  std::unique_ptr<ScratchFolder> profile;
  bool counts = false;
  std::string file;  // the model's, for errors
};

class OrtSessionImpl final : public Session {
 public:
  static Result<std::unique_ptr<Session>> make(Owned<OrtSession> session, const Engine& engine,
                                               const KnownTypes& known, Belongings belongings) {
    auto result = std::unique_ptr<OrtSessionImpl>(new OrtSessionImpl);
    const OrtSession& handle = *session;
    MCOMPRESS_ASSIGN(result->inputs_,
                     read_ports(handle, *engine.allocator, known, g_api->SessionGetInputCount,
                                g_api->SessionGetInputName, g_api->SessionGetInputTypeInfo));
    MCOMPRESS_ASSIGN(result->outputs_,
                     read_ports(handle, *engine.allocator, known, g_api->SessionGetOutputCount,
                                g_api->SessionGetOutputName, g_api->SessionGetOutputTypeInfo));
    MCOMPRESS_ASSIGN(
        result->overridable_,
        read_ports(handle, *engine.allocator, known, g_api->SessionGetOverridableInitializerCount,
                   g_api->SessionGetOverridableInitializerName,
                   g_api->SessionGetOverridableInitializerTypeInfo));
    result->engine_ = &engine;
    result->belongings_ = std::move(belongings);
    result->session_ = std::move(session);
    return std::unique_ptr<Session>(std::move(result));
  }

  // The runtime writes its trace when it ends: before the folder goes.
  ~OrtSessionImpl() override { session_.reset(); }

  std::span<const PortInfo> inputs() const override { return inputs_; }
  std::span<const PortInfo> outputs() const override { return outputs_; }

  Result<std::vector<Tensor>> run(std::span<const NamedTensor> feeds,
                                  std::span<const std::string> fetch) override {
    std::vector<Tensor> results(fetch.empty() ? outputs_.size() : fetch.size());
    MCOMPRESS_TRY(run(feeds, fetch, [&](std::size_t i, const TensorView& view) {
      // Copied even where sharing were possible: a result may be a feed or an initializer that
      // passes through, and those belong to others.
      results[i] = make_bytes_tensor(view.dtype, {view.dims.begin(), view.dims.end()},
                                     {view.bytes.begin(), view.bytes.end()});
      return ok_status();
    }));
    return results;
  }

  Status run(std::span<const NamedTensor> feeds, std::span<const std::string> fetch,
             const ReceiveFn& receive) override {
    MCOMPRESS_ASSIGN(const std::vector<NamedTensor> narrowed, narrowed_feeds(inputs_, feeds));
    if (!narrowed.empty()) feeds = narrowed;
    MCOMPRESS_TRY(check_feeds(inputs_, overridable_, feeds));
    MCOMPRESS_TRY(check_fetch(outputs_, fetch));
    std::vector<Handed> handed;
    std::vector<const OrtValue*> values;
    std::vector<const char*> names, wanted;
    for (const NamedTensor& feed : feeds) {
      MCOMPRESS_ASSIGN(Handed one, hand_over(feed, *engine_->memory));
      values.push_back(one.value.get());
      names.push_back(feed.name.c_str());
      handed.push_back(std::move(one));
    }
    for (const std::string& name : fetch) wanted.push_back(name.c_str());
    if (fetch.empty()) {
      for (const PortInfo& port : outputs_) wanted.push_back(port.name.c_str());
    }
    std::vector<OrtValue*> raw(wanted.size(), nullptr);
    if (belongings_.counts) start_counting();
    OrtStatus* status = g_api->Run(session_.get(), nullptr, names.data(), values.data(),
                                   names.size(), wanted.data(), wanted.size(), raw.data());
    std::vector<Owned<OrtValue>> results(raw.begin(), raw.end());
    MCOMPRESS_TRY(check(status, Stage::kRun, belongings_.file));
    for (std::size_t i = 0; i < results.size(); ++i) {
      MCOMPRESS_TRY(deliver(i, wanted[i], results[i].get(), receive));
      results[i].reset();  // one result less in memory while the next is looked at
    }
    return ok_status();
  }

  Status observe(std::span<const NamedTensor> feeds, const ReceiveFn& receive) override {
    if (outputs_.empty()) return ok_status();
    Observation observation(receive);
    const auto ignore = [](std::size_t, const TensorView&) { return ok_status(); };
    // The last output is a watching node's: one number instead of the model's results.
    Status status = run(feeds, std::span(&outputs_.back().name, 1), ignore);
    if (observation.failure()) return std::move(*observation.failure());
    return status;
  }

  Result<MemoryUse> memory_use() override {
    if (!belongings_.counts) {
      return Error(Code::kUsage, "count-off", "the session was opened without counting memory");
    }
    return counted_memory();
  }

  Result<std::vector<ProfileEvent>> profile() override {
    MCOMPRESS_ASSIGN(const std::string text, trace());
    return parse_profile(text, "the runtime's trace");
  }

  Result<std::string> trace() override {
    if (belongings_.profile == nullptr) {
      return Error(Code::kUsage, "profile-off", "the session was opened without profiling");
    }
    char* raw = nullptr;
    MCOMPRESS_TRY(check(g_api->SessionEndProfiling(session_.get(), engine_->allocator, &raw)));
    const std::string file = raw;
    engine_->allocator->Free(engine_->allocator, raw);
    MCOMPRESS_ASSIGN(std::string text, read_scratch_file(file));
    belongings_.profile.reset();
    return text;
  }

 private:
  OrtSessionImpl() = default;

  static Status deliver(std::size_t index, const char* name, OrtValue* value,
                        const ReceiveFn& receive) {
    if (value == nullptr) return ok_status();
    int is_tensor = 0, has_value = 0;
    MCOMPRESS_TRY(check(g_api->HasValue(value, &has_value)));
    if (has_value == 0) return ok_status();
    MCOMPRESS_TRY(check(g_api->IsTensor(value, &is_tensor)));
    if (is_tensor == 0) return ok_status();
    OrtTensorTypeAndShapeInfo* raw = nullptr;
    MCOMPRESS_TRY(check(g_api->GetTensorTypeAndShape(value, &raw)));
    const Owned<OrtTensorTypeAndShapeInfo> info(raw);
    ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    std::size_t rank = 0;
    MCOMPRESS_TRY(check(g_api->GetTensorElementType(raw, &element)));
    MCOMPRESS_TRY(check(g_api->GetDimensionsCount(raw, &rank)));
    std::vector<std::int64_t> dims(rank);
    MCOMPRESS_TRY(check(g_api->GetDimensions(raw, dims.data(), rank)));
    TensorView view;
    view.dtype = data_type(element);
    view.dims = dims;
    Location where;
    where.subject = name;
    const std::optional<std::int64_t> count = element_count(dims);
    const std::optional<std::uint64_t> size =
        count.has_value() ? packed_bytes(view.dtype, *count) : std::nullopt;
    if (!size.has_value()) {
      return Error(Code::kUnsupported, "result-not-numeric",
                   "results of type " + dtype_name(view.dtype) + " can not be read",
                   std::move(where));
    }
    void* data = nullptr;
    if (*size > 0) MCOMPRESS_TRY(check(g_api->GetTensorMutableData(value, &data)));
    view.bytes = {static_cast<const std::byte*>(data), static_cast<std::size_t>(*size)};
    return receive(index, view);
  }

  const Engine* engine_ = nullptr;
  std::vector<PortInfo> inputs_, outputs_, overridable_;
  Belongings belongings_;
  Owned<OrtSession> session_;
};

Status start_profile(OrtSessionOptions& options, Belongings& belongings) {
  MCOMPRESS_ASSIGN(belongings.profile, ScratchFolder::make());
  const std::filesystem::path prefix = belongings.profile->path() / "profile";
  return check(g_api->EnableProfiling(&options, prefix.c_str()));
}

Result<std::vector<Handed>> hand_over_all(const LargeTensors& large, const Engine& engine) {
  std::vector<Handed> weights;
  weights.reserve(large.size());
  for (const auto& [name, tensor] : large) {
    MCOMPRESS_ASSIGN(Handed one, hand_over({name, tensor}, *engine.memory));
    weights.push_back(std::move(one));
  }
  return weights;
}

Result<Owned<OrtSession>> create(const Engine& engine, const OrtSessionOptions& options,
                                 const std::string& bytes, std::string_view file) {
  OrtSession* raw = nullptr;
  MCOMPRESS_TRY(check(
      g_api->CreateSessionFromArray(engine.environment, bytes.data(), bytes.size(), &options, &raw),
      Stage::kOpen, file));
  return Owned<OrtSession>(raw);
}

// The runtime copies the tensors before its optimisers look at them.
Result<Owned<OrtSession>> create_with_copies(const Engine& engine, OrtSessionOptions& options,
                                             const std::string& bytes, const LargeTensors& large,
                                             const std::vector<Handed>& weights,
                                             std::string_view file) {
  std::vector<const char*> names;
  std::vector<const OrtValue*> values;
  for (std::size_t i = 0; i < large.size(); ++i) {
    names.push_back(large[i].first.c_str());
    values.push_back(weights[i].value.get());
  }
  if (!large.empty()) {
    MCOMPRESS_TRY(
        check(g_api->AddExternalInitializers(&options, names.data(), values.data(), names.size())));
  }
  return create(engine, options, bytes, file);
}

// The runtime reads the tensors where they are. Only without optimisers: those look for the bytes
// in the named file, which exists (that much is checked) and is empty.
Result<Owned<OrtSession>> create_in_place(const Engine& engine, OrtSessionOptions& options,
                                          const std::string& bytes, const LargeTensors& large,
                                          const std::vector<Handed>& weights,
                                          std::string_view file) {
  MCOMPRESS_ASSIGN(const auto folder, ScratchFolder::make());
  MCOMPRESS_TRY(make_scratch_file(folder->path() / kMemoryLocation));
  MCOMPRESS_TRY(check(g_api->AddSessionConfigEntry(
      &options, kOrtSessionOptionsModelExternalInitializersFileFolderPath,
      folder->path().c_str())));
  for (std::size_t i = 0; i < large.size(); ++i) {
    MCOMPRESS_TRY(
        check(g_api->AddInitializer(&options, large[i].first.c_str(), weights[i].value.get())));
  }
  return create(engine, options, bytes, file);
}

class OnnxRuntime final : public Runtime {
 public:
  OnnxRuntime() : name_(std::string("onnxruntime ") + OrtGetApiBase()->GetVersionString()) {}
  ~OnnxRuntime() override { await_engine(); }

  void warm_up() override { start_engine(); }

  std::string_view name() const override { return name_; }

  Result<std::unique_ptr<Session>> open(const Model& model,
                                        const SessionOptions& options) override {
    if (options.observed.empty()) return open_exposed(model, options, options.extra_outputs);
    MCOMPRESS_ASSIGN(ObservedModel watched, add_observers(model, options.observed));
    watched.outputs.insert(watched.outputs.begin(), options.extra_outputs.begin(),
                           options.extra_outputs.end());
    return open_exposed(*watched.model, options, watched.outputs);
  }

  Result<std::unique_ptr<Session>> open_exposed(const Model& model, const SessionOptions& options,
                                                std::span<const std::string> extra_outputs) {
    LargeTensors large;
    MCOMPRESS_ASSIGN(std::string bytes, runtime_model_bytes(model, extra_outputs, &large));
    const bool all = std::all_of(large.begin(), large.end(),
                                 [](const auto& entry) { return can_hand_over(entry.second); });
    if (!all) {  // types that only the model's own bytes can carry
      large.clear();
      MCOMPRESS_ASSIGN(bytes, runtime_model_bytes(model, extra_outputs, nullptr));
    }
    MCOMPRESS_ASSIGN(const Engine* ready, engine());
    Belongings belongings;
    belongings.file = model.source().string();
    belongings.counts = options.count_memory;
    MCOMPRESS_ASSIGN(belongings.weights, hand_over_all(large, *ready));
    Owned<OrtSession> session;
    if (!large.empty() && options.optimisation == Optimisation::kNone &&
        options.optimised_model_path.empty()) {
      MCOMPRESS_ASSIGN(const auto settings, make_options(options));
      if (options.profile) MCOMPRESS_TRY(start_profile(*settings, belongings));
      auto made =
          create_in_place(*ready, *settings, bytes, large, belongings.weights, belongings.file);
      if (made.ok()) session = std::move(made).value();
    }
    if (session == nullptr) {
      MCOMPRESS_ASSIGN(const auto settings, make_options(options));
      if (options.profile) MCOMPRESS_TRY(start_profile(*settings, belongings));
      MCOMPRESS_TRY(set_graph_data_file(*settings, options, total_bytes(large)));
      MCOMPRESS_ASSIGN(session, create_with_copies(*ready, *settings, bytes, large,
                                                   belongings.weights, belongings.file));
      belongings.weights.clear();
      for (const auto& [name, tensor] : large) tensor.storage()->release(0, tensor.byte_size());
    }
    return OrtSessionImpl::make(std::move(session), *ready, known_types(model),
                                std::move(belongings));
  }

  Result<std::unique_ptr<Session>> open_file(const std::filesystem::path& path,
                                             const SessionOptions& options) override {
    if (!options.extra_outputs.empty() || !options.observed.empty()) {
      Diagnostics ignored;
      MCOMPRESS_ASSIGN(const auto model, load_model(path, {}, ignored));
      return open(*model, options);
    }
    MCOMPRESS_ASSIGN(const Engine* ready, engine());
    MCOMPRESS_ASSIGN(const auto settings, make_options(options));
    Belongings belongings;
    belongings.file = path.string();
    belongings.counts = options.count_memory;
    if (options.profile) MCOMPRESS_TRY(start_profile(*settings, belongings));
    OrtSession* raw = nullptr;
    MCOMPRESS_TRY(
        check(g_api->CreateSession(ready->environment, path.c_str(), settings.get(), &raw),
              Stage::kOpen, belongings.file));
    return OrtSessionImpl::make(Owned<OrtSession>(raw), *ready, {}, std::move(belongings));
  }

  Result<std::vector<std::pair<std::string, std::int64_t>>> executed_operators(
      const Model& model, const SessionOptions& options) override {
    MCOMPRESS_ASSIGN(const ExecutedModel executed, executed_model(*this, model, options));
    return count_operators(*executed.model);
  }

 private:
  static Status set_graph_data_file(OrtSessionOptions& settings, const SessionOptions& options,
                                    std::uint64_t bytes) {
    if (options.optimised_model_path.empty() || bytes < kInlineGraphLimit) return ok_status();
    const std::string name = options.optimised_model_path.filename().string() + ".data";
    MCOMPRESS_TRY(check(g_api->AddSessionConfigEntry(
        &settings, kOrtSessionOptionsOptimizedModelExternalInitializersFileName, name.c_str())));
    return check(g_api->AddSessionConfigEntry(
        &settings, kOrtSessionOptionsOptimizedModelExternalInitializersMinSizeInBytes, "1024"));
  }

  std::string name_;
};

}  // namespace

Result<std::shared_ptr<Runtime>> find_runtime(std::string_view wanted) {
  if (wanted != "onnxruntime") {
    return Error(Code::kUnsupported, "runtime-unknown",
                 "there is no runtime '" + std::string(wanted) + "'", {},
                 "the only one is 'onnxruntime'");
  }
  return std::shared_ptr<Runtime>(std::make_shared<OnnxRuntime>());
}

}  // namespace mcompress
