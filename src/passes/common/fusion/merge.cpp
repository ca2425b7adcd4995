#include "passes/common/fusion/merge.h"

#include <algorithm>
#include <cmath>

#include "ir/facts.h"
#include "passes/common/fusion/native.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {

std::string why_not_float(const Value& value) {
  const DataType type = element_type(value);
  if (type == DataType::kFloat) return {};
  const std::string name = "'" + std::string(value.name()) + "'";
  if (type == DataType::kUndefined) return "the type of " + name + " is unknown";
  return name + " is " + dtype_name(type) + ", only float32 is merged";
}

std::optional<double> scalar_factor(const Node& node, std::size_t& slot) {
  const bool divides = node.is("Div");
  if ((!divides && !node.is("Mul")) || node.inputs().size() != 2) return std::nullopt;
  for (const std::size_t number : {std::size_t{1}, std::size_t{0}}) {
    if (divides && number == 0) break;
    const Value* scalar = node.input(number);
    const Value* operand = node.input(1 - number);
    const auto value = constant_scalar(scalar);
    if (!value || operand == nullptr) continue;
    const auto rank = rank_of(*operand);
    const auto own = rank_of(*scalar);
    if (!own || (*own > 0 && (!rank || *own > *rank))) continue;  // it would add axes
    const double factor = divides ? 1.0 / *value : *value;
    if (!std::isfinite(factor) || factor == 0.0) continue;
    slot = 1 - number;
    return factor;
  }
  return std::nullopt;
}

Status become(PassContext& context, Node& node, NewNode form) {
  Editor& editor = context.edit();
  std::vector<std::string> old_attributes;
  for (const Attribute& attribute : node.attributes()) old_attributes.push_back(attribute.name);
  for (const std::string& name : old_attributes) editor.remove_attribute(node, name);
  const std::vector<Value*> before(node.inputs().begin(), node.inputs().end());
  editor.set_op_type(node, form.domain, form.op_type);
  for (std::size_t i = 0; i < form.inputs.size(); ++i) editor.set_input(node, i, form.inputs[i]);
  while (node.inputs().size() > form.inputs.size()) editor.remove_trailing_input(node);
  for (NewAttribute& attribute : form.attributes) {
    editor.set_attribute(node, std::move(attribute));
  }
  for (Value* value : before) {
    if (value != nullptr) MCOMPRESS_TRY(erase_unused(context, *value));
  }
  return ok_status();
}

Status merge_gates(Model& model, PassContext& context, std::string_view op_type,
                   std::vector<GateSite> sites) {
  context.report().count("eligible", static_cast<std::int64_t>(sites.size()));
  std::int64_t saved = 0;
  std::erase_if(sites, [&](const GateSite& site) {
    std::string why = site.gate.why_not;
    if (why.empty()) why = why_not_float(*site.gate.x);
    if (why.empty()) {
      saved += static_cast<std::int64_t>(site.gate.nodes.size()) - 1;
      return false;
    }
    context.explain().skipped(*site.gate.root, std::move(why));
    return true;
  });
  std::string why;
  if (!sites.empty()) {
    MCOMPRESS_ASSIGN(why, admit_native(model, context, op_type, saved));
  }
  if (!why.empty()) {
    for (const GateSite& site : sites) context.explain().skipped(*site.gate.root, why);
    sites.clear();
  }
  for (GateSite& site : sites) {
    chose(
        context, *site.gate.root,
        std::string(op_type) + " instead of " + std::to_string(site.gate.nodes.size()) + " nodes");
    NewNode form;
    form.op_type = op_type;
    form.inputs = {site.gate.x};
    form.attributes = std::move(site.attributes);
    MCOMPRESS_TRY(become(context, *site.gate.root, std::move(form)));
  }
  context.report().count("fused", static_cast<std::int64_t>(sites.size()));
  return ok_status();
}

}  // namespace mcompress
