#include "runtime/observe.h"

#include <onnxruntime_c_api.h>

#include <algorithm>
#include <exception>
#include <map>
#include <memory>
#include <utility>

#include "mcompress/edit.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr const char* kDomain = "mcompress.observe";
constexpr const char* kOperator = "Observe";
constexpr std::int64_t kNobody = -1;

thread_local Observation* t_current = nullptr;

const OrtApi* g_observe_api = nullptr;  // set before a kernel can exist

struct Kernel {
  std::int64_t slot = kNobody;
};

OrtStatusPtr ORT_API_CALL create_kernel(const OrtCustomOp*, const OrtApi* api,
                                        const OrtKernelInfo* info, void** out) {
  auto kernel = std::unique_ptr<Kernel>(new (std::nothrow) Kernel);
  if (kernel == nullptr) return api->CreateStatus(ORT_FAIL, "out of memory");
  if (OrtStatus* failed = api->KernelInfoGetAttribute_int64(info, "slot", &kernel->slot)) {
    return failed;
  }
  *out = kernel.release();
  return nullptr;
}

OrtStatusPtr look_at(const OrtApi& api, const OrtValue& value, std::size_t slot) {
  int is_tensor = 0;
  if (OrtStatus* failed = api.IsTensor(&value, &is_tensor)) return failed;
  if (is_tensor == 0) return nullptr;
  OrtTensorTypeAndShapeInfo* raw = nullptr;
  if (OrtStatus* failed = api.GetTensorTypeAndShape(&value, &raw)) return failed;
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)> info(
      raw, api.ReleaseTensorTypeAndShapeInfo);
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::size_t rank = 0;
  if (OrtStatus* failed = api.GetTensorElementType(raw, &type)) return failed;
  if (OrtStatus* failed = api.GetDimensionsCount(raw, &rank)) return failed;
  std::vector<std::int64_t> dims(rank);
  if (OrtStatus* failed = api.GetDimensions(raw, dims.data(), rank)) return failed;
  TensorView view;
  view.dtype = static_cast<DataType>(type);
  view.dims = dims;
  const auto bytes = packed_bytes(view.dtype, element_count(dims).value_or(0));
  if (!bytes) return nullptr;  // texts
  void* data = nullptr;
  // The signature asks for a value that may change; nothing is written.
  if (OrtStatus* failed = api.GetTensorMutableData(const_cast<OrtValue*>(&value), &data)) {
    return failed;
  }
  view.bytes = {static_cast<const std::byte*>(data), static_cast<std::size_t>(*bytes)};
  Observation* const observation = Observation::current();
  if (observation == nullptr || observation->failure()) return nullptr;
  observation->deliver(slot, view);
  return observation->failure() ? api.CreateStatus(ORT_FAIL, "the observer failed") : nullptr;
}

OrtStatusPtr ORT_API_CALL run_kernel(void* kernel, OrtKernelContext* context) {
  const OrtApi& api = *g_observe_api;
  try {
    OrtValue* out = nullptr;
    const std::int64_t one = 1;
    void* data = nullptr;
    if (OrtStatus* failed = api.KernelContext_GetOutput(context, 0, &one, 1, &out)) return failed;
    if (OrtStatus* failed = api.GetTensorMutableData(out, &data)) return failed;
    *static_cast<std::int64_t*>(data) = 0;
    const std::int64_t slot = static_cast<const Kernel*>(kernel)->slot;
    if (slot == kNobody) return nullptr;
    const OrtValue* in = nullptr;
    if (OrtStatus* failed = api.KernelContext_GetInput(context, 0, &in)) return failed;
    return in == nullptr ? nullptr : look_at(api, *in, static_cast<std::size_t>(slot));
  } catch (const std::exception& error) {
    return api.CreateStatus(ORT_FAIL, error.what());
  }
}

struct Operator : OrtCustomOp {
  Operator() : OrtCustomOp{} {
    version = ORT_API_VERSION;
    GetName = [](const OrtCustomOp*) { return kOperator; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
    GetInputTypeCount = [](const OrtCustomOp*) -> std::size_t { return 1; };
    GetOutputTypeCount = [](const OrtCustomOp*) -> std::size_t { return 1; };
    // Undefined stands for any type.
    GetInputType = [](const OrtCustomOp*, std::size_t) {
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    };
    GetOutputType = [](const OrtCustomOp*, std::size_t) {
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    };
    GetInputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return OrtMemTypeDefault; };
    GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
    GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
    GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
    GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return 1; };
    KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
    CreateKernelV2 = create_kernel;
    KernelComputeV2 = run_kernel;
  }
};

}  // namespace

Observation::Observation(const Session::ReceiveFn& receive)
    : receive_(receive), outer_(std::exchange(t_current, this)) {}

Observation::~Observation() { t_current = outer_; }

Observation* Observation::current() { return t_current; }

void Observation::deliver(std::size_t index, const TensorView& view) {
  Status status = receive_(index, view);
  if (!status.ok()) failure_ = std::move(status).error();
}

Result<OrtCustomOpDomain*> observer_domain(const OrtApi& api) {
  // Lives until the process ends: sessions keep pointers to both.
  static const Operator observe;
  static OrtCustomOpDomain* const domain = [&api]() -> OrtCustomOpDomain* {
    g_observe_api = &api;
    OrtCustomOpDomain* made = nullptr;
    if (OrtStatus* failed = api.CreateCustomOpDomain(kDomain, &made)) {
      api.ReleaseStatus(failed);
      return nullptr;
    }
    if (OrtStatus* failed = api.CustomOpDomain_Add(made, &observe)) {
      api.ReleaseStatus(failed);
      return nullptr;
    }
    return made;
  }();
  if (domain == nullptr) {
    return Error(Code::kInternal, "observer", "the runtime did not accept the watching operator");
  }
  return domain;
}

Result<ObservedModel> add_observers(const Model& model, std::span<const std::string> values) {
  ObservedModel result;
  result.model = model.clone();
  Graph& graph = result.model->graph();
  std::map<std::string_view, std::pair<Value*, std::size_t>> found;  // with its place
  std::size_t place = 0;
  const auto list = [&](Value* value) {
    if (value != nullptr) found.emplace(value->name(), std::pair(value, place++));
  };
  for (Value* value : graph.inputs()) list(value);
  for (Value* value : graph.initializers()) list(value);
  for (Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    for (Value* value : node->outputs()) list(value);
  }
  struct Watched {
    Value* value;
    std::size_t place;
    std::int64_t slot;
  };
  std::vector<Watched> watched;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto it = found.find(values[i]);
    if (it == found.end()) {
      return Error(Code::kInput, "value-not-found", "the top graph has no value of this name",
                   {{}, {}, values[i]});
    }
    watched.push_back({it->second.first, it->second.second, static_cast<std::int64_t>(i)});
  }
  // The runtime orders nodes from the leaves back, the last leaf of the file first. Hence the
  // watching node of the earliest value stands last, and the model's own outputs, which would be
  // leaves too, get nodes that stand first: then each value is watched right after it was made.
  for (Value* output : graph.outputs()) {
    const bool is_tensor = output->type() != nullptr;
    if (is_tensor) watched.push_back({output, found.size(), kNobody});
  }
  std::ranges::stable_sort(watched, std::greater<>(), &Watched::place);
  Editor editor(*result.model);
  editor.set_opset(kDomain, 1);
  for (const Watched& one : watched) {
    NewNode node;
    node.op_type = kOperator;
    node.domain = kDomain;
    node.inputs = {one.value};
    node.base_name = "mcompress_observe";
    node.attributes.push_back(attribute("slot", one.slot));
    const Node& added = editor.append(graph, std::move(node));
    result.outputs.emplace_back(added.output(0)->name());
  }
  return result;
}

}  // namespace mcompress
