// How operators of before opset 7 move to it: in-place hints went, inference became the default,
// and broadcasting became that of NumPy.
#include <algorithm>
#include <array>
#include <numeric>

#include "ir/facts.h"
#include "passes/common/opset/opset_migration.h"
#include "passes/common/rewrite.h"

namespace mcompress {

const std::vector<OpsetMigration::Rule>& OpsetMigration::legacy() {
  static const std::vector<Rule> rules = {
      {"Add", &OpsetMigration::modern_broadcast},
      {"And", &OpsetMigration::modern_broadcast},
      {"BatchNormalization", &OpsetMigration::modern_batch_normalization},
      {"Cast", &OpsetMigration::modern_cast},
      {"Concat", &OpsetMigration::modern_concat},
      {"Div", &OpsetMigration::modern_broadcast},
      {"Dropout", &OpsetMigration::modern_dropout},
      {"Equal", &OpsetMigration::modern_broadcast},
      {"GRU", &OpsetMigration::modern_gru},
      {"Gemm", &OpsetMigration::modern_gemm},
      {"GlobalLpPool", &OpsetMigration::modern_lp_pool},
      {"Greater", &OpsetMigration::modern_broadcast},
      {"LSTM", &OpsetMigration::modern_gru},
      {"Less", &OpsetMigration::modern_broadcast},
      {"LpPool", &OpsetMigration::modern_lp_pool},
      {"Mul", &OpsetMigration::modern_broadcast},
      {"Or", &OpsetMigration::modern_broadcast},
      {"PRelu", &OpsetMigration::modern_prelu},
      {"Pad", &OpsetMigration::modern_pad},
      {"Pow", &OpsetMigration::modern_broadcast},
      {"RNN", &OpsetMigration::modern_gru},
      {"Reshape", &OpsetMigration::modern_reshape},
      {"Selu", &OpsetMigration::modern_selu},
      {"Split", &OpsetMigration::modern_split},
      {"Sub", &OpsetMigration::modern_broadcast},
      {"Tile", &OpsetMigration::modern_tile},
      {"Upsample", &OpsetMigration::modern_upsample},
      {"Xor", &OpsetMigration::modern_broadcast},
  };
  return rules;
}

std::string OpsetMigration::plan_legacy(Node& node) {
  // A hint about memory.
  if (node.attribute("consumed_inputs") != nullptr) {
    later(node, [this, &node] { context_.edit().remove_attribute(node, "consumed_inputs"); });
  }
  const bool known = std::ranges::any_of(
      legacy(), [&](const Rule& rule) { return rule.op_type == node.op_type(); });
  // These only gained attributes whose defaults are the old meaning.
  if (!known && (node.is("AveragePool") || node.is("Clip"))) return {};
  return plan_rules(node, legacy());
}

// Before 7 training was the default.
std::string OpsetMigration::modern_batch_normalization(Node& node) {
  if (node.int_attribute("is_test", 0) == 0) return "it is in training mode (is_test = 0)";
  later(node, [this, &node] { context_.edit().remove_attribute(node, "is_test"); });
  return {};
}

std::string OpsetMigration::modern_dropout(Node& node) {
  if (node.int_attribute("is_test", 0) == 0) return "it is in training mode (is_test = 0)";
  later(node, [this, &node] { context_.edit().remove_attribute(node, "is_test"); });
  return {};
}

// The second operand was lined up with the dimensions from `axis` on, which takes dimensions of 1
// behind it:
//
//   y = Add<axis = 1, broadcast = 1>(x, b)   =>   c = Unsqueeze<axes = [1, 2]>(b)   y = Add(x, c)
std::string OpsetMigration::modern_broadcast(Node& node) {
  if (node.attribute("broadcast") == nullptr && node.attribute("axis") == nullptr) return {};
  std::int64_t behind = 0;
  std::int64_t length = 0;
  if (node.int_attribute("broadcast", 0) != 0 && node.attribute("axis") != nullptr) {
    const auto first = node.input(0) != nullptr ? rank_of(*node.input(0)) : std::nullopt;
    const auto second = node.input(1) != nullptr ? rank_of(*node.input(1)) : std::nullopt;
    if (!first || !second) return "it broadcasts along an axis, and its ranks are unknown";
    length = static_cast<std::int64_t>(*second);
    std::int64_t axis = node.int_attribute("axis", 0);
    if (axis < 0) axis += static_cast<std::int64_t>(*first);
    behind = static_cast<std::int64_t>(*first) - axis - length;
    if (behind < 0) return "its second operand does not fit behind the axis";
  }
  later(node, [this, &node, behind, length] {
    Editor& editor = context_.edit();
    editor.remove_attribute(node, "broadcast");
    editor.remove_attribute(node, "axis");
    if (behind == 0) return;
    std::vector<std::int64_t> axes(static_cast<std::size_t>(behind));
    std::iota(axes.begin(), axes.end(), length);
    NewNode wide{"Unsqueeze", {node.input(1)}, 1, std::string(node.input(1)->name()) + "_wide"};
    wide.attributes.push_back(attribute("axes", axes));
    editor.set_input(node, 1, editor.insert_before(node, std::move(wide)).output(0));
  });
  return {};
}

// A slope for each channel had one dimension.
std::string OpsetMigration::modern_prelu(Node& node) {
  const auto rank = node.input(0) != nullptr ? rank_of(*node.input(0)) : std::nullopt;
  const auto slopes = node.input(1) != nullptr ? static_shape(*node.input(1)) : std::nullopt;
  if (!rank || !slopes) return "its shapes are unknown";
  if (slopes->size() != 1 || slopes->front() == 1 || *rank <= 2) return {};
  later(node, [this, &node, rank] {
    std::vector<std::int64_t> axes(*rank - 2);
    std::iota(axes.begin(), axes.end(), 1);
    NewNode wide{"Unsqueeze", {node.input(1)}, 1, std::string(node.input(1)->name()) + "_wide"};
    wide.attributes.push_back(attribute("axes", axes));
    context_.edit().set_input(node, 1,
                              context_.edit().insert_before(node, std::move(wide)).output(0));
  });
  return {};
}

// 6: types are numbers.
std::string OpsetMigration::modern_cast(Node& node) {
  constexpr auto kNames = std::to_array<std::string_view>(
      {"UNDEFINED", "FLOAT", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "STRING", "BOOL",
       "FLOAT16", "DOUBLE", "UINT32", "UINT64"});
  const std::string_view name = node.string_attribute("to", "");
  if (name.empty()) return {};
  const auto found = std::ranges::find(kNames, name);
  if (found == kNames.end() || found == kNames.begin()) return "nobody knows the type it casts to";
  const std::int64_t number = found - kNames.begin();
  later(node,
        [this, &node, number] { context_.edit().set_attribute(node, attribute("to", number)); });
  return {};
}

// 4: the axis has to be told.
std::string OpsetMigration::modern_concat(Node& node) {
  if (node.attribute("axis") != nullptr) return {};
  later(node,
        [this, &node] { context_.edit().set_attribute(node, attribute("axis", std::int64_t{1})); });
  return {};
}

std::string OpsetMigration::modern_gemm(Node& node) {
  if (node.attribute("broadcast") == nullptr) return {};
  later(node, [this, &node] { context_.edit().remove_attribute(node, "broadcast"); });
  return {};
}

// Whether the sequence is handed out is told by the outputs that are there.
std::string OpsetMigration::modern_gru(Node& node) {
  if (node.string_attribute("direction", "") == "foward") {
    later(node, [this, &node] {
      context_.edit().set_attribute(node, attribute("direction", std::string_view("forward")));
    });
  }
  if (node.attribute("output_sequence") == nullptr) return {};
  later(node, [this, &node] { context_.edit().remove_attribute(node, "output_sequence"); });
  return {};
}

// 2: the order is an integer.
std::string OpsetMigration::modern_lp_pool(Node& node) {
  if (!crosses(2) || node.attribute("p") == nullptr) return {};
  const float order = node.float_attribute("p", 2.0f);
  const auto whole = static_cast<std::int64_t>(order);
  if (static_cast<float>(whole) != order) return "its order is no integer";
  later(node, [this, &node, whole] { context_.edit().set_attribute(node, attribute("p", whole)); });
  return {};
}

// 2: renamed.
std::string OpsetMigration::modern_pad(Node& node) {
  const auto pads = node.ints_attribute("paddings");
  if (!pads) return {};
  later(node, [this, &node, pads] {
    context_.edit().remove_attribute(node, "paddings");
    context_.edit().set_attribute(node, attribute("pads", *pads));
  });
  return {};
}

// 5: the shape became an input.
std::string OpsetMigration::modern_reshape(Node& node) {
  if (!crosses(5)) return {};
  if (!node.ints_attribute("shape")) return "it does not say which shape";
  later(node, [this, &node] { ints_to_input(node, "shape", 1); });
  return {};
}

// 6: more exact defaults.
std::string OpsetMigration::modern_selu(Node& node) {
  if (!crosses(6)) return {};
  later(node, [this, &node] {
    for (const auto& [name, number] : {std::pair("alpha", 1.6732f), std::pair("gamma", 1.0507f)}) {
      if (node.attribute(name) == nullptr) {
        context_.edit().set_attribute(node, attribute(name, number));
      }
    }
  });
  return {};
}

// 2: sizes were an input, too.
std::string OpsetMigration::modern_split(Node& node) {
  if (!crosses(2)) return {};
  if (node.input(1) == nullptr) return {};
  const auto sizes = constant_ints(node.input(1));
  if (!sizes) return "its sizes are computed";
  later(node, [this, &node, sizes] {
    drop_input(node, 1);
    context_.edit().set_attribute(node, attribute("split", *sizes));
  });
  return {};
}

std::string OpsetMigration::modern_tile(Node&) {
  return crosses(6) ? "Tile 6 repeats all axes at once" : "";
}

// 7: scales of all dimensions.
std::string OpsetMigration::modern_upsample(Node& node) {
  if (node.attribute("height_scale") == nullptr || node.attribute("width_scale") == nullptr) {
    return "it has no scales";
  }
  const std::vector<float> scales = {1.0f, 1.0f, node.float_attribute("height_scale", 1.0f),
                                     node.float_attribute("width_scale", 1.0f)};
  later(node, [this, &node, scales] {
    context_.edit().remove_attribute(node, "height_scale");
    context_.edit().remove_attribute(node, "width_scale");
    context_.edit().set_attribute(node, {"scales", scales});
  });
  return {};
}

}  // namespace mcompress
