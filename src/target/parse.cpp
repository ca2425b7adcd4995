#include "target/parse.h"

#include <algorithm>
#include <span>
#include <tuple>

#include "support/text.h"
#include "support/try.h"
#include "target/fields.h"
#include "target/names.h"
#include "target/versions.h"

namespace mcompress {
namespace {

using TypeNames = std::span<const std::pair<std::string_view, DataType>>;

Result<std::vector<DataType>> types_of(TargetFields& fields, std::string_view key, TypeNames names,
                                       std::vector<DataType> otherwise) {
  const Datum* list = fields.find(key);
  if (list == nullptr) return otherwise;
  std::vector<std::string> known;
  known.reserve(names.size());
  for (const auto& [name, type] : names) known.emplace_back(name);
  if (list->as_list() == nullptr) {
    return target_error("'" + std::string(key) + "' must be a list of types", *list,
                        "known: " + join(known, ", "));
  }
  std::vector<DataType> types;
  for (const Datum& item : *list->as_list()) {
    const std::string text = item.as_string() != nullptr ? *item.as_string() : std::string();
    const auto found = std::find(known.begin(), known.end(), text);
    if (found == known.end()) {
      std::string hint = did_you_mean(text, known);
      if (hint.empty()) hint = "known: " + join(known, ", ");
      return target_error("'" + text + "' is no type of '" + std::string(key) + "'", item,
                          std::move(hint));
    }
    types.push_back(names[static_cast<std::size_t>(found - known.begin())].second);
  }
  return types;
}

Status parse_versions(TargetFields& fields, std::string& versions) {
  const Datum* value = fields.find("versions");
  if (value == nullptr) return ok_status();
  if (value->as_string() == nullptr || !are_version_conditions(*value->as_string())) {
    return target_error("'versions' must be conditions like \"<1.17\" or \">=1.29 <1.31\"", *value);
  }
  versions = *value->as_string();
  return ok_status();
}

// {"mode": ["linear", "cubic"], "axis": 1}
Status parse_attributes(TargetFields& fields, std::string_view key,
                        std::vector<std::pair<std::string, Datum>>& out) {
  const Datum* map = fields.find(key);
  if (map == nullptr) return ok_status();
  if (map->as_map() == nullptr) {
    return target_error("'" + std::string(key) + "' must be a map of attributes", *map);
  }
  for (const auto& [name, value] : *map->as_map()) {
    Datum list = value;
    if (value.as_list() == nullptr) {
      list = Datum::list();
      list.push(value);
    }
    for (const Datum& item : *list.as_list()) {
      const bool plain = item.as_string() != nullptr ||
                         std::get_if<std::int64_t>(&item.value()) != nullptr ||
                         std::get_if<double>(&item.value()) != nullptr;
      if (!plain) {
        return target_error("attribute '" + name + "' must be a number, a text or a list of those",
                            item);
      }
    }
    out.emplace_back(name, std::move(list));
  }
  return ok_status();
}

Status parse_conditions(const Datum& datum, const std::string& what, TargetCase& result) {
  TargetFields fields(datum, "the conditions of " + what);
  MCOMPRESS_TRY(fields.open());
  MCOMPRESS_TRY(fields.wholes("ranks-other-than", result.ranks_other_than));
  MCOMPRESS_TRY(fields.wholes("weight-ranks-other-than", result.weight_ranks_other_than));
  MCOMPRESS_TRY(fields.whole("input-channels-at-most", result.input_channels_at_most));
  MCOMPRESS_TRY(fields.whole("weights-at-most", result.weights_at_most));
  MCOMPRESS_TRY(fields.whole("kernel-at-least", result.kernel_at_least));
  MCOMPRESS_TRY(fields.flag("grouped", result.grouped));
  MCOMPRESS_TRY(fields.flag("depthwise", result.depthwise));
  MCOMPRESS_TRY(fields.flag("has-bias", result.has_bias));
  MCOMPRESS_TRY(fields.flag("constant-operand", result.constant_operand));
  MCOMPRESS_TRY(fields.flag("open-shape", result.open_shape));
  MCOMPRESS_TRY(parse_attributes(fields, "attributes", result.attributes));
  MCOMPRESS_TRY(parse_attributes(fields, "attributes-other-than", result.attributes_other_than));
  MCOMPRESS_TRY(fields.finish());
  if (datum.as_map()->empty()) {
    return target_error(what + " has no condition: it would hold for every node", datum,
                        "an operator that never runs in integers has the kind 'float'");
  }
  return ok_status();
}

Result<TargetCase> parse_case(const Datum& datum, const std::string& of) {
  TargetCase result;
  TargetFields fields(datum, "a case of " + of);
  MCOMPRESS_TRY(fields.open());
  MCOMPRESS_TRY(fields.text("id", result.id));
  const std::string what = "case '" + result.id + "' of " + of;
  MCOMPRESS_TRY(fields.choice("is", kTargetVerdicts, result.verdict));
  MCOMPRESS_TRY(fields.text("why", result.why));
  MCOMPRESS_TRY(fields.text("instead", result.instead));
  MCOMPRESS_TRY(fields.text("source", result.source));
  MCOMPRESS_TRY(parse_versions(fields, result.versions));
  const Datum* when = fields.find("when");
  MCOMPRESS_TRY(fields.finish());
  if (result.id.empty() || result.why.empty() || (when == nullptr && result.versions.empty())) {
    return target_error("a case of " + of + " needs 'id', 'why', and 'when' or 'versions'", datum);
  }
  if (when != nullptr) MCOMPRESS_TRY(parse_conditions(*when, what, result));
  return result;
}

Status parse_cases(TargetFields& fields, const std::string& of, std::vector<TargetCase>& out) {
  const Datum* list = fields.find("except");
  if (list == nullptr) return ok_status();
  if (list->as_list() == nullptr) return target_error("'except' must be a list of cases", *list);
  for (const Datum& item : *list->as_list()) {
    MCOMPRESS_ASSIGN(TargetCase one, parse_case(item, of));
    const bool twice = std::any_of(out.begin(), out.end(),
                                   [&](const TargetCase& known) { return known.id == one.id; });
    if (twice) return target_error("two cases of " + of + " have the id '" + one.id + "'", item);
    out.push_back(std::move(one));
  }
  return ok_status();
}

Result<OperatorRule> parse_operator(const std::string& op_type, const Datum& datum) {
  OperatorRule rule;
  rule.op_type = op_type;
  const std::string what = "operator '" + op_type + "'";
  TargetFields fields(datum, what);
  MCOMPRESS_TRY(fields.open());
  if (datum.find("kind") == nullptr) return target_error(what + " needs a 'kind'", datum);
  MCOMPRESS_TRY(fields.choice("kind", kTargetKinds, rule.kind));
  MCOMPRESS_TRY(fields.whole("since", rule.since));
  MCOMPRESS_TRY(fields.flag("per-channel", rule.per_channel));
  MCOMPRESS_TRY(fields.choice("operands", kTargetOperands, rule.skip_operand_only));
  MCOMPRESS_TRY(fields.choice("float-weights", kTargetFloatWeights, rule.rounds_float_weights));
  MCOMPRESS_TRY(fields.names("kernels", rule.kernels));
  MCOMPRESS_TRY(parse_cases(fields, what, rule.cases));
  MCOMPRESS_TRY(fields.text("why", rule.why));
  MCOMPRESS_TRY(fields.text("source", rule.source));
  MCOMPRESS_TRY(fields.finish());
  if (rule.kind == OperatorRule::Kind::kFloat && rule.why.empty()) {
    return target_error(what + " is of kind 'float' and needs a 'why'", datum);
  }
  return rule;
}

Result<DynamicRule> parse_dynamic(const std::string& op_type, const Datum& datum) {
  DynamicRule rule;
  rule.op_type = op_type;
  const std::string what = "dynamic operator '" + op_type + "'";
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kForms = {
      {{"MatMulInteger", "MatMulInteger"},
       {"com.microsoft:DynamicQuantizeLSTM", "com.microsoft:DynamicQuantizeLSTM"},
       {"none", "none"}}};
  std::string_view form = "none";
  TargetFields fields(datum, what);
  MCOMPRESS_TRY(fields.open());
  MCOMPRESS_TRY(fields.choice("form", kForms, form));
  rule.form = form;
  MCOMPRESS_TRY(fields.whole("since", rule.since));
  MCOMPRESS_TRY(fields.flag("per-channel", rule.per_channel));
  MCOMPRESS_TRY(fields.names("kernels", rule.kernels));
  MCOMPRESS_TRY(parse_cases(fields, what, rule.cases));
  MCOMPRESS_TRY(fields.text("why", rule.why));
  MCOMPRESS_TRY(fields.text("source", rule.source));
  MCOMPRESS_TRY(fields.finish());
  if (rule.form == "none" && rule.why.empty()) {
    return target_error(what + " has no form and needs a 'why'", datum);
  }
  return rule;
}

Result<AvoidedForm> parse_avoided(const Datum& datum) {
  AvoidedForm avoided;
  TargetFields fields(datum, "an avoided form");
  MCOMPRESS_TRY(fields.open());
  MCOMPRESS_TRY(fields.text("form", avoided.form));
  MCOMPRESS_TRY(parse_versions(fields, avoided.versions));
  MCOMPRESS_TRY(fields.text("what", avoided.what));
  MCOMPRESS_TRY(fields.text("instead", avoided.instead));
  MCOMPRESS_TRY(fields.text("source", avoided.source));
  MCOMPRESS_TRY(fields.finish());
  if (avoided.form.empty() || avoided.what.empty()) {
    return target_error("an avoided form needs 'form' and 'what'", datum);
  }
  return avoided;
}

// "Gelu", or "com.microsoft:BiasGelu".
Result<NativeOperator> parse_native(const std::string& name, const Datum& datum) {
  NativeOperator native;
  const std::size_t colon = name.find(':');
  if (colon != std::string::npos) native.domain = name.substr(0, colon);
  native.op_type = colon != std::string::npos ? name.substr(colon + 1) : name;
  TargetFields fields(datum, "native operator '" + name + "'");
  MCOMPRESS_TRY(fields.open());
  MCOMPRESS_TRY(fields.whole("since", native.since));
  MCOMPRESS_TRY(fields.flag("worth-raising", native.worth_raising));
  MCOMPRESS_TRY(fields.names("activations", native.activations));
  MCOMPRESS_TRY(fields.finish());
  return native;
}

Status parse_weight_only(const Datum& datum, WeightOnlyRule& rule) {
  TargetFields fields(datum, "'weight-only'");
  MCOMPRESS_TRY(fields.open());
  MCOMPRESS_TRY(fields.choice("form", kWeightForms, rule.form));
  rule.embeddings = rule.form;
  if (rule.form == WeightOnlyRule::Form::kLookup) {
    return target_error("'form' of 'weight-only' can not be 'lookup': that is for 'embeddings'",
                        *datum.find("form"));
  }
  MCOMPRESS_TRY(fields.choice("embeddings", kWeightForms, rule.embeddings));
  MCOMPRESS_ASSIGN(rule.types, types_of(fields, "types", kWeightTypes, rule.types));
  MCOMPRESS_TRY(fields.text("why", rule.why));
  MCOMPRESS_TRY(fields.text("source", rule.source));
  return fields.finish();
}

Status parse_blocks(const Datum& datum, BlockRule& rule) {
  using Form = BlockRule::Form;
  TargetFields fields(datum, "'blocks'");
  MCOMPRESS_TRY(fields.open());
  MCOMPRESS_TRY(fields.choice("products", kBlockForms, rule.products));
  MCOMPRESS_TRY(fields.choice("tables", kBlockForms, rule.tables));
  MCOMPRESS_TRY(fields.choice("others", kBlockForms, rule.others));
  const auto is_wrong = [&](std::string_view key, Form form, Form never, Form neither) {
    return datum.find(key) != nullptr && (form == never || form == neither);
  };
  for (const auto& [key, form, never, neither] :
       {std::tuple{"products", rule.products, Form::kGatherBlock, Form::kGatherBlock},
        std::tuple{"tables", rule.tables, Form::kMatMulNBits, Form::kMatMulNBits},
        std::tuple{"others", rule.others, Form::kMatMulNBits, Form::kGatherBlock}}) {
    if (is_wrong(key, form, never, neither)) {
      return target_error("'" + std::string(key) + "' of 'blocks' can not be '" +
                              std::string(name_of(kBlockForms, form)) + "'",
                          *datum.find(key));
    }
  }
  MCOMPRESS_TRY(fields.wholes("bits", rule.bits));
  for (const std::int64_t bits : rule.bits) {
    if (bits == 2 || bits == 4 || bits == 8) continue;
    return target_error("'bits' of 'blocks' are 2, 4 or 8", *datum.find("bits"));
  }
  MCOMPRESS_TRY(fields.wholes("block-sizes", rule.block_sizes));
  MCOMPRESS_TRY(fields.flag("symmetric", rule.symmetric));
  MCOMPRESS_TRY(fields.whole("accuracy-level", rule.accuracy_level));
  MCOMPRESS_TRY(fields.whole("min-product-elements", rule.min_product_elements));
  MCOMPRESS_TRY(fields.text("why", rule.why));
  MCOMPRESS_TRY(fields.text("source", rule.source));
  return fields.finish();
}

Status parse_low_float(const Datum& datum, LowFloatRule& rule) {
  TargetFields fields(datum, "'low-float'");
  MCOMPRESS_TRY(fields.open());
  MCOMPRESS_TRY(fields.choice("compute", kLowFloatCompute, rule.compute));
  MCOMPRESS_TRY(fields.choice("elsewhere", kLowFloatElsewhere, rule.casts_by_itself));
  MCOMPRESS_TRY(fields.names("operators", rule.operators));
  MCOMPRESS_TRY(fields.names("bfloat16-operators", rule.bfloat16_operators));
  MCOMPRESS_ASSIGN(rule.storage, types_of(fields, "storage", kStoredFloats, rule.storage));
  MCOMPRESS_TRY(fields.text("why", rule.why));
  MCOMPRESS_TRY(fields.text("source", rule.source));
  MCOMPRESS_TRY(fields.finish());
  if (rule.compute == LowFloatRule::Compute::kSlow && rule.why.empty()) {
    return target_error("'low-float' is computed slowly and needs a 'why'", datum);
  }
  return ok_status();
}

Status parse_costs(const Datum& datum, KernelCosts& costs) {
  TargetFields fields(datum, "'costs'");
  MCOMPRESS_TRY(fields.open());
  for (const auto& [key, member] : kKernelCosts) {
    MCOMPRESS_TRY(fields.positive(key, costs.*member));
  }
  return fields.finish();
}

// A map of named entries, in the file's order; null entries are left out.
template <class T, class Parse>
Status parse_entries(TargetFields& fields, std::string_view key, Parse&& parse,
                     std::vector<T>& out) {
  const Datum* map = fields.find(key);
  if (map == nullptr) return ok_status();
  if (map->as_map() == nullptr) {
    return target_error("'" + std::string(key) + "' must be a map of operators", *map);
  }
  for (const auto& [name, entry] : *map->as_map()) {
    if (entry.is_null()) continue;
    MCOMPRESS_ASSIGN(T one, parse(name, entry));
    out.push_back(std::move(one));
  }
  return ok_status();
}

}  // namespace

Result<Target> parse_target(const Datum& datum) {
  Target target;
  TargetFields fields(datum, "a target");
  MCOMPRESS_TRY(fields.open());
  MCOMPRESS_TRY(fields.text("extends", target.extends));
  MCOMPRESS_TRY(fields.text("name", target.name));
  MCOMPRESS_TRY(fields.text("description", target.description));
  MCOMPRESS_TRY(fields.text("runtime", target.runtime));
  MCOMPRESS_TRY(fields.text("runtime-version", target.runtime_version));
  MCOMPRESS_TRY(fields.text("source", target.source));
  MCOMPRESS_TRY(fields.names("notes", target.notes));
  MCOMPRESS_TRY(fields.flag("per-channel", target.per_channel));
  MCOMPRESS_TRY(fields.flag("signed-activations", target.signed_activations));
  MCOMPRESS_TRY(fields.flag("symmetric-activations", target.symmetric_activations));
  MCOMPRESS_TRY(fields.choice("biases", kTargetBiases, target.float_biases));
  MCOMPRESS_TRY(fields.choice("quantize", kTargetPlacements, target.quantize_inputs_only));
  MCOMPRESS_TRY(fields.flag("saturation-free-weights", target.saturation_free_weights));
  MCOMPRESS_TRY(fields.flag("cost-model", target.cost_model));
  if (const Datum* costs = fields.find("costs")) {
    MCOMPRESS_TRY(parse_costs(*costs, target.costs));
  }
  MCOMPRESS_TRY(fields.whole("min-weight-elements", target.min_weight_elements));
  MCOMPRESS_ASSIGN(target.weight_types,
                   types_of(fields, "weight-types", kWeightTypes, target.weight_types));
  std::string_view rounding = kTargetRoundings.front().second;
  MCOMPRESS_TRY(fields.choice("rounding", kTargetRoundings, rounding));
  target.rounding = rounding;
  MCOMPRESS_TRY(fields.text("saturation", target.saturation));
  MCOMPRESS_TRY(parse_entries(fields, "operators", parse_operator, target.rules));
  MCOMPRESS_TRY(parse_entries(fields, "dynamic", parse_dynamic, target.dynamic));
  if (const Datum* weight_only = fields.find("weight-only")) {
    MCOMPRESS_TRY(parse_weight_only(*weight_only, target.weight_only));
  }
  if (const Datum* blocks = fields.find("blocks")) {
    MCOMPRESS_TRY(parse_blocks(*blocks, target.blocks));
  }
  if (const Datum* low_float = fields.find("low-float")) {
    MCOMPRESS_TRY(parse_low_float(*low_float, target.low_float));
  }
  target.folds_weight_only = target.weight_only.form == WeightOnlyRule::Form::kFold;
  if (const Datum* avoid = fields.find("avoid")) {
    if (avoid->as_list() == nullptr) return target_error("'avoid' must be a list of forms", *avoid);
    for (const Datum& item : *avoid->as_list()) {
      MCOMPRESS_ASSIGN(AvoidedForm avoided, parse_avoided(item));
      target.avoided.push_back(std::move(avoided));
    }
  }
  MCOMPRESS_TRY(parse_entries(fields, "native", parse_native, target.natives));
  MCOMPRESS_TRY(fields.finish());
  if (target.name.empty()) return target_error("a target needs a 'name'", datum);
  if (target.symmetric_activations && !target.signed_activations) {
    return target_error(
        "activations that are symmetric around zero must be signed: 'symmetric-activations' goes "
        "with 'signed-activations'",
        *datum.find("symmetric-activations"));
  }
  if (const Datum* version = datum.find("runtime-version");
      !target.runtime_version.empty() && !are_version_conditions("=" + target.runtime_version)) {
    return target_error("'runtime-version' must be numbers with points", *version);
  }
  return target;
}

}  // namespace mcompress
