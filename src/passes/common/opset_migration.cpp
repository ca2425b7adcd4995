#include "passes/common/opset_migration.h"

#include <algorithm>
#include <array>

#include "ir/facts.h"
#include "passes/common/rewrite.h"

namespace mcompress {
namespace {

// Operators whose versions 8 to 21 only accept more types, or have new attributes and inputs whose
// defaults are the old meaning.
constexpr auto kCompatible = std::to_array<std::string_view>({"Abs",
                                                              "Add",
                                                              "And",
                                                              "ArgMax",
                                                              "ArgMin",
                                                              "BitShift",
                                                              "Cast",
                                                              "CastLike",
                                                              "Ceil",
                                                              "Compress",
                                                              "Concat",
                                                              "Constant",
                                                              "ConstantOfShape",
                                                              "Conv",
                                                              "ConvTranspose",
                                                              "CumSum",
                                                              "DepthToSpace",
                                                              "DequantizeLinear",
                                                              "Div",
                                                              "Equal",
                                                              "Erf",
                                                              "Exp",
                                                              "Expand",
                                                              "EyeLike",
                                                              "Flatten",
                                                              "Floor",
                                                              "GRU",
                                                              "Gather",
                                                              "GatherElements",
                                                              "GatherND",
                                                              "Gemm",
                                                              "Greater",
                                                              "GreaterOrEqual",
                                                              "Identity",
                                                              "If",
                                                              "IsInf",
                                                              "IsNaN",
                                                              "LRN",
                                                              "LSTM",
                                                              "LeakyRelu",
                                                              "Less",
                                                              "LessOrEqual",
                                                              "Log",
                                                              "Loop",
                                                              "LpPool",
                                                              "MatMul",
                                                              "Max",
                                                              "MaxPool",
                                                              "MaxUnpool",
                                                              "Mean",
                                                              "MeanVarianceNormalization",
                                                              "Min",
                                                              "Mod",
                                                              "Mul",
                                                              "Neg",
                                                              "NegativeLogLikelihoodLoss",
                                                              "NonMaxSuppression",
                                                              "NonZero",
                                                              "OneHot",
                                                              "OptionalGetElement",
                                                              "OptionalHasElement",
                                                              "Or",
                                                              "PRelu",
                                                              "Pow",
                                                              "QLinearMatMul",
                                                              "QuantizeLinear",
                                                              "RNN",
                                                              "Reciprocal",
                                                              "Relu",
                                                              "Reshape",
                                                              "ScatterElements",
                                                              "ScatterND",
                                                              "Shape",
                                                              "Sigmoid",
                                                              "Sign",
                                                              "Size",
                                                              "SoftmaxCrossEntropyLoss",
                                                              "SpaceToDepth",
                                                              "Sqrt",
                                                              "Sub",
                                                              "Sum",
                                                              "Tanh",
                                                              "Tile",
                                                              "Transpose",
                                                              "Where",
                                                              "Xor",
                                                              "Not",
                                                              "Acos",
                                                              "Asin",
                                                              "Atan",
                                                              "Cos",
                                                              "Sin",
                                                              "Tan",
                                                              "Sinh",
                                                              "Cosh",
                                                              "Asinh",
                                                              "Acosh",
                                                              "Atanh",
                                                              "Elu",
                                                              "Selu",
                                                              "Softplus",
                                                              "Softsign",
                                                              "HardSigmoid",
                                                              "GlobalAveragePool",
                                                              "GlobalMaxPool",
                                                              "GlobalLpPool",
                                                              "InstanceNormalization",
                                                              "LpNormalization",
                                                              "MaxRoiPool",
                                                              "ThresholdedRelu"});

NewAttribute text_attribute(std::string_view name, std::string_view value) {
  return attribute(name, value);
}

}  // namespace

const std::vector<OpsetMigration::Rule>& OpsetMigration::rules() {
  static const std::vector<Rule> rules = {
      {"AveragePool", &OpsetMigration::average_pool},
      {"BatchNormalization", &OpsetMigration::batch_normalization},
      {"Clip", &OpsetMigration::clip},
      {"DFT", &OpsetMigration::dft},
      {"Dropout", &OpsetMigration::dropout},
      {"GridSample", &OpsetMigration::grid_sample},
      {"GroupNormalization", &OpsetMigration::group_normalization},
      {"Hardmax", &OpsetMigration::softmax},
      {"LogSoftmax", &OpsetMigration::softmax},
      {"Pad", &OpsetMigration::pad},
      {"ReduceL1", &OpsetMigration::reduce},
      {"ReduceL2", &OpsetMigration::reduce},
      {"ReduceLogSum", &OpsetMigration::reduce},
      {"ReduceLogSumExp", &OpsetMigration::reduce},
      {"ReduceMax", &OpsetMigration::reduce},
      {"ReduceMean", &OpsetMigration::reduce},
      {"ReduceMin", &OpsetMigration::reduce},
      {"ReduceProd", &OpsetMigration::reduce},
      {"ReduceSum", &OpsetMigration::reduce_sum},
      {"ReduceSumSquare", &OpsetMigration::reduce},
      {"Resize", &OpsetMigration::resize},
      {"RoiAlign", &OpsetMigration::roi_align},
      {"Scan", &OpsetMigration::scan},
      {"Scatter", &OpsetMigration::scatter},
      {"Slice", &OpsetMigration::slice},
      {"Softmax", &OpsetMigration::softmax},
      {"Split", &OpsetMigration::split},
      {"Squeeze", &OpsetMigration::squeeze},
      {"TopK", &OpsetMigration::top_k},
      {"Unsqueeze", &OpsetMigration::squeeze},
      {"Upsample", &OpsetMigration::upsample},
  };
  return rules;
}

std::string OpsetMigration::plan(Node& node) {
  if (!node.domain().empty()) return {};
  const OperatorCatalog& catalog = onnx_catalog();
  const std::int64_t before = catalog.since_version("", node.op_type(), from_);
  const std::int64_t after = catalog.since_version("", node.op_type(), to_);
  if (before == 0) return "it is no operator of opset " + std::to_string(from_);
  if (before == after) return {};
  for (const Rule& rule : rules()) {
    if (rule.op_type == node.op_type()) return (this->*rule.handler)(node);
  }
  if (std::ranges::find(kCompatible, node.op_type()) != kCompatible.end()) return {};
  return "nothing is known about the change of " + std::string(node.op_type()) + " from version " +
         std::to_string(before) + " to " + std::to_string(after);
}

std::size_t OpsetMigration::apply() {
  for (auto& [node, edit] : edits_) edit();
  return edits_.size();
}

void OpsetMigration::later(Node& node, std::function<void()> edit) {
  edits_.emplace_back(&node, std::move(edit));
}

void OpsetMigration::add_input(Node& node, std::size_t slot, std::string_view name, Tensor tensor) {
  const Value* output = node.output(0);
  const std::string base =
      (output != nullptr ? std::string(output->name()) : node.label()) + "_" + std::string(name);
  Value& value = add_constant(context_, node.graph(), base, std::move(tensor));
  context_.edit().set_input(node, slot, &value);
}

void OpsetMigration::ints_to_input(Node& node, std::string_view attribute, std::size_t slot) {
  const auto list = node.ints_attribute(attribute);
  if (!list) return;
  context_.edit().remove_attribute(node, attribute);
  add_input(node, slot, attribute,
            make_int64_tensor(*list, {static_cast<std::int64_t>(list->size())}));
}

// ------------------------------------------------------------------------------- one by one

// 19 counts padding that ceil_mode adds differently.
std::string OpsetMigration::average_pool(Node& node) {
  if (crosses(19) && node.int_attribute("ceil_mode", 0) != 0 &&
      node.int_attribute("count_include_pad", 0) != 0) {
    return "AveragePool 19 counts padding differently when ceil_mode is set";
  }
  return {};
}

// 9 drops `spatial`; 14 replaces the training outputs by a training mode.
std::string OpsetMigration::batch_normalization(Node& node) {
  if (crosses(9) && node.int_attribute("spatial", 1) == 0) {
    return "BatchNormalization per element (spatial = 0) ended with opset 9";
  }
  if (crosses(14)) {
    for (std::size_t i = 1; i < node.outputs().size(); ++i) {
      if (node.output(i) != nullptr) return "it has training outputs of before opset 14";
    }
  }
  if (crosses(9) && node.attribute("spatial") != nullptr) {
    later(node, [this, &node] { context_.edit().remove_attribute(node, "spatial"); });
  }
  return {};
}

// 11: bounds became inputs.
std::string OpsetMigration::clip(Node& node) {
  if (!crosses(11)) return {};
  const bool low = node.attribute("min") != nullptr;
  const bool high = node.attribute("max") != nullptr;
  if (!low && !high) return {};
  const DataType type =
      node.input(0) == nullptr ? DataType::kUndefined : element_type(*node.input(0));
  auto minimum = number_tensor(node.float_attribute("min", 0.0f), type);
  auto maximum = number_tensor(node.float_attribute("max", 0.0f), type);
  if (!minimum.ok() || !maximum.ok()) return "the type of its input is unknown";
  later(node, [=, this, &node] {
    context_.edit().remove_attribute(node, "min");
    context_.edit().remove_attribute(node, "max");
    if (low) add_input(node, 1, "min", *minimum);
    if (high) add_input(node, 2, "max", *maximum);
  });
  return {};
}

// 20: the axis became an input, and the default moved.
std::string OpsetMigration::dft(Node& node) {
  if (!crosses(20)) return {};
  later(node, [this, &node] {
    const std::int64_t axis = node.int_attribute("axis", 1);
    context_.edit().remove_attribute(node, "axis");
    add_input(node, 2, "axis", make_int64_tensor({&axis, 1}, {}));
  });
  return {};
}

// Inference copies the input: the ratio (an input from 12 on) does not matter.
std::string OpsetMigration::dropout(Node& node) {
  if (crosses(12) && node.attribute("ratio") != nullptr) {
    later(node, [this, &node] { context_.edit().remove_attribute(node, "ratio"); });
  }
  Value* mask = node.output(1);
  if (!crosses(10) || mask == nullptr) return {};
  if (!mask->uses().empty()) return "its mask has another type from opset 10 on";
  later(node, [this, mask] {
    TypeInfo type = mask->type() != nullptr ? *mask->type() : TypeInfo();
    type.element = DataType::kBool;
    context_.edit().set_type(*mask, std::move(type), true);
  });
  return {};
}

// 20: modes were renamed.
std::string OpsetMigration::grid_sample(Node& node) {
  if (!crosses(20)) return {};
  const std::string mode(node.string_attribute("mode", "bilinear"));
  const std::string_view renamed = mode == "bilinear" ? "linear" : mode == "bicubic" ? "cubic" : "";
  if (renamed.empty()) return {};
  later(node, [this, &node, renamed] {
    context_.edit().set_attribute(node, text_attribute("mode", renamed));
  });
  return {};
}

std::string OpsetMigration::group_normalization(Node&) {
  return crosses(21) ? "GroupNormalization 21 scales channels instead of groups" : "";
}

// 11: pads and the value became inputs.
std::string OpsetMigration::pad(Node& node) {
  if (!crosses(11)) return {};
  if (!node.ints_attribute("pads")) return "it has no list of pads";
  const float number = node.float_attribute("value", 0.0f);
  const DataType type =
      node.input(0) == nullptr ? DataType::kUndefined : element_type(*node.input(0));
  auto value = number_tensor(number, type);
  if (number != 0.0f && !value.ok()) return "the type of its input is unknown";
  later(node, [=, this, &node] {
    ints_to_input(node, "pads", 1);
    context_.edit().remove_attribute(node, "value");
    if (number != 0.0f) add_input(node, 2, "value", *value);
  });
  return {};
}

// 18: axes became an input; without axes both reduce everything.
std::string OpsetMigration::reduce(Node& node) {
  if (!crosses(18) || node.attribute("axes") == nullptr) return {};
  later(node, [this, &node] { ints_to_input(node, "axes", 1); });
  return {};
}

std::string OpsetMigration::reduce_sum(Node& node) {
  if (!crosses(13) || node.attribute("axes") == nullptr) return {};
  later(node, [this, &node] { ints_to_input(node, "axes", 1); });
  return {};
}

// 10 is what 11 calls asymmetric, with floor as rounding; 11 put the region before the scales;
// 13 dropped a mode and lets scales be left out when sizes are given.
std::string OpsetMigration::resize(Node& node) {
  if (crosses(13) &&
      node.string_attribute("coordinate_transformation_mode", "") == "tf_half_pixel_for_nn") {
    return "its coordinate_transformation_mode tf_half_pixel_for_nn ended with opset 13";
  }
  if (from_ == 10) {
    later(node, [this, &node] {
      Editor& editor = context_.edit();
      Value* scales = node.input(1);
      editor.set_input(node, 1, nullptr);
      editor.set_input(node, 2, scales);
      editor.set_attribute(node, text_attribute("coordinate_transformation_mode", "asymmetric"));
      editor.set_attribute(node, text_attribute("nearest_mode", "floor"));
    });
    return {};
  }
  if (!crosses(13)) return {};
  std::vector<std::size_t> empty;
  for (std::size_t slot : {std::size_t{1}, std::size_t{2}}) {
    const Value* value = node.input(slot);
    const auto shape = value != nullptr ? static_shape(*value) : std::nullopt;
    if (shape && *shape == std::vector<std::int64_t>{0}) empty.push_back(slot);
  }
  if (empty.empty()) return {};
  later(node, [this, &node, empty] {
    for (std::size_t slot : empty) context_.edit().set_input(node, slot, nullptr);
  });
  return {};
}

// 16: a half-pixel shift became the default.
std::string OpsetMigration::roi_align(Node& node) {
  if (!crosses(16)) return {};
  later(node, [this, &node] {
    context_.edit().set_attribute(
        node, text_attribute("coordinate_transformation_mode", "output_half_pixel"));
  });
  return {};
}

std::string OpsetMigration::scan(Node&) {
  return crosses(9) ? "Scan 9 has no batch axis any more" : "";
}

// 11: renamed.
std::string OpsetMigration::scatter(Node& node) {
  if (!crosses(11)) return {};
  later(node, [this, &node] { context_.edit().set_op_type(node, "", "ScatterElements"); });
  return {};
}

// 10: all lists became inputs.
std::string OpsetMigration::slice(Node& node) {
  if (!crosses(10)) return {};
  if (!node.ints_attribute("starts") || !node.ints_attribute("ends")) {
    return "it has no lists of starts and ends";
  }
  later(node, [this, &node] {
    ints_to_input(node, "starts", 1);
    ints_to_input(node, "ends", 2);
    ints_to_input(node, "axes", 3);
  });
  return {};
}

// Before 13 all axes from `axis` (default 1) on are one:
//
//   y = Softmax<axis = a>(x)     =>   f = Flatten<axis = a>(x)
//                                     s = Softmax<axis = -1>(f)
//                                     y = Reshape(s, Shape(x))
//
// and where only one of them can be longer than 1, it is that axis alone.
std::string OpsetMigration::softmax(Node& node) {
  if (!crosses(13)) return {};
  Value* input = node.input(0);
  const std::int64_t axis = node.int_attribute("axis", 1);
  if (const auto rank = rank_of(*input)) {
    const auto first = axis < 0 ? axis + static_cast<std::int64_t>(*rank) : axis;
    std::vector<std::int64_t> long_axes;
    for (std::int64_t i = first; i < static_cast<std::int64_t>(*rank); ++i) {
      if (dim_of(*input, i) != 1) long_axes.push_back(i);
    }
    if (long_axes.size() <= 1 && first >= 0 && first < static_cast<std::int64_t>(*rank)) {
      const std::int64_t only = long_axes.empty() ? first : long_axes.front();
      later(node,
            [this, &node, only] { context_.edit().set_attribute(node, attribute("axis", only)); });
      return {};
    }
  }
  constexpr std::int64_t kMore = 3;
  added_nodes_ += kMore;
  later(node, [this, &node, input, axis] {
    Editor& editor = context_.edit();
    Value& output = *node.output(0);
    const std::string base(output.name());
    NewNode flatten{"Flatten", {input}, 1, base + "_flatten", "", {}, {}};
    flatten.attributes.push_back(attribute("axis", axis));
    Node& flat = editor.insert_before(node, std::move(flatten));
    Node& shape = editor.insert_before(node, {"Shape", {input}, 1, base + "_shape", "", {}, {}});
    NewNode twin{std::string(node.op_type()), {flat.output(0)}, 1, base + "_2d", "", {}, {}};
    twin.attributes.push_back(attribute("axis", std::int64_t{-1}));
    Node& rows = editor.insert_before(node, std::move(twin));
    // The node itself becomes the Reshape: whatever reads its output need not change.
    editor.remove_attribute(node, "axis");
    editor.set_op_type(node, "", "Reshape");
    editor.set_input(node, 0, rows.output(0));
    editor.set_input(node, 1, shape.output(0));
  });
  return {};
}

// 13: sizes became an input; 18: the number of equal parts has to be told.
std::string OpsetMigration::split(Node& node) {
  const bool has_sizes = node.attribute("split") != nullptr || node.input(1) != nullptr;
  const bool name_parts = crosses(18) && !has_sizes;
  if (!name_parts && !(crosses(13) && node.attribute("split") != nullptr)) return {};
  later(node, [this, &node, name_parts] {
    if (name_parts) {
      const auto parts = static_cast<std::int64_t>(node.outputs().size());
      context_.edit().set_attribute(node, attribute("num_outputs", parts));
    } else {
      ints_to_input(node, "split", 1);
    }
  });
  return {};
}

// Squeeze and Unsqueeze; 13: axes became an input.
std::string OpsetMigration::squeeze(Node& node) {
  if (!crosses(13) || node.attribute("axes") == nullptr) return {};
  later(node, [this, &node] { ints_to_input(node, "axes", 1); });
  return {};
}

// 10: k became an input.
std::string OpsetMigration::top_k(Node& node) {
  if (!crosses(10)) return {};
  const std::int64_t k = node.int_attribute("k", -1);
  if (k < 0) return "it does not say how many";
  later(node, [this, &node, k] {
    context_.edit().remove_attribute(node, "k");
    add_input(node, 1, "k", make_int64_tensor({&k, 1}, {1}));
  });
  return {};
}

// 10 replaced it by Resize; the scales were an attribute before 9.
std::string OpsetMigration::upsample(Node& node) {
  if (!crosses(10)) return {};
  std::vector<float> scales;
  if (const AttributeValue* value = node.attribute("scales")) {
    if (const auto* list = std::get_if<std::vector<float>>(value)) scales = *list;
  }
  if (scales.empty() && node.input(1) == nullptr) return "it has no scales";
  later(node, [this, &node, scales] {
    Editor& editor = context_.edit();
    Value* computed = node.input(1);
    editor.remove_attribute(node, "scales");
    editor.set_op_type(node, "", "Resize");
    editor.set_attribute(node, text_attribute("coordinate_transformation_mode", "asymmetric"));
    editor.set_attribute(node, text_attribute("nearest_mode", "floor"));
    editor.set_input(node, 1, nullptr);
    if (computed != nullptr) {
      editor.set_input(node, 2, computed);
    } else {
      add_input(node, 2, "scales",
                make_float_tensor(scales, {static_cast<std::int64_t>(scales.size())}));
    }
  });
  return {};
}

}  // namespace mcompress
