#include "passes/common/half/half_rules.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "ir/convert.h"
#include "ir/facts.h"
#include "ir/walk.h"
#include "mcompress/argument_types.h"
#include "passes/common/target_rules.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Names = std::span<const std::string_view>;

bool among(const Node& node, Names names) {
  return node.domain().empty() && std::ranges::find(names, node.op_type()) != names.end();
}

struct Kept {
  std::string_view op_type;
  std::string_view why;
};
// Whatever the target has.
constexpr std::array<Kept, 22> kKept = {{
    {"Bernoulli", "draws numbers"},
    {"BlackmanWindow", "computes positions, for which 11 bits are too few"},
    {"CumSum", "adds up one number after the other"},
    {"DFT", "adds up many terms"},
    {"DequantizeLinear", "belongs to integers"},
    {"DynamicQuantizeLinear", "belongs to integers"},
    {"EyeLike", "makes a constant"},
    {"GridSample", "computes positions, for which 11 bits are too few"},
    {"HammingWindow", "computes positions, for which 11 bits are too few"},
    {"HannWindow", "computes positions, for which 11 bits are too few"},
    {"MelWeightMatrix", "computes positions, for which 11 bits are too few"},
    {"Multinomial", "draws numbers"},
    {"NonMaxSuppression", "compares boxes"},
    {"QuantizeLinear", "belongs to integers"},
    {"RandomNormal", "draws numbers"},
    {"RandomNormalLike", "draws numbers"},
    {"RandomUniform", "draws numbers"},
    {"RandomUniformLike", "draws numbers"},
    {"Range", "computes positions, for which 11 bits are too few"},
    {"RoiAlign", "computes positions, for which 11 bits are too few"},
    {"STFT", "adds up many terms"},
    {"AffineGrid", "computes positions, for which 11 bits are too few"},
}};

constexpr std::array<std::string_view, 8> kSums = {
    "ReduceL1",   "ReduceL2",        "ReduceLogSum", "ReduceLogSumExp",
    "ReduceProd", "ReduceSumSquare", "ReduceSum",    "ReduceMean"};

std::string number_text(double number) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.3g", number);
  return text.data();
}

float rounded(float number, DataType type) {
  return type == DataType::kBfloat16
             ? bfloat16_to_float(float_to_bfloat16(number, Overflow::kOverflow))
             : float16_to_float(float_to_float16(number, Overflow::kOverflow));
}

// Whole numbers beyond 2048 are not all float16; masks are.
bool reads_whole_numbers(const Node& node) {
  for (const Value* value : node.inputs()) {
    const Node* maker = value != nullptr ? value->producer() : nullptr;
    for (int steps = 0; maker != nullptr && only_moves(*maker) && steps < 8; ++steps) {
      maker = maker->input(0) != nullptr ? maker->input(0)->producer() : nullptr;
    }
    if (maker == nullptr || !maker->is("Cast") || maker->input(0) == nullptr) continue;
    const DataType from = element_type(*maker->input(0));
    const DTypeInfo* info = find_dtype(from);
    if (info != nullptr && !info->floating && info->bits > 8) return true;
  }
  return false;
}

// Terms that a reduction adds up for an element of its result; empty: not known.
std::optional<std::int64_t> terms_of(const Node& node) {
  const Value* data = node.input(0);
  const auto rank = data != nullptr ? rank_of(*data) : std::nullopt;
  if (!rank) return std::nullopt;
  std::vector<std::int64_t> axes;
  if (node.input(1) != nullptr) {
    const auto given = constant_ints(node.input(1));
    if (!given) return std::nullopt;
    axes = *given;
  } else if (const auto given = node.ints_attribute("axes")) {
    axes = *given;
  }
  if (axes.empty()) {
    if (node.int_attribute("noop_with_empty_axes", 0) != 0) return 1;
    for (std::size_t i = 0; i < *rank; ++i) axes.push_back(static_cast<std::int64_t>(i));
  }
  std::int64_t terms = 1;
  for (const std::int64_t axis : axes) {
    const auto size = dim_of(*data, axis);
    if (!size || *size > (std::int64_t{1} << 30)) return std::nullopt;
    terms *= std::max<std::int64_t>(1, *size);
    if (terms > (std::int64_t{1} << 30)) return std::nullopt;
  }
  return terms;
}

}  // namespace

bool only_moves(const Node& node) {
  static constexpr std::array<std::string_view, 17> kMoves = {
      "DepthToSpace", "Expand",    "Flatten",   "Gather",   "GatherElements", "GatherND",
      "Identity",     "Reshape",   "Slice",     "Split",    "SpaceToDepth",   "Squeeze",
      "Tile",         "Transpose", "Unsqueeze", "Compress", "ReverseSequence"};
  return among(node, kMoves);
}

bool takes_any_type(const Node& node) {
  static constexpr std::array<std::string_view, 5> kAny = {"Cast", "IsInf", "IsNaN", "Shape",
                                                           "Size"};
  return among(node, kAny);
}

bool is_heavy(const Node& node) {
  static constexpr std::array<std::string_view, 9> kHeavy = {
      "Attention", "Conv", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN"};
  constexpr std::int64_t kLargeTable = std::int64_t{1} << 16;
  if (node.is("Gather")) {
    const auto table = constant_of(node.input(0));
    return table && table->elements() >= kLargeTable;
  }
  return among(node, kHeavy);
}

HalfForm half_form(const Node& node, DataType type) {
  HalfForm form;
  form.inputs.resize(node.inputs().size());
  form.outputs.resize(node.outputs().size());
  const bool source = node.is("Constant") || node.is("ConstantOfShape");
  if (source || takes_any_type(node) || !node.bodies().empty()) return form;
  const auto is_float = [](const Value* value) {
    return value != nullptr && element_type(*value) == DataType::kFloat;
  };
  form.concerned =
      std::ranges::any_of(node.inputs(), is_float) || std::ranges::any_of(node.outputs(), is_float);
  if (!form.concerned) return form;
  const std::int64_t opset = node.graph().model().opset(node.domain());
  const auto types = node.graph().model().called_function(node) == nullptr
                         ? argument_types(node, opset, type)
                         : std::nullopt;
  if (!types) {
    form.why_not = "has no schema that tells whether it takes " + dtype_name(type);
    return form;
  }
  for (const auto& values : {node.inputs(), node.outputs()}) {
    for (const Value* value : values) {
      if (value == nullptr || element_type(*value) != DataType::kUndefined) continue;
      form.why_not = "the type of '" + std::string(value->name()) + "' is not known";
      return form;
    }
  }
  // Sizes, ratios and statistics beside the data keep their type.
  const bool data_only = node.is("Resize") || node.is("Upsample") || node.is("Dropout");
  const bool own_statistics = node.is("LayerNormalization");
  bool any = false;
  for (std::size_t i = 0; i < node.inputs().size(); ++i) {
    form.inputs[i] = is_float(node.input(i)) && types->inputs[i].takes && !(data_only && i > 0);
    any = any || form.inputs[i];
  }
  for (std::size_t i = 0; i < node.outputs().size(); ++i) {
    form.outputs[i] =
        is_float(node.output(i)) && types->outputs[i].takes && !(own_statistics && i > 0);
    any = any || form.outputs[i];
  }
  if (!any) {
    form.why_not = "has no " + dtype_name(type) + " form at opset " + std::to_string(opset);
  }
  return form;
}

HalfRules::HalfRules(const Model& model, const HalfChoice& choice, const Target& target,
                     const Selection& selection, const Executor& executor)
    : choice_(choice), target_(target), selection_(selection), executor_(executor) {
  if (choice.type == DataType::kFloat16) {
    masks_ = find_half_masks(model);
    for (const HalfMask& mask : masks_) {
      masking_.insert(mask.constant->id());
      for (const Node* node : mask.readers) {
        const bool ends = node->is("Softmax") || node->is("LogSoftmax") || node->is("Shape");
        if (!ends && node->output(0) != nullptr) masking_.insert(node->output(0)->id());
      }
    }
  }
  find_tiny_constants(model);
}

std::string HalfRules::why_kernel(const Node& node) const {
  if (choice_.any_kernel) return {};
  const std::string name = node.domain().empty()
                               ? std::string(node.op_type())
                               : std::string(node.domain()) + ":" + std::string(node.op_type());
  if (target_.low_float.has_kernel(name, choice_.type)) return {};
  return "has no " + type_name() + " kernel (" + rule_name(target_, "low-float") + ")";
}

std::string HalfRules::why_sum(const Node& node) const {
  if (!among(node, kSums)) return {};
  const auto terms = terms_of(node);
  if (!terms) return "adds up a number of terms that is not known";
  if (*terms <= choice_.longest_sum) return {};
  return "adds up " + std::to_string(*terms) + " terms";
}

std::string HalfRules::why_operator(const Node& node) const {
  for (const Kept& kept : kKept) {
    if (node.is(kept.op_type)) return std::string(kept.why);
  }
  if (std::string why = why_sum(node); !why.empty()) return why;
  if (node.is("Log") || node.is("Reciprocal")) {
    return "makes large numbers of small ones, which " + type_name() + " has few of";
  }
  if (choice_.type != DataType::kFloat16) return {};
  if (const auto found = tiny_.find(node.id()); found != tiny_.end()) return found->second;
  static constexpr std::array<std::string_view, 4> kNorms = {
      "BatchNormalization", "GroupNormalization", "InstanceNormalization", "LpNormalization"};
  if (among(node, kNorms)) {
    const float epsilon = node.float_attribute("epsilon", 1e-5F);
    if (epsilon != 0 && rounded(epsilon, choice_.type) == 0) {
      return "its epsilon " + number_text(double{epsilon}) + " is 0 in float16";
    }
  }
  if (choice_.table != nullptr) return {};
  if (node.is("Exp")) return "passes 65504 where its input passes 11: calibration data would tell";
  if (node.is("Pow")) {
    const auto exponent = constant_scalar(node.input(1));
    if (!exponent || std::fabs(*exponent) > 1) {
      return "may pass 65504: calibration data would tell";
    }
  }
  if (!only_moves(node) && reads_whole_numbers(node)) {
    return "reads whole numbers, of which float16 holds all up to 2048 only";
  }
  return {};
}

Result<HalfRules::Verdict> HalfRules::judge_constants(const Node& node, const HalfForm& form) {
  static constexpr std::array<std::string_view, 3> kBounds = {"Clip", "Max", "Min"};
  constexpr double kPoor = 40;  // dB
  for (std::size_t i = 0; i < form.inputs.size(); ++i) {
    if (!form.inputs[i]) continue;
    const auto tensor = constant_of(node.input(i));
    if (!tensor || tensor->elements() == 0) continue;
    const std::uint32_t id = node.input(i)->id();
    auto found = scanned_.find(id);
    if (found == scanned_.end()) {
      MCOMPRESS_ASSIGN(const FloatScan scan, scan_floats(*tensor, choice_.type, executor_));
      found = scanned_.emplace(id, scan).first;
    }
    const FloatScan& scan = found->second;
    const std::string name = "'" + std::string(node.input(i)->name()) + "'";
    if (scan.beyond > 0 && !masking_.contains(id) && !among(node, kBounds)) {
      return Verdict{std::to_string(scan.beyond) + " of the numbers of " + name + " are beyond " +
                         number_text(largest_number(choice_.type)) + ", up to " +
                         number_text(scan.largest),
                     true};
    }
    if (tensor->elements() > 1 && scan.beyond == 0 && scan.sqnr_db < kPoor &&
        choice_.type == DataType::kFloat16) {
      return Verdict{"most of " + name + " is too small for float16: " +
                         std::to_string(scan.vanishing) + " numbers become 0",
                     false};
    }
  }
  return Verdict{};
}

bool HalfRules::fits(const Value& value) const {
  if (choice_.table == nullptr) return true;
  const ValueStats* stats = choice_.table->find(value.name());
  if (stats == nullptr) return true;
  // The low end of what is masked is a constant's, which is taken care of.
  if (!masking_.contains(value.id()) && -stats->minimum > choice_.limit) return false;
  return stats->maximum <= choice_.limit;
}

bool HalfRules::seen_to_fit(const Value& value) const {
  return choice_.table != nullptr && choice_.table->find(value.name()) != nullptr && fits(value);
}

HalfRules::Verdict HalfRules::judge_ranges(const Node& node, const HalfForm& form) const {
  if (choice_.table == nullptr) return {};
  const auto why = [&](const Value& value, const char* what) {
    const ValueStats& stats = *choice_.table->find(value.name());
    return std::string(what) + " '" + std::string(value.name()) + "', which reaches " +
           number_text(std::max(-stats.minimum, stats.maximum)) + ", beyond " +
           number_text(choice_.limit);
  };
  for (std::size_t i = 0; i < form.outputs.size(); ++i) {
    if (form.outputs[i] && !fits(*node.output(i))) return {why(*node.output(i), "makes"), true};
  }
  for (std::size_t i = 0; i < form.inputs.size(); ++i) {
    if (form.inputs[i] && !fits(*node.input(i))) return {why(*node.input(i), "reads"), false};
  }
  return {};
}

Result<HalfRules::Verdict> HalfRules::judge(const Node& node, const HalfForm& form) {
  if (!form.why_not.empty()) return Verdict{form.why_not, false};
  if (std::string why = selection_.why_not(node, nullptr); !why.empty()) return Verdict{why, false};
  if (std::string why = why_kernel(node); !why.empty()) return Verdict{why, false};
  if (std::string why = why_operator(node); !why.empty()) {
    // Nobody saw how large the results of these become.
    static constexpr std::array<std::string_view, 10> kGrow = {
        "CumSum",   "Exp",      "Pow",        "Range",     "Reciprocal",
        "ReduceL1", "ReduceL2", "ReduceProd", "ReduceSum", "ReduceSumSquare"};
    const bool unseen = choice_.table == nullptr && choice_.type == DataType::kFloat16;
    return Verdict{why, (unseen && among(node, kGrow)) || judge_ranges(node, form).wide};
  }
  MCOMPRESS_ASSIGN(Verdict constants, judge_constants(node, form));
  if (!constants.why.empty()) return constants;
  return judge_ranges(node, form);
}

// What guards a division against 0 must not become 0 itself:
//   Div(x, Sqrt(Add(ReduceMean(Pow(d, 2)), 1e-12)))
// The Add, what it adds to, and what leads to the division stay together.
void HalfRules::find_tiny_constants(const Model& model) {
  if (choice_.type != DataType::kFloat16) return;
  static constexpr std::array<std::string_view, 7> kGuards = {"Add", "Clip", "Div", "Max",
                                                              "Mul", "Pow",  "Sub"};
  static constexpr std::array<std::string_view, 6> kBefore = {
      "Mul", "Pow", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare"};
  static constexpr std::array<std::string_view, 6> kBehind = {"Div", "Log",        "Mul",
                                                              "Pow", "Reciprocal", "Sqrt"};
  constexpr double kWorst = 1.0 / 256;  // of what rounding may change
  for_each_graph(const_cast<Model&>(model).graph(), [&](Graph& graph) {
    std::vector<const Node*> guards;
    for (const Node* node : graph.nodes()) {
      if (!among(*node, kGuards)) continue;
      for (const Value* value : node->inputs()) {
        if (value == nullptr || element_type(*value) != DataType::kFloat) continue;
        const auto number = constant_scalar(value);
        if (!number || *number == 0 || std::fabs(*number) >= 1) continue;
        const auto real = static_cast<float>(*number);
        const double error = std::fabs(double{rounded(real, choice_.type)} - *number);
        if (error <= kWorst * std::fabs(*number)) continue;
        tiny_[node->id()] = "its constant " + number_text(*number) + " is " +
                            (rounded(real, choice_.type) == 0 ? "0" : "far from itself") +
                            " in float16";
        guards.push_back(node);
      }
    }
    for (const Node* guard : guards) {
      const std::string why = "belongs to " + guard->label() + ": " + tiny_[guard->id()];
      const Node* before = guard;
      for (int steps = 0; steps < 2; ++steps) {
        const Node* maker = nullptr;
        for (const Value* value : before->inputs()) {
          const Node* one = value != nullptr ? value->producer() : nullptr;
          if (one != nullptr && among(*one, kBefore)) maker = one;
        }
        if (maker == nullptr) break;
        tiny_.emplace(maker->id(), why);
        before = maker;
      }
      // Ends at the division, or at the product that takes its place.
      std::vector<const Node*> open = {guard};
      while (!open.empty()) {
        const Node* node = open.back();
        open.pop_back();
        const Value* result = node->output(0);
        if (result == nullptr) continue;
        for (const Use& use : result->uses()) {
          if (use.node == nullptr || !among(*use.node, kBehind)) continue;
          if (!tiny_.emplace(use.node->id(), why).second) continue;
          const bool ends = use.node->is("Mul") || (use.node->is("Div") && use.slot == 1 &&
                                                    !is_constant(use.node->input(0)));
          if (!ends) open.push_back(use.node);
        }
      }
    }
  });
}

}  // namespace mcompress
