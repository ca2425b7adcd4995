// How operators move to older opsets, where there is an exact older form: inputs become attributes
// again, and what the older form lacks has to say nothing.
#include <algorithm>
#include <array>

#include "ir/facts.h"
#include "passes/common/opset/opset_migration.h"
#include "passes/common/rewrite.h"

namespace mcompress {
namespace {

NewAttribute text_attribute(std::string_view name, std::string_view value) {
  return attribute(name, value);
}

std::optional<std::size_t> rank_of_input(const Node& node, std::size_t slot) {
  return node.input(slot) != nullptr ? rank_of(*node.input(slot)) : std::nullopt;
}

bool is_half(DataType type) { return type == DataType::kFloat16 || type == DataType::kBfloat16; }

bool is_real(DataType type) {
  return type == DataType::kFloat || type == DataType::kDouble || is_half(type);
}

}  // namespace

const std::vector<OpsetMigration::Rule>& OpsetMigration::lowering() {
  static const std::vector<Rule> rules = {
      {"ArgMax", &OpsetMigration::lower_axis},
      {"ArgMin", &OpsetMigration::lower_axis},
      {"Attention", &OpsetMigration::attention},
      {"AveragePool", &OpsetMigration::lower_average_pool},
      {"BatchNormalization", &OpsetMigration::lower_batch_normalization},
      {"CastLike", &OpsetMigration::lower_cast_like},
      {"Clip", &OpsetMigration::lower_clip},
      {"Compress", &OpsetMigration::lower_axis},
      {"Concat", &OpsetMigration::lower_axis},
      {"Constant", &OpsetMigration::lower_constant},
      {"DFT", &OpsetMigration::lower_dft},
      {"DequantizeLinear", &OpsetMigration::lower_dequantize},
      {"Dropout", &OpsetMigration::lower_dropout},
      {"Flatten", &OpsetMigration::lower_axis},
      {"Gather", &OpsetMigration::lower_axis},
      {"Gemm", &OpsetMigration::lower_gemm},
      {"GridSample", &OpsetMigration::lower_grid_sample},
      {"GroupNormalization", &OpsetMigration::expand},
      {"Hardmax", &OpsetMigration::lower_softmax},
      {"LogSoftmax", &OpsetMigration::lower_softmax},
      {"Max", &OpsetMigration::lower_broadcast},
      {"Mean", &OpsetMigration::lower_broadcast},
      {"Min", &OpsetMigration::lower_broadcast},
      {"Mod", &OpsetMigration::lower_mod},
      {"Pad", &OpsetMigration::lower_pad},
      {"QuantizeLinear", &OpsetMigration::lower_quantize},
      {"Range", &OpsetMigration::lower_range},
      {"ReduceL1", &OpsetMigration::lower_reduce},
      {"ReduceL2", &OpsetMigration::lower_reduce},
      {"ReduceLogSum", &OpsetMigration::lower_reduce},
      {"ReduceLogSumExp", &OpsetMigration::lower_reduce},
      {"ReduceMax", &OpsetMigration::lower_reduce},
      {"ReduceMean", &OpsetMigration::lower_reduce},
      {"ReduceMin", &OpsetMigration::lower_reduce},
      {"ReduceProd", &OpsetMigration::lower_reduce},
      {"ReduceSum", &OpsetMigration::lower_reduce},
      {"ReduceSumSquare", &OpsetMigration::lower_reduce},
      {"Resize", &OpsetMigration::lower_resize},
      {"RoiAlign", &OpsetMigration::lower_roi_align},
      {"Scan", &OpsetMigration::lower_scan},
      {"ScatterElements", &OpsetMigration::lower_scatter_elements},
      {"Shape", &OpsetMigration::lower_shape},
      {"Slice", &OpsetMigration::lower_slice},
      {"Softmax", &OpsetMigration::lower_softmax},
      {"Split", &OpsetMigration::lower_split},
      {"Squeeze", &OpsetMigration::lower_squeeze},
      {"Sum", &OpsetMigration::lower_broadcast},
      {"TopK", &OpsetMigration::lower_top_k},
      {"Unsqueeze", &OpsetMigration::lower_squeeze},
      {"Upsample", &OpsetMigration::lower_upsample},
  };
  return rules;
}

std::string OpsetMigration::lower_average_pool(Node& node) {
  if (drops(19) && node.int_attribute("ceil_mode", 0) != 0 &&
      node.int_attribute("count_include_pad", 0) != 0) {
    return "AveragePool 19 counts padding differently when ceil_mode is set";
  }
  return {};
}

std::string OpsetMigration::lower_batch_normalization(Node& node) {
  if (!drops(14)) return {};
  if (node.int_attribute("training_mode", 0) != 0) return "it is in training mode";
  return {};
}

// Before 8 these did not broadcast.
std::string OpsetMigration::lower_broadcast(Node& node) {
  if (!drops(8)) return {};
  std::optional<std::vector<std::int64_t>> shape;
  for (const Value* input : node.inputs()) {
    if (node.inputs().size() == 1) break;
    const auto next = input != nullptr ? static_shape(*input) : std::nullopt;
    if (!next) return "whether it broadcasts is unknown";
    if (shape && *shape != *next) return "it broadcasts, which it does from opset 8 on";
    shape = next;
  }
  return {};
}

// 15 takes the type from another value.
std::string OpsetMigration::lower_cast_like(Node& node) {
  if (!drops(15)) return {};
  const Value* like = node.input(1);
  const DataType type = like != nullptr ? element_type(*like) : DataType::kUndefined;
  if (type == DataType::kUndefined) return "the type it casts to is unknown";
  later(node, [this, &node, type] {
    drop_input(node, 1);
    context_.edit().set_op_type(node, "", "Cast");
    context_.edit().set_attribute(node, attribute("to", static_cast<std::int64_t>(type)));
  });
  return {};
}

// 11 made the bounds inputs. Bounds that are computed:
//
//   y = Clip(x, a, b)   =>   t = Max(x, a)   y = Min(t, b)
std::string OpsetMigration::lower_clip(Node& node) {
  if (!drops(11)) return {};
  const Value* input = node.input(0);
  if (input == nullptr || !is_real(element_type(*input))) return "it is known not to clip floats";
  if (node.input(1) == nullptr && node.input(2) == nullptr) return {};
  std::optional<double> bounds[2];
  bool known = true;
  for (const std::size_t slot : {1u, 2u}) {
    if (node.input(slot) == nullptr) continue;
    bounds[slot - 1] = constant_scalar(node.input(slot));
    known = known && bounds[slot - 1];
  }
  if (!known && drops(8)) return "its bounds are computed";
  later(node, [this, &node, known, low = bounds[0], high = bounds[1]] {
    Editor& editor = context_.edit();
    if (known) {
      drop_input(node, 2);
      drop_input(node, 1);
      if (low) editor.set_attribute(node, attribute("min", static_cast<float>(*low)));
      if (high) editor.set_attribute(node, attribute("max", static_cast<float>(*high)));
      return;
    }
    Value* maximum = node.input(2);
    Value* minimum = node.input(1);
    if (minimum != nullptr && maximum != nullptr) {
      Node& lower = editor.insert_before(
          node, {"Max", {node.input(0), minimum}, 1, std::string(node.output(0)->name()) + "_low"});
      editor.set_input(node, 0, lower.output(0));
    }
    editor.set_op_type(node, "", maximum != nullptr ? "Min" : "Max");
    editor.set_input(node, 1, maximum != nullptr ? maximum : minimum);
    if (node.inputs().size() > 2) editor.remove_trailing_input(node);
  });
  return {};
}

// 12 added numbers and lists that are no tensors, 9 tensors of other than real numbers.
std::string OpsetMigration::lower_constant(Node& node) {
  const bool as_tensor = drops(12) && node.attribute("value") == nullptr;
  if (!as_tensor && !drops(9)) return {};
  std::string why;
  auto data = constant_node_data(node, &why);
  if (!data) return why;
  if (drops(9) && !is_real(data->dtype())) {
    const Graph& graph = node.graph();
    if (graph.owner() == nullptr && &graph != &graph.model().graph()) {
      return "before opset 9 constants of functions are real numbers";
    }
    later(node, [this, &node, data = std::move(*data)] {
      context_.edit().replace_by_constant(node, data);
    });
    return {};
  }
  if (!as_tensor) return {};
  later(node, [this, &node, data = std::move(*data)] {
    for (const char* name : {"value_int", "value_ints", "value_float", "value_floats"}) {
      context_.edit().remove_attribute(node, name);
    }
    context_.edit().set_attribute(node, {"value", data});
  });
  return {};
}

// 20 made the axis an input, and moved the default.
std::string OpsetMigration::lower_dft(Node& node) {
  if (!drops(20)) return {};
  std::int64_t axis = -2;
  if (node.input(2) != nullptr) {
    const auto given = constant_ints(node.input(2));
    if (!given || given->size() != 1) return "its axis is computed";
    axis = given->front();
  }
  const auto rank = rank_of_input(node, 0);
  if (axis < 0 && !rank) return "its axis counts from the end of an unknown rank";
  if (axis < 0) axis += static_cast<std::int64_t>(*rank);
  later(node, [this, &node, axis] {
    drop_input(node, 2);
    context_.edit().set_attribute(node, attribute("axis", axis));
  });
  return {};
}

// 12 made the ratio an input and added a training mode. Inference needs neither.
std::string OpsetMigration::lower_dropout(Node& node) {
  if (const Value* mask = node.output(1); drops(10) && mask != nullptr && !mask->uses().empty()) {
    return "its mask has another type before opset 10";
  }
  if (!drops(12)) return {};
  if (node.input(2) != nullptr) {
    const auto training = constant_scalar(node.input(2));
    if (!training || *training != 0) return "it may be in training mode";
  }
  const auto ratio = node.input(1) != nullptr ? constant_scalar(node.input(1)) : std::nullopt;
  later(node, [this, &node, ratio] {
    drop_input(node, 2);
    drop_input(node, 1);
    context_.edit().remove_attribute(node, "seed");
    if (ratio) context_.edit().set_attribute(node, attribute("ratio", static_cast<float>(*ratio)));
    Value* mask = node.output(1);
    if (!drops(10) || mask == nullptr || node.input(0) == nullptr) return;
    TypeInfo type = mask->type() != nullptr ? *mask->type() : TypeInfo();
    type.element = element_type(*node.input(0));
    context_.edit().set_type(*mask, std::move(type), true);
  });
  return {};
}

// 11 lets the summand be left out.
std::string OpsetMigration::lower_gemm(Node& node) {
  if (!drops(11) || node.input(2) != nullptr) return {};
  auto zero = number_tensor(
      0, node.input(0) != nullptr ? element_type(*node.input(0)) : DataType::kUndefined, {1});
  if (!zero.ok()) return "the type of the summand that it needs is unknown";
  later(node, [this, &node, zero = *zero] { add_input(node, 2, "zero", zero); });
  return {};
}

std::string OpsetMigration::lower_grid_sample(Node& node) {
  if (!drops(20)) return {};
  if (rank_of_input(node, 0) != std::size_t{4}) return "before opset 20 it samples images only";
  const std::string mode(node.string_attribute("mode", "linear"));
  const std::string_view renamed = mode == "linear" ? "bilinear" : mode == "cubic" ? "bicubic" : "";
  if (renamed.empty()) return {};
  later(node, [this, &node, renamed] {
    context_.edit().set_attribute(node, text_attribute("mode", renamed));
  });
  return {};
}

// 28 has it for floats as well.
std::string OpsetMigration::lower_mod(Node& node) {
  if (!drops(28) || node.int_attribute("fmod", 0) != 0 || node.input(0) == nullptr) return {};
  return is_real(element_type(*node.input(0))) ? "before opset 28 floats need fmod" : "";
}

// 13 added scales for each channel.
std::string OpsetMigration::lower_dequantize(Node& node) {
  if (!drops(13)) return {};
  const auto shape = node.input(1) != nullptr ? static_shape(*node.input(1)) : std::nullopt;
  if (!shape) return "whether it has one scale or several is unknown";
  if (!shape->empty()) return "before opset 13 it takes one scale";
  if (node.attribute("axis") == nullptr) return {};
  later(node, [this, &node] { context_.edit().remove_attribute(node, "axis"); });
  return {};
}

// 21 can be told the type instead of showing it by the zero point.
std::string OpsetMigration::lower_quantize(Node& node) {
  if (std::string why = lower_dequantize(node); !why.empty()) return why;
  const auto type = static_cast<DataType>(node.int_attribute("output_dtype", 0));
  if (!drops(21) || type == DataType::kUndefined) return {};
  std::optional<Tensor> zero;
  if (node.input(2) == nullptr) {
    const auto shape = node.input(1) != nullptr ? static_shape(*node.input(1)) : std::nullopt;
    if (!shape) return "the shape of the zero point that it needs is unknown";
    auto made = number_tensor(0, type, *shape);
    if (!made.ok()) return "its type is new with opset 21";
    zero = std::move(*made);
  }
  later(node, [this, &node, zero] {
    context_.edit().remove_attribute(node, "output_dtype");
    if (zero) add_input(node, 2, "zero_point", *zero);
  });
  return {};
}

std::string OpsetMigration::lower_range(Node& node) {
  if (!drops(27)) return {};
  // What it accumulates in matters for half floats only.
  if (std::string why = half_range(node); !why.empty()) return why;
  if (node.attribute("stash_type") == nullptr) return {};
  later(node, [this, &node] { context_.edit().remove_attribute(node, "stash_type"); });
  return {};
}

// 10 and Upsample know what 11 calls asymmetric, with floor as rounding.
std::string OpsetMigration::lower_resize(Node& node) {
  if (drops(19) &&
      node.string_attribute("coordinate_transformation_mode", "") == "half_pixel_symmetric") {
    return "before opset 19 there is no half_pixel_symmetric";
  }
  if (drops(13) && !drops(11)) {
    later(node, [this, &node] {
      for (const std::size_t slot : {1u, 2u}) {
        if (node.input(slot) != nullptr) continue;
        add_input(node, slot, slot == 1 ? "roi" : "scales", make_float_tensor({}, {0}));
      }
    });
    return {};
  }
  if (!drops(11)) return {};
  const std::string_view mode = node.string_attribute("mode", "nearest");
  if (mode != "nearest" && mode != "linear") return "before opset 11 there is no mode cubic";
  if (node.string_attribute("coordinate_transformation_mode", "half_pixel") != "asymmetric") {
    return "before opset 11 coordinates are asymmetric";
  }
  if (mode == "nearest" && node.string_attribute("nearest_mode", "") != "floor") {
    return "before opset 11 nearest is the floor";
  }
  if (node.attribute("axes") != nullptr || node.int_attribute("antialias", 0) != 0) {
    return "before opset 11 there is neither axes nor antialias";
  }
  const auto scales = node.input(2) != nullptr ? constant_reals(node.input(2)) : std::nullopt;
  if (node.input(2) == nullptr || (scales && scales->empty())) {
    return "before opset 11 there are no sizes, only scales";
  }
  if (drops(10)) {
    if (!scales) return "its scales are computed";
    if (std::ranges::any_of(*scales, [](double scale) { return scale < 1; })) {
      return "before opset 10 it only upsamples";
    }
  }
  later(node, [this, &node, scales] {
    Editor& editor = context_.edit();
    Value* held = node.input(2);
    drop_input(node, 3);
    editor.set_input(node, 2, nullptr);
    drop_input(node, 1);
    for (const char* name :
         {"coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a", "exclude_outside",
          "extrapolation_value", "antialias", "keep_aspect_ratio_policy"}) {
      editor.remove_attribute(node, name);
    }
    if (drops(10)) editor.set_op_type(node, "", "Upsample");
    if (!drops(9)) {
      editor.set_input(node, 1, held);
      return;
    }
    unread_.push_back(held);
    editor.set_attribute(node, {"scales", std::vector<float>(scales->begin(), scales->end())});
  });
  return {};
}

// 16 shifts by half a pixel unless told otherwise.
std::string OpsetMigration::lower_roi_align(Node& node) {
  if (!drops(16)) return {};
  if (node.string_attribute("coordinate_transformation_mode", "half_pixel") !=
      "output_half_pixel") {
    return "before opset 16 it does not shift by half a pixel";
  }
  later(node, [this, &node] {
    context_.edit().remove_attribute(node, "coordinate_transformation_mode");
  });
  return {};
}

std::string OpsetMigration::lower_scan(Node&) { return drops(9) ? "Scan 8 has a batch axis" : ""; }

// 11: renamed.
std::string OpsetMigration::lower_scatter_elements(Node& node) {
  if (!drops(11)) return {};
  if (node.string_attribute("reduction", "none") != "none") {
    return "before opset 16 it does not combine elements";
  }
  later(node, [this, &node] {
    context_.edit().remove_attribute(node, "reduction");
    context_.edit().set_op_type(node, "", "Scatter");
  });
  return {};
}

// 15 takes a part:
//
//   s = Shape<start = 1>(x)   =>   t = Shape(x)   s = Slice(t, [1], [INT64_MAX])
std::string OpsetMigration::lower_shape(Node& node) {
  if (!drops(15)) return {};
  const std::int64_t start = node.int_attribute("start", 0);
  const std::int64_t end = node.int_attribute("end", INT64_MAX);
  if (node.attribute("start") == nullptr && node.attribute("end") == nullptr) return {};
  later(node, [this, &node, start, end] {
    Editor& editor = context_.edit();
    editor.remove_attribute(node, "start");
    editor.remove_attribute(node, "end");
    if (start == 0 && end == INT64_MAX) return;
    Node& shape = editor.insert_before(
        node, {"Shape", {node.input(0)}, 1, std::string(node.output(0)->name()) + "_all"});
    editor.set_op_type(node, "", "Slice");
    editor.set_input(node, 0, shape.output(0));
    if (to_ >= 10) {
      add_input(node, 1, "start", make_int64_tensor({&start, 1}, {1}));
      add_input(node, 2, "end", make_int64_tensor({&end, 1}, {1}));
    } else {
      editor.set_attribute(node, attribute("starts", std::vector<std::int64_t>{start}));
      editor.set_attribute(node, attribute("ends", std::vector<std::int64_t>{end}));
    }
  });
  return {};
}

// 9 made the scales an input.
std::string OpsetMigration::lower_upsample(Node& node) {
  if (!drops(9)) return {};
  const auto scales = node.input(1) != nullptr ? constant_reals(node.input(1)) : std::nullopt;
  if (!scales) return "its scales are computed";
  later(node, [this, &node, scales] {
    drop_input(node, 1);
    context_.edit().set_attribute(node,
                                  {"scales", std::vector<float>(scales->begin(), scales->end())});
  });
  return {};
}

}  // namespace mcompress
