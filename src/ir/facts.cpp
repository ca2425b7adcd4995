#include "ir/facts.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace mcompress {
namespace {

std::optional<std::int64_t> resolve_axis(std::int64_t axis, std::size_t rank) {
  const auto count = static_cast<std::int64_t>(rank);
  if (axis < -count || axis >= count) return std::nullopt;
  return axis < 0 ? axis + count : axis;
}

// float64 keeps its digits: the shared reader goes through float32.
std::optional<std::vector<double>> read_doubles(const Tensor& tensor) {
  const auto pinned = tensor.storage()->pin(0, tensor.byte_size());
  if (!pinned.ok()) return std::nullopt;
  std::vector<double> values(static_cast<std::size_t>(tensor.elements()));
  if (!values.empty()) {
    std::memcpy(values.data(), pinned->bytes().data(), values.size() * sizeof(double));
  }
  return values;
}

// The data of a constant for a moment: seen where they are, which takes no memory, or made from the
// attribute of a Constant node.
class Constness {
 public:
  explicit Constness(const Value& value) {
    if (value.is_initializer()) {
      tensor_ = value.constant();
      return;
    }
    const Node* node = made_by(&value, "Constant");
    if (node == nullptr) return;
    const AttributeValue* held = node->attribute("value");
    tensor_ = held != nullptr ? std::get_if<Tensor>(held) : nullptr;
    if (tensor_ != nullptr) return;
    made_ = constant_node_data(*node);
    if (made_) tensor_ = &*made_;
  }
  Constness(const Constness&) = delete;
  Constness& operator=(const Constness&) = delete;
  const Tensor* tensor() const { return tensor_; }

 private:
  const Tensor* tensor_ = nullptr;
  std::optional<Tensor> made_;
};

}  // namespace

bool is_captured(const Value& value) {
  return std::ranges::any_of(value.uses(),
                             [&](const Use& use) { return use.graph != &value.graph(); });
}

Node* only_user(const Value& value) {
  if (value.uses().size() != 1) return nullptr;
  const Use& use = value.uses().front();
  return use.graph == &value.graph() ? use.node : nullptr;
}

std::string why_not_only_user(const Value& value) {
  const std::string name = "'" + std::string(value.name()) + "'";
  for (const Use& use : value.uses()) {
    if (use.graph != &value.graph()) return name + " is read inside a nested graph";
    if (use.node == nullptr) return name + " is a graph output";
  }
  if (value.uses().empty()) return name + " is not read";
  if (value.uses().size() == 1) return {};
  return name + " is read " + std::to_string(value.uses().size()) + " times";
}

std::optional<std::vector<std::int64_t>> static_shape(const Value& value) {
  if (const Constness held(value); const Tensor* tensor = held.tensor()) {
    return std::vector<std::int64_t>(tensor->dims().begin(), tensor->dims().end());
  }
  if (value.type() == nullptr || !value.type()->shape) return std::nullopt;
  std::vector<std::int64_t> shape;
  for (const Dim& dim : *value.type()->shape) {
    if (!dim.size || *dim.size < 0) return std::nullopt;
    shape.push_back(*dim.size);
  }
  return shape;
}

std::optional<std::size_t> rank_of(const Value& value) {
  if (const Tensor* tensor = value.initializer()) return tensor->dims().size();
  if (value.type() != nullptr && value.type()->shape) return value.type()->shape->size();
  if (const Constness held(value); held.tensor() != nullptr) return held.tensor()->dims().size();
  return std::nullopt;
}

std::optional<std::int64_t> dim_of(const Value& value, std::int64_t axis) {
  if (const Constness held(value); const Tensor* tensor = held.tensor()) {
    const auto index = resolve_axis(axis, tensor->dims().size());
    if (!index) return std::nullopt;
    return tensor->dims()[static_cast<std::size_t>(*index)];
  }
  if (value.type() == nullptr || !value.type()->shape) return std::nullopt;
  const auto index = resolve_axis(axis, value.type()->shape->size());
  if (!index) return std::nullopt;
  return (*value.type()->shape)[static_cast<std::size_t>(*index)].size;
}

DataType element_type(const Value& value) {
  if (const Tensor* tensor = value.initializer()) return tensor->dtype();
  if (value.type() != nullptr) return value.type()->element;
  const Constness held(value);
  return held.tensor() != nullptr ? held.tensor()->dtype() : DataType::kUndefined;
}

std::optional<Tensor> constant_node_data(const Node& node, std::string* why_not) {
  const auto refuse = [&](std::string_view why) {
    if (why_not != nullptr) *why_not = why;
    return std::nullopt;
  };
  if (const AttributeValue* value = node.attribute("value")) {
    if (const auto* tensor = std::get_if<Tensor>(value)) return *tensor;
    return refuse("its value is an attribute of the function it is in");
  }
  if (const AttributeValue* value = node.attribute("value_float")) {
    if (const auto* number = std::get_if<float>(value)) return make_float_scalar(*number);
  }
  if (const AttributeValue* value = node.attribute("value_int")) {
    if (const auto* number = std::get_if<std::int64_t>(value)) {
      return make_int64_tensor({number, 1}, {});
    }
  }
  if (const AttributeValue* value = node.attribute("value_floats")) {
    if (const auto* list = std::get_if<std::vector<float>>(value)) {
      return make_float_tensor(*list, {static_cast<std::int64_t>(list->size())});
    }
  }
  if (const AttributeValue* value = node.attribute("value_ints")) {
    if (const auto* list = std::get_if<std::vector<std::int64_t>>(value)) {
      return make_int64_tensor(*list, {static_cast<std::int64_t>(list->size())});
    }
  }
  if (node.attribute("sparse_value") != nullptr) return refuse("its value is a sparse tensor");
  if (node.attribute("value_string") != nullptr || node.attribute("value_strings") != nullptr) {
    return refuse("its value is a string");
  }
  return refuse("its value is of an unknown kind");
}

std::optional<Tensor> constant_of(const Value* value) {
  if (value == nullptr) return std::nullopt;
  if (value->is_initializer()) {
    const Tensor* tensor = value->constant();
    return tensor != nullptr ? std::optional<Tensor>(*tensor) : std::nullopt;
  }
  const Node* node = made_by(value, "Constant");
  return node != nullptr ? constant_node_data(*node) : std::nullopt;
}

bool is_constant(const Value* value) {
  if (value == nullptr) return false;
  if (value->is_initializer()) return value->constant() != nullptr;
  return Constness(*value).tensor() != nullptr;
}

std::optional<std::vector<std::int64_t>> constant_ints(const Value* value, std::int64_t limit) {
  if (value == nullptr) return std::nullopt;
  const Constness held(*value);
  const Tensor* tensor = held.tensor();
  if (tensor == nullptr || tensor->elements() > limit) return std::nullopt;
  auto values = read_ints(*tensor);
  if (!values.ok()) return std::nullopt;
  return std::move(values).value();
}

std::optional<std::vector<double>> constant_reals(const Value* value, std::int64_t limit) {
  if (value == nullptr) return std::nullopt;
  const Constness held(*value);
  const Tensor* tensor = held.tensor();
  if (tensor == nullptr || tensor->elements() > limit || tensor->is_opaque()) return std::nullopt;
  if (tensor->dtype() == DataType::kDouble) return read_doubles(*tensor);
  if (const auto integers = read_ints(*tensor); integers.ok()) {
    return std::vector<double>(integers->begin(), integers->end());
  }
  const auto values = read_floats(*tensor);
  if (!values.ok()) return std::nullopt;
  return std::vector<double>(values->begin(), values->end());
}

std::optional<double> constant_scalar(const Value* value) {
  if (value == nullptr) return std::nullopt;
  const Constness held(*value);
  if (held.tensor() == nullptr || held.tensor()->elements() != 1) return std::nullopt;
  const auto values = constant_reals(value, 1);
  return values ? std::optional<double>(values->front()) : std::nullopt;
}

Node* made_by(const Value* value, std::string_view op_type) {
  if (value == nullptr || value->producer() == nullptr) return nullptr;
  return value->producer()->is(op_type) ? value->producer() : nullptr;
}

IntsParameter ints_parameter(const Node& node, std::string_view attribute, std::size_t slot) {
  IntsParameter parameter;
  if (const Value* value = node.input(slot)) {
    parameter.values = constant_ints(value);
    parameter.known = parameter.values.has_value();
  } else if (node.attribute(attribute) != nullptr) {
    parameter.values = node.ints_attribute(attribute);
    parameter.known = parameter.values.has_value();
  }
  return parameter;
}

std::optional<WeightLayout> weight_layout(const Node& node) {
  const Value* weight = node.input(1);
  if (weight == nullptr) return std::nullopt;
  const auto shape = static_shape(*weight);
  if (!shape || shape->size() < 2) return std::nullopt;
  WeightLayout layout;
  if (node.is("Conv")) {
    if (shape->size() < 3) return std::nullopt;
  } else if (node.is("ConvTranspose")) {
    if (shape->size() < 3) return std::nullopt;
    layout.axis = 1;
    layout.groups = node.int_attribute("group", 1);
    if (layout.groups < 1 || (*shape)[0] % layout.groups != 0) return std::nullopt;
  } else if (node.is("Gemm")) {
    if (shape->size() != 2) return std::nullopt;
    layout.axis = node.int_attribute("transB", 0) != 0 ? 0 : 1;
  } else if (node.is("MatMul")) {
    layout.axis = shape->size() - 1;
  } else {
    return std::nullopt;
  }
  layout.channels = (*shape)[layout.axis];
  return layout;
}

bool is_deterministic(const Node& node) {
  if (!node.domain().empty() || !node.bodies().empty()) return false;
  static constexpr std::array<std::string_view, 9> kOthers = {"Bernoulli",
                                                              "Dropout",
                                                              "If",
                                                              "Loop",
                                                              "Multinomial",
                                                              "RandomNormal",
                                                              "RandomNormalLike",
                                                              "RandomUniform",
                                                              "RandomUniformLike"};
  if (node.op_type() == "Scan" || node.op_type() == "SequenceMap") return false;
  if (node.op_type() == "Dropout") {
    // Inference copies its input. Opset 12 moved the switch to an input.
    const Value* training = node.input(2);
    return training == nullptr || constant_scalar(training) == 0.0;
  }
  return std::ranges::find(kOthers, node.op_type()) == kOthers.end();
}

}  // namespace mcompress
