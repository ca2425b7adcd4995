#include "mcompress/target.h"

#include <algorithm>
#include <array>

#include "support/json.h"
#include "support/text.h"
#include "support/try.h"
#include "target/builtin.h"

namespace mcompress {
namespace {

Error target_error(std::string message, const Datum& datum) {
  return Error(Code::kUsage, "bad-target", std::move(message), datum.where());
}

constexpr std::array<std::pair<std::string_view, OperatorRule::Kind>, 5> kKinds = {{
    {"weighted", OperatorRule::Kind::kWeighted},
    {"binary", OperatorRule::Kind::kBinary},
    {"same-scale", OperatorRule::Kind::kSameScale},
    {"unary", OperatorRule::Kind::kUnary},
    {"absorbed", OperatorRule::Kind::kAbsorbed},
}};

Result<OperatorRule> rule_of(const std::string& op_type, const Datum& datum) {
  OperatorRule rule;
  rule.op_type = op_type;
  const Datum* kind = datum.find("kind");
  const std::string* text = kind != nullptr ? kind->as_string() : nullptr;
  bool known = false;
  for (const auto& [name, value] : kKinds) {
    if (text != nullptr && *text == name) {
      rule.kind = value;
      known = true;
    }
  }
  if (!known) return target_error("operator '" + op_type + "' needs a known 'kind'", datum);
  if (const Datum* since = datum.find("since")) {
    const auto* number = std::get_if<std::int64_t>(&since->value());
    if (number == nullptr) return target_error("'since' must be a whole number", *since);
    rule.since = *number;
  }
  return rule;
}

// "Gelu", or "com.microsoft:BiasGelu".
Result<NativeOperator> native_of(const std::string& name, const Datum& datum) {
  NativeOperator native;
  const std::size_t colon = name.find(':');
  if (colon != std::string::npos) native.domain = name.substr(0, colon);
  native.op_type = colon != std::string::npos ? name.substr(colon + 1) : name;
  if (datum.as_map() == nullptr) {
    return target_error("native operator '" + name + "' must be a map", datum);
  }
  for (const auto& [key, value] : *datum.as_map()) {
    const auto* number = std::get_if<std::int64_t>(&value.value());
    const bool* flag = std::get_if<bool>(&value.value());
    if (key == "since" && number != nullptr) {
      native.since = *number;
    } else if (key == "worth-raising" && flag != nullptr) {
      native.worth_raising = *flag;
    } else if (key == "activations" && value.as_list() != nullptr) {
      for (const Datum& item : *value.as_list()) {
        if (item.as_string() == nullptr) return target_error("an activation is a name", item);
        native.activations.push_back(*item.as_string());
      }
    } else {
      return target_error("unknown key or wrong type: '" + key + "'", value);
    }
  }
  return native;
}

}  // namespace

bool NativeOperator::applies(std::string_view activation) const {
  return std::ranges::find(activations, activation) != activations.end();
}

const NativeOperator* Target::native(std::string_view op_type, std::string_view domain) const {
  for (const NativeOperator& native : natives) {
    if (native.op_type == op_type && native.domain == domain) return &native;
  }
  return nullptr;
}

const OperatorRule* Target::find(std::string_view op_type) const {
  for (const OperatorRule& rule : rules) {
    if (rule.op_type == op_type) return &rule;
  }
  return nullptr;
}

Result<Target> Target::from_datum(const Datum& datum) {
  Target target;
  const Datum::Map* map = datum.as_map();
  if (map == nullptr) return target_error("a target must be a map", datum);
  for (const auto& [key, value] : *map) {
    const std::string* text = value.as_string();
    const bool* flag = std::get_if<bool>(&value.value());
    const auto* number = std::get_if<std::int64_t>(&value.value());
    if (key == "name" && text != nullptr) {
      target.name = *text;
    } else if (key == "description" && text != nullptr) {
      target.description = *text;
    } else if (key == "per-channel" && flag != nullptr) {
      target.per_channel = *flag;
    } else if (key == "signed-activations" && flag != nullptr) {
      target.signed_activations = *flag;
    } else if (key == "saturation-free-weights" && flag != nullptr) {
      target.saturation_free_weights = *flag;
    } else if (key == "cost-model" && flag != nullptr) {
      target.cost_model = *flag;
    } else if (key == "folds-weight-only" && flag != nullptr) {
      target.folds_weight_only = *flag;
    } else if (key == "min-weight-elements" && number != nullptr) {
      target.min_weight_elements = *number;
    } else if (key == "operators" && value.as_map() != nullptr) {
      for (const auto& [op_type, entry] : *value.as_map()) {
        MCOMPRESS_ASSIGN(OperatorRule rule, rule_of(op_type, entry));
        target.rules.push_back(std::move(rule));
      }
    } else if (key == "native" && value.as_map() != nullptr) {
      for (const auto& [name, entry] : *value.as_map()) {
        MCOMPRESS_ASSIGN(NativeOperator native, native_of(name, entry));
        target.natives.push_back(std::move(native));
      }
    } else {
      return target_error("unknown key or wrong type: '" + key + "'", value);
    }
  }
  if (target.name.empty()) return target_error("a target needs a 'name'", datum);
  return target;
}

std::vector<const Target*> all_targets() {
  // Built in and checked by a test, so a failure here is a defect of the build.
  static const std::vector<Target> kTargets = [] {
    std::vector<Target> targets;
    for (const std::string_view text : kBuiltinTargets) {
      auto datum = parse_json(text, "built-in target");
      if (!datum.ok()) continue;
      auto target = Target::from_datum(*datum);
      if (target.ok()) targets.push_back(std::move(target).value());
    }
    return targets;
  }();
  std::vector<const Target*> list;
  list.reserve(kTargets.size());
  for (const Target& target : kTargets) list.push_back(&target);
  return list;
}

const Target* find_target(std::string_view name) {
  for (const Target* target : all_targets()) {
    if (target->name == name) return target;
  }
  return nullptr;
}

Error unknown_target(std::string_view name, Location where) {
  std::vector<std::string> names;
  for (const Target* target : all_targets()) names.push_back(target->name);
  const std::string close = nearest(name, names);
  return Error(Code::kUsage, "unknown-target", "unknown target '" + std::string(name) + "'",
               std::move(where),
               close.empty() ? "`mcompress targets` lists them" : "did you mean '" + close + "'?");
}

const Target& default_target() { return *find_target("onnxruntime-cpu"); }

}  // namespace mcompress
