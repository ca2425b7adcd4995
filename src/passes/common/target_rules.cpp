#include "passes/common/target_rules.h"

#include <algorithm>
#include <optional>

#include "ir/facts.h"
#include "support/text.h"

namespace mcompress {
namespace {

const Tensor* weight_of(const Node& node, std::size_t slot) {
  const Value* value = node.input(slot);
  return value != nullptr ? value->initializer() : nullptr;
}

bool is_convolution(const Node& node) { return node.is("Conv") || node.is("ConvTranspose"); }

// Per group. Of ConvTranspose, whose weight is [Cin, Cout / group, ...], Cin / group.
std::optional<std::int64_t> input_channels(const Node& node) {
  const Tensor* weight = weight_of(node, 1);
  if (!is_convolution(node) || weight == nullptr || weight->dims().size() < 3) return std::nullopt;
  if (node.is("Conv")) return weight->dims()[1];
  const std::int64_t group = std::max<std::int64_t>(node.int_attribute("group", 1), 1);
  return weight->dims()[0] / group;
}

bool equals(const AttributeValue& attribute, const Datum& wanted) {
  if (const auto* text = std::get_if<std::string>(&attribute)) {
    return wanted.as_string() != nullptr && *wanted.as_string() == *text;
  }
  std::optional<double> number;
  if (const auto* whole = std::get_if<std::int64_t>(&attribute)) {
    number = static_cast<double>(*whole);
  } else if (const auto* real = std::get_if<float>(&attribute)) {
    number = double{*real};
  }
  if (!number) return false;
  if (const auto* whole = std::get_if<std::int64_t>(&wanted.value())) {
    return *number == static_cast<double>(*whole);
  }
  const auto* real = std::get_if<double>(&wanted.value());
  return real != nullptr && static_cast<float>(*number) == static_cast<float>(*real);
}

bool any_attribute(const Node& node, const std::vector<std::pair<std::string, Datum>>& conditions,
                   bool among) {
  return std::any_of(conditions.begin(), conditions.end(), [&](const auto& condition) {
    const AttributeValue* value = node.attribute(condition.first);
    if (value == nullptr) return false;
    const Datum::List& list = *condition.second.as_list();
    const bool found = std::any_of(list.begin(), list.end(),
                                   [&](const Datum& wanted) { return equals(*value, wanted); });
    return found == among;
  });
}

bool outside(const std::vector<std::int64_t>& ranks, std::optional<std::size_t> rank) {
  return !rank ||
         std::find(ranks.begin(), ranks.end(), static_cast<std::int64_t>(*rank)) == ranks.end();
}

bool has_constant_operand(const Node& node) {
  return std::any_of(node.inputs().begin(), node.inputs().end(), [](const Value* input) {
    return input != nullptr && input->initializer() != nullptr;
  });
}

std::int64_t weight_elements(const Node& node) {
  std::int64_t elements = 0;
  for (const std::size_t slot : {std::size_t{1}, std::size_t{2}}) {
    const Tensor* weight = weight_of(node, slot);
    if (weight != nullptr && weight->dims().size() >= 2) elements += weight->elements();
  }
  return elements;
}

// All conditions that a case has.
bool holds(const TargetCase& one, const Node& node) {
  const Value* data = node.input(0);
  const Tensor* weight = weight_of(node, 1);
  const std::int64_t group = node.int_attribute("group", 1);
  const auto channels = input_channels(node);
  if (!one.ranks_other_than.empty() &&
      !outside(one.ranks_other_than, data != nullptr ? rank_of(*data) : std::nullopt)) {
    return false;
  }
  if (!one.weight_ranks_other_than.empty() &&
      !outside(one.weight_ranks_other_than,
               weight != nullptr ? std::optional(weight->dims().size()) : std::nullopt)) {
    return false;
  }
  if (one.input_channels_at_most && (!channels || *channels > *one.input_channels_at_most)) {
    return false;
  }
  if (one.weights_at_most && weight_elements(node) > *one.weights_at_most) return false;
  if (one.kernel_at_least) {
    if (!is_convolution(node) || weight == nullptr || weight->dims().size() < 3) return false;
    const auto spatial = weight->dims().subspan(2);
    if (*std::max_element(spatial.begin(), spatial.end()) < *one.kernel_at_least) return false;
  }
  if (one.grouped && *one.grouped != (group > 1)) return false;
  if (one.depthwise && *one.depthwise != (group > 1 && channels == 1)) return false;
  if (one.has_bias && *one.has_bias != (node.input(2) != nullptr)) return false;
  if (one.constant_operand && *one.constant_operand != has_constant_operand(node)) return false;
  if (one.open_shape && (data == nullptr || *one.open_shape == static_shape(*data).has_value())) {
    return false;
  }
  if (!one.attributes.empty() && !any_attribute(node, one.attributes, true)) return false;
  return one.attributes_other_than.empty() || any_attribute(node, one.attributes_other_than, false);
}

}  // namespace

std::string rule_name(const Target& target, std::string_view op_type, std::string_view id) {
  std::string name = "rule " + std::string(op_type);
  if (!id.empty()) name += "/" + std::string(id);
  return name + " of " + target.name;
}

std::string why_excepted(const Target& target, const std::vector<TargetCase>& cases,
                         const Node& node) {
  for (const TargetCase& one : cases) {
    if (!target.concerns(one.versions) || !holds(one, node)) continue;
    return one.why + " (" + std::string(verdict_name(one.verdict)) + ": " +
           rule_name(target, node.op_type(), one.id) + ")";
  }
  return {};
}

std::string why_not_stored(const Target& target, DataType type) {
  const WeightOnlyRule& rule = target.weight_only;
  if (rule.form == WeightOnlyRule::Form::kNone) {
    return (rule.why.empty() ? std::string("has no use for stored integers") : rule.why) + " (" +
           rule_name(target, "weight-only") + ")";
  }
  if (rule.takes(type)) return {};
  std::vector<std::string> names;
  names.reserve(rule.types.size());
  for (const DataType known : rule.types) names.push_back(dtype_name(known));
  return "would be stored as " + dtype_name(type) + ", where only " + join(names, ", ") +
         " is taken (" + rule_name(target, "weight-only") + ")";
}

}  // namespace mcompress
