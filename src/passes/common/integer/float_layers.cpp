#include "passes/common/integer/float_layers.h"

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "passes/common/integer/integer_forms.h"

namespace mcompress {
namespace {

constexpr std::int64_t kScalesPerAxis = 13;  // DequantizeLinear's opset
constexpr std::int64_t kMostChannels = std::int64_t{1} << 24;

bool is_quantized(const Value& output) {
  const Value* value = &output;
  while (value->uses().size() == 1 && value->uses().front().node != nullptr) {
    const Use& use = value->uses().front();
    const Node& reader = *use.node;
    if (reader.is("QuantizeLinear")) return use.slot == 0;
    if (!reader.is("Relu") && !(reader.is("Clip") && use.slot == 0)) return false;
    value = reader.output(0);
  }
  return false;
}

// Of the first input, along axis 1.
std::optional<std::int64_t> input_channels(const Node& node) {
  const Tensor* weight = node.input(1) == nullptr ? nullptr : node.input(1)->constant();
  if (weight == nullptr || weight->dtype() != DataType::kFloat || weight->dims().size() < 2) {
    return std::nullopt;
  }
  const std::span<const std::int64_t> dims = weight->dims();
  if (node.is("ConvTranspose")) return dims[0];
  if (node.is("Conv")) {
    const std::int64_t groups = node.int_attribute("group", 1);
    if (groups < 1 || groups > kMostChannels || dims[1] > kMostChannels) return std::nullopt;
    return dims[1] * groups;
  }
  if (node.is("Gemm") && node.int_attribute("transA", 0) == 0) {
    return node.int_attribute("transB", 0) != 0 ? dims[1] : dims[0];
  }
  return std::nullopt;
}

// Empty: it can not be read, or is no single element.
std::vector<std::byte> repeated(const Value& value, std::int64_t count) {
  const Tensor* scalar = value.constant();
  if (scalar == nullptr || scalar->elements() != 1) return {};
  const auto pin = scalar->storage()->pin(0, scalar->byte_size());
  std::vector<std::byte> bytes;
  for (std::int64_t i = 0; pin.ok() && i < count; ++i) {
    bytes.insert(bytes.end(), pin->bytes().begin(), pin->bytes().end());
  }
  return bytes;
}

bool keep(Editor& edit, Node& node) {
  const std::optional<CodedTensor> coded = coded_tensor(node.input(0));
  const std::optional<std::int64_t> channels = input_channels(node);
  if (!coded || coded->axis || coded->zero == nullptr || !channels || *channels < 1 ||
      *channels > kMostChannels || !is_quantized(*node.output(0))) {
    return false;
  }
  std::vector<std::byte> scales = repeated(*coded->scale, *channels);
  std::vector<std::byte> zeros = repeated(*coded->zero, *channels);
  if (scales.empty() || zeros.empty()) return false;
  const std::string base(node.input(0)->name());
  Graph& graph = node.graph();
  Value& scale = edit.add_initializer(
      graph, base + "_scales", make_bytes_tensor(DataType::kFloat, {*channels}, std::move(scales)));
  Value& zero = edit.add_initializer(graph, base + "_zero_points",
                                     make_bytes_tensor(coded->type, {*channels}, std::move(zeros)));
  Node& restore = edit.insert_before(node, {.op_type = "DequantizeLinear",
                                            .inputs = {coded->codes, &scale, &zero},
                                            .base_name = base + "_for_float"});
  edit.set_attribute(restore, attribute("axis", std::int64_t{1}));
  Node* shared = node.input(0)->producer();
  edit.set_input(node, 0, restore.output(0));
  if (shared != nullptr && shared->output(0)->uses().empty()) (void)edit.erase(*shared);
  return true;
}

}  // namespace

int keep_float_layers(Editor& edit, const Target& target) {
  if (edit.model().opset("") < kScalesPerAxis) return 0;
  int kept = 0;
  Graph& graph = edit.model().graph();
  for (Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    const OperatorRule* rule = target.find(node->op_type());
    if (rule == nullptr || !rule->rounds_float_weights || !node->domain().empty()) continue;
    if (keep(edit, *node)) ++kept;
  }
  return kept;
}

}  // namespace mcompress
