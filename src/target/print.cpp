// Targets as the data they are read from.
#include <type_traits>

#include "mcompress/target.h"
#include "support/hash.h"
#include "support/json.h"
#include "target/names.h"

namespace mcompress {
namespace {

void set_text(Datum& map, std::string_view key, const std::string& text) {
  if (!text.empty()) map.set(key, Datum::string(text));
}

template <class T>
void set_names(Datum& map, std::string_view key, const std::vector<T>& names) {
  if (names.empty()) return;
  Datum list = Datum::list();
  for (const T& name : names) {
    if constexpr (std::is_same_v<T, std::int64_t>) {
      list.push(Datum::integer(name));
    } else if constexpr (std::is_same_v<T, DataType>) {
      list.push(Datum::string(name_of(kWeightTypes, name)));
    } else {
      list.push(Datum::string(name));
    }
  }
  map.set(key, std::move(list));
}

void set_whole(Datum& map, std::string_view key, const std::optional<std::int64_t>& number) {
  if (number) map.set(key, Datum::integer(*number));
}
void set_flag(Datum& map, std::string_view key, const std::optional<bool>& flag) {
  if (flag) map.set(key, Datum::boolean(*flag));
}

void set_attributes(Datum& map, std::string_view key,
                    const std::vector<std::pair<std::string, Datum>>& attributes) {
  if (attributes.empty()) return;
  Datum values = Datum::map();
  for (const auto& [name, list] : attributes) values.set(name, list);
  map.set(key, std::move(values));
}

Datum case_datum(const TargetCase& one) {
  Datum when = Datum::map();
  set_names(when, "ranks-other-than", one.ranks_other_than);
  set_names(when, "weight-ranks-other-than", one.weight_ranks_other_than);
  set_whole(when, "input-channels-at-most", one.input_channels_at_most);
  set_whole(when, "weights-at-most", one.weights_at_most);
  set_whole(when, "kernel-at-least", one.kernel_at_least);
  set_flag(when, "grouped", one.grouped);
  set_flag(when, "depthwise", one.depthwise);
  set_flag(when, "has-bias", one.has_bias);
  set_flag(when, "constant-operand", one.constant_operand);
  set_flag(when, "open-shape", one.open_shape);
  set_attributes(when, "attributes", one.attributes);
  set_attributes(when, "attributes-other-than", one.attributes_other_than);
  Datum map = Datum::map();
  set_text(map, "id", one.id);
  map.set("is", Datum::string(verdict_name(one.verdict)));
  if (!when.as_map()->empty()) map.set("when", std::move(when));
  set_text(map, "why", one.why);
  set_text(map, "instead", one.instead);
  set_text(map, "versions", one.versions);
  set_text(map, "source", one.source);
  return map;
}

void set_cases(Datum& map, const std::vector<TargetCase>& cases) {
  if (cases.empty()) return;
  Datum list = Datum::list();
  for (const TargetCase& one : cases) list.push(case_datum(one));
  map.set("except", std::move(list));
}

Datum operator_datum(const OperatorRule& rule) {
  Datum map = Datum::map();
  map.set("kind", Datum::string(kind_name(rule.kind)));
  map.set("since", Datum::integer(rule.since));
  set_flag(map, "per-channel", rule.per_channel);
  if (rule.skip_operand_only) map.set("operands", Datum::string(name_of(kTargetOperands, true)));
  if (rule.rounds_float_weights) {
    map.set("float-weights", Datum::string(name_of(kTargetFloatWeights, true)));
  }
  set_names(map, "kernels", rule.kernels);
  set_cases(map, rule.cases);
  set_text(map, "why", rule.why);
  set_text(map, "source", rule.source);
  return map;
}

Datum dynamic_datum(const DynamicRule& rule) {
  Datum map = Datum::map();
  map.set("form", Datum::string(rule.form));
  map.set("since", Datum::integer(rule.since));
  map.set("per-channel", Datum::boolean(rule.per_channel));
  set_names(map, "kernels", rule.kernels);
  set_cases(map, rule.cases);
  set_text(map, "why", rule.why);
  set_text(map, "source", rule.source);
  return map;
}

Datum weight_only_datum(const WeightOnlyRule& rule) {
  Datum map = Datum::map();
  map.set("form", Datum::string(name_of(kWeightForms, rule.form)));
  map.set("embeddings", Datum::string(name_of(kWeightForms, rule.embeddings)));
  set_names(map, "types", rule.types);
  set_text(map, "why", rule.why);
  set_text(map, "source", rule.source);
  return map;
}

Datum blocks_datum(const BlockRule& rule) {
  Datum map = Datum::map();
  map.set("products", Datum::string(block_form_name(rule.products)));
  map.set("tables", Datum::string(block_form_name(rule.tables)));
  map.set("others", Datum::string(block_form_name(rule.others)));
  set_names(map, "bits", rule.bits);
  set_names(map, "block-sizes", rule.block_sizes);
  map.set("symmetric", Datum::boolean(rule.symmetric));
  map.set("accuracy-level", Datum::integer(rule.accuracy_level));
  map.set("min-product-elements", Datum::integer(rule.min_product_elements));
  set_text(map, "why", rule.why);
  set_text(map, "source", rule.source);
  return map;
}

Datum low_float_datum(const LowFloatRule& rule) {
  Datum map = Datum::map();
  map.set("compute", Datum::string(name_of(kLowFloatCompute, rule.compute)));
  map.set("elsewhere", Datum::string(name_of(kLowFloatElsewhere, rule.casts_by_itself)));
  set_names(map, "operators", rule.operators);
  set_names(map, "bfloat16-operators", rule.bfloat16_operators);
  Datum storage = Datum::list();
  for (const DataType type : rule.storage) {
    storage.push(Datum::string(name_of(kStoredFloats, type)));
  }
  map.set("storage", std::move(storage));
  set_text(map, "why", rule.why);
  set_text(map, "source", rule.source);
  return map;
}

Datum costs_datum(const KernelCosts& costs) {
  Datum map = Datum::map();
  for (const auto& [key, member] : kKernelCosts) map.set(key, Datum::real(costs.*member));
  return map;
}

Datum avoided_datum(const AvoidedForm& avoided) {
  Datum map = Datum::map();
  set_text(map, "form", avoided.form);
  set_text(map, "versions", avoided.versions);
  set_text(map, "what", avoided.what);
  set_text(map, "instead", avoided.instead);
  set_text(map, "source", avoided.source);
  return map;
}

Datum native_datum(const NativeOperator& native) {
  Datum map = Datum::map();
  map.set("since", Datum::integer(native.since));
  if (native.worth_raising) map.set("worth-raising", Datum::boolean(true));
  set_names(map, "activations", native.activations);
  return map;
}

}  // namespace

std::string_view kind_name(OperatorRule::Kind kind) { return name_of(kTargetKinds, kind); }
std::string_view block_form_name(BlockRule::Form form) { return name_of(kBlockForms, form); }
std::string_view verdict_name(TargetCase::Verdict verdict) {
  return name_of(kTargetVerdicts, verdict);
}

std::uint64_t Target::digest() const { return digest_bytes(print_json(to_datum())); }

Datum Target::to_datum() const {
  Datum map = Datum::map();
  set_text(map, "name", name);
  set_text(map, "description", description);
  set_text(map, "runtime", runtime);
  set_text(map, "runtime-version", runtime_version);
  set_text(map, "source", source);
  set_names(map, "notes", notes);
  map.set("per-channel", Datum::boolean(per_channel));
  map.set("signed-activations", Datum::boolean(signed_activations));
  map.set("symmetric-activations", Datum::boolean(symmetric_activations));
  map.set("biases", Datum::string(name_of(kTargetBiases, float_biases)));
  map.set("quantize", Datum::string(name_of(kTargetPlacements, quantize_inputs_only)));
  map.set("saturation-free-weights", Datum::boolean(saturation_free_weights));
  map.set("cost-model", Datum::boolean(cost_model));
  if (cost_model) map.set("costs", costs_datum(costs));
  map.set("min-weight-elements", Datum::integer(min_weight_elements));
  set_names(map, "weight-types", weight_types);
  map.set("rounding", Datum::string(rounding));
  set_text(map, "saturation", saturation);
  Datum operators = Datum::map();
  for (const OperatorRule& rule : rules) operators.set(rule.op_type, operator_datum(rule));
  map.set("operators", std::move(operators));
  Datum dynamics = Datum::map();
  for (const DynamicRule& rule : dynamic) dynamics.set(rule.op_type, dynamic_datum(rule));
  map.set("dynamic", std::move(dynamics));
  map.set("weight-only", weight_only_datum(weight_only));
  map.set("blocks", blocks_datum(blocks));
  map.set("low-float", low_float_datum(low_float));
  if (!avoided.empty()) {
    Datum list = Datum::list();
    for (const AvoidedForm& form : avoided) list.push(avoided_datum(form));
    map.set("avoid", std::move(list));
  }
  Datum merged = Datum::map();
  for (const NativeOperator& one : natives) {
    merged.set(one.domain.empty() ? one.op_type : one.domain + ":" + one.op_type,
               native_datum(one));
  }
  map.set("native", std::move(merged));
  return map;
}

}  // namespace mcompress
