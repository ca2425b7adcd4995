// How operators move to newer opsets.
#include <array>

#include "ir/facts.h"
#include "passes/common/opset/opset_migration.h"
#include "passes/common/rewrite.h"

namespace mcompress {
namespace {

NewAttribute text_attribute(std::string_view name, std::string_view value) {
  return attribute(name, value);
}

}  // namespace

// 19 counts padding that ceil_mode adds differently.
std::string OpsetMigration::raise_average_pool(Node& node) {
  if (crosses(19) && node.int_attribute("ceil_mode", 0) != 0 &&
      node.int_attribute("count_include_pad", 0) != 0) {
    return "AveragePool 19 counts padding differently when ceil_mode is set";
  }
  return {};
}

// 9 drops `spatial`; 14 replaces the training outputs by a training mode.
std::string OpsetMigration::raise_batch_normalization(Node& node) {
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
std::string OpsetMigration::raise_clip(Node& node) {
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
std::string OpsetMigration::raise_dft(Node& node) {
  if (!crosses(20)) return {};
  later(node, [this, &node] {
    const std::int64_t axis = node.int_attribute("axis", 1);
    context_.edit().remove_attribute(node, "axis");
    add_input(node, 2, "axis", make_int64_tensor({&axis, 1}, {}));
  });
  return {};
}

// Inference copies the input: the ratio (an input from 12 on) does not matter.
std::string OpsetMigration::raise_dropout(Node& node) {
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
std::string OpsetMigration::raise_grid_sample(Node& node) {
  if (!crosses(20)) return {};
  const std::string mode(node.string_attribute("mode", "bilinear"));
  const std::string_view renamed = mode == "bilinear" ? "linear" : mode == "bicubic" ? "cubic" : "";
  if (renamed.empty()) return {};
  later(node, [this, &node, renamed] {
    context_.edit().set_attribute(node, text_attribute("mode", renamed));
  });
  return {};
}

// 21 scales channels instead of groups.
std::string OpsetMigration::raise_group_normalization(Node& node) {
  return crosses(21) ? expand(node) : std::string();
}

// 11: pads and the value became inputs.
std::string OpsetMigration::raise_pad(Node& node) {
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
std::string OpsetMigration::raise_reduce(Node& node) {
  if (!crosses(18) || node.attribute("axes") == nullptr) return {};
  later(node, [this, &node] { ints_to_input(node, "axes", 1); });
  return {};
}

std::string OpsetMigration::raise_reduce_sum(Node& node) {
  if (!crosses(13) || node.attribute("axes") == nullptr) return {};
  later(node, [this, &node] { ints_to_input(node, "axes", 1); });
  return {};
}

// The inputs and the mode of Resize 11 and later, of a node that resizes as Resize 10 does.
void OpsetMigration::set_scales(Node& node, Value& scales) {
  Editor& editor = context_.edit();
  editor.set_input(node, 2, &scales);
  editor.set_input(node, 1, nullptr);
  if (to_ < 13) add_input(node, 1, "roi", make_float_tensor({}, {0}));  // it may not be left out
  editor.set_attribute(node, text_attribute("coordinate_transformation_mode", "asymmetric"));
  editor.set_attribute(node, text_attribute("nearest_mode", "floor"));
}

// 10 is what 11 calls asymmetric, with floor as rounding; 11 put the region before the scales;
// 13 dropped a mode and lets scales be left out when sizes are given.
std::string OpsetMigration::raise_resize(Node& node) {
  if (crosses(13) &&
      node.string_attribute("coordinate_transformation_mode", "") == "tf_half_pixel_for_nn") {
    return "its coordinate_transformation_mode tf_half_pixel_for_nn ended with opset 13";
  }
  if (crosses(11)) {
    later(node, [this, &node] { set_scales(node, *node.input(1)); });
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
std::string OpsetMigration::raise_roi_align(Node& node) {
  if (!crosses(16)) return {};
  later(node, [this, &node] {
    context_.edit().set_attribute(
        node, text_attribute("coordinate_transformation_mode", "output_half_pixel"));
  });
  return {};
}

// 27 sums half floats in float.
std::string OpsetMigration::raise_range(Node& node) {
  return crosses(27) ? half_range(node) : std::string();
}

std::string OpsetMigration::raise_scan(Node&) {
  return crosses(9) ? "Scan 9 has no batch axis any more" : "";
}

// 11: renamed.
std::string OpsetMigration::raise_scatter(Node& node) {
  if (!crosses(11)) return {};
  later(node, [this, &node] { context_.edit().set_op_type(node, "", "ScatterElements"); });
  return {};
}

// 10: all lists became inputs.
std::string OpsetMigration::raise_slice(Node& node) {
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
std::string OpsetMigration::raise_softmax(Node& node) {
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
std::string OpsetMigration::raise_split(Node& node) {
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
std::string OpsetMigration::raise_squeeze(Node& node) {
  if (!crosses(13) || node.attribute("axes") == nullptr) return {};
  later(node, [this, &node] { ints_to_input(node, "axes", 1); });
  return {};
}

// 10: k became an input.
std::string OpsetMigration::raise_top_k(Node& node) {
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
std::string OpsetMigration::raise_upsample(Node& node) {
  if (to_ < 10) {
    if (!crosses(9) || node.attribute("scales") == nullptr) return {};
  }
  std::vector<float> scales;
  if (const AttributeValue* value = node.attribute("scales")) {
    if (const auto* list = std::get_if<std::vector<float>>(value)) scales = *list;
  }
  if (scales.empty() && node.input(1) == nullptr) return "it has no scales";
  later(node, [this, &node, scales] {
    Editor& editor = context_.edit();
    if (node.input(1) == nullptr) {
      add_input(node, 1, "scales",
                make_float_tensor(scales, {static_cast<std::int64_t>(scales.size())}));
    }
    editor.remove_attribute(node, "scales");
    if (to_ < 10) return;
    editor.set_op_type(node, "", "Resize");
    if (to_ >= 11) set_scales(node, *node.input(1));
  });
  return {};
}

}  // namespace mcompress
