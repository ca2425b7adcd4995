// The built-in targets and those that build on them.
#include "mcompress/target.h"

#include <algorithm>

#include "embedded_targets.h"
#include "mcompress/host.h"
#include "support/json.h"
#include "support/text.h"
#include "support/try.h"
#include "target/fields.h"
#include "target/parse.h"
#include "target/versions.h"

namespace mcompress {
namespace {

// Built-in files are parsed once; a test reads each, so a failure here is a defect of the build.
const std::vector<std::pair<std::string, Datum>>& builtin_data() {
  static const std::vector<std::pair<std::string, Datum>> kData = [] {
    std::vector<std::pair<std::string, Datum>> data;
    for (const auto& file : embedded::targets) {
      auto datum = parse_json(file.text, std::string(file.name) + ".json");
      if (datum.ok()) data.emplace_back(file.name, std::move(datum).value());
    }
    return data;
  }();
  return kData;
}

std::vector<std::string> builtin_names() {
  std::vector<std::string> names;
  names.reserve(builtin_data().size());
  for (const auto& [name, datum] : builtin_data()) names.push_back(name);
  return names;
}

// Maps key by key; anything else is replaced, and null removes.
Datum merged(const Datum& base, const Datum& over) {
  if (base.as_map() == nullptr || over.as_map() == nullptr) return over;
  Datum result(Datum::Value(Datum::Map{}), over.where());
  for (const auto& [key, value] : *base.as_map()) {
    const Datum* replacement = over.find(key);
    if (replacement != nullptr && replacement->is_null()) continue;
    result.set(key, replacement != nullptr ? merged(value, *replacement) : value);
  }
  for (const auto& [key, value] : *over.as_map()) {
    if (base.find(key) == nullptr && !value.is_null()) result.set(key, value);
  }
  return result;
}

Result<Datum> with_bases(const Datum& datum, int depth) {
  const Datum* extends = datum.find("extends");
  if (extends == nullptr) return datum;
  if (extends->as_string() == nullptr) {
    return target_error("'extends' must be the name of a target", *extends);
  }
  constexpr int kDeepest = 8;
  for (const auto& [name, base] : builtin_data()) {
    if (name != *extends->as_string()) continue;
    if (depth == kDeepest) return target_error("targets extend each other in a circle", *extends);
    MCOMPRESS_ASSIGN(const Datum whole, with_bases(base, depth + 1));
    return merged(whole, datum);
  }
  const std::vector<std::string> names = builtin_names();
  std::string hint = did_you_mean(*extends->as_string(), names);
  if (hint.empty()) hint = "known: " + join(names, ", ");
  return target_error("there is no target '" + *extends->as_string() + "' to extend", *extends,
                      std::move(hint));
}

}  // namespace

bool NativeOperator::applies(std::string_view activation) const {
  return std::ranges::find(activations, activation) != activations.end();
}

bool WeightOnlyRule::takes(DataType type) const {
  return std::ranges::find(types, type) != types.end();
}

bool LowFloatRule::stores(DataType type) const {
  return std::ranges::find(storage, type) != storage.end();
}

bool LowFloatRule::has_kernel(std::string_view name, DataType type) const {
  const auto& names = type == DataType::kBfloat16 ? bfloat16_operators : operators;
  return std::ranges::any_of(
      names, [name](const std::string& known) { return known == "*" || known == name; });
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

const DynamicRule* Target::find_dynamic(std::string_view op_type) const {
  for (const DynamicRule& rule : dynamic) {
    if (rule.op_type == op_type) return &rule;
  }
  return nullptr;
}

bool Target::concerns(std::string_view versions) const {
  return versions.empty() || runtime_version.empty() ||
         version_satisfies(runtime_version, versions);
}

bool Target::takes_weights(DataType type) const {
  return std::ranges::find(weight_types, type) != weight_types.end();
}

Result<Target> Target::from_datum(const Datum& datum) {
  if (datum.as_map() == nullptr) return target_error("a target must be a map", datum);
  MCOMPRESS_ASSIGN(const Datum whole, with_bases(datum, 0));
  return parse_target(whole);
}

std::vector<const Target*> all_targets() {
  static const std::vector<Target> kTargets = [] {
    std::vector<Target> targets;
    for (const auto& [name, datum] : builtin_data()) {
      auto target = Target::from_datum(datum);
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
               close.empty() ? "`mcompress targets` lists them; a file of your own ends in .json, "
                               ".yaml or .yml"
                             : "did you mean '" + close + "'?");
}

const Target& default_target() { return *find_target("onnxruntime-cpu"); }

bool is_target_file(std::string_view text) {
  return text.ends_with(".json") || text.ends_with(".yaml") || text.ends_with(".yml");
}

Result<Target> load_target(const std::filesystem::path& path) {
  auto datum = read_datum_file(path);
  if (!datum.ok()) {
    Error error = std::move(datum).error();
    error.code = Code::kUsage;
    return std::move(error).in_file(path.string());
  }
  auto target = Target::from_datum(*datum);
  if (!target.ok()) return std::move(target).error().in_file(path.string());
  return target;
}

}  // namespace mcompress
