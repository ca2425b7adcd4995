#include "passes/common/rewrite.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "ir/builder.h"
#include "ir/convert.h"
#include "ir/facts.h"
#include "support/try.h"

namespace mcompress {
namespace {

template <class T>
Tensor filled(DataType type, double number, std::vector<std::int64_t> dims) {
  const auto count = static_cast<std::size_t>(element_count(dims).value_or(0));
  const T value = static_cast<T>(number);
  std::vector<std::byte> bytes(count * sizeof(T));
  for (std::size_t i = 0; i < count; ++i) {
    std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
  }
  return make_bytes_tensor(type, std::move(dims), std::move(bytes));
}

std::optional<std::string> unknown_domain_in(const Node& node, std::set<const Function*>& seen);

std::optional<std::string> unknown_domain_in(const Graph& graph, std::set<const Function*>& seen) {
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    if (auto domain = unknown_domain_in(*node, seen)) return domain;
  }
  return std::nullopt;
}

// `seen`: functions that were looked into.
std::optional<std::string> unknown_domain_in(const Node& node, std::set<const Function*>& seen) {
  if (!node.domain().empty()) {
    const Function* called = node.graph().model().called_function(node);
    if (called == nullptr) return std::string(node.domain());
    if (seen.insert(called).second) {
      if (auto domain = unknown_domain_in(*called->body, seen)) return domain;
    }
  }
  for (const Graph* body : node.bodies()) {
    if (auto domain = unknown_domain_in(*body, seen)) return domain;
  }
  return std::nullopt;
}

}  // namespace

void chose(PassContext& context, const Node& node, std::string what) {
  Decision decision;
  decision.subject = node.label();
  decision.op_type = node.op_type();
  decision.what = std::move(what);
  context.explain().chose(std::move(decision));
}

std::int64_t modernise_initializers(Model& model, PassContext& context) {
  if (model.ir_version() >= 4) return 0;
  std::int64_t frozen = 0;
  const auto initializers = model.graph().initializers();
  for (Value* value : std::vector<Value*>(initializers.begin(), initializers.end())) {
    if (!value->is_graph_input()) continue;
    context.edit().freeze_input(*value);
    ++frozen;
  }
  context.edit().require_ir_version(4);
  return frozen;
}

Value& add_constant(PassContext& context, Graph& graph, std::string_view base_name, Tensor tensor) {
  modernise_initializers(graph.model(), context);
  return context.edit().add_initializer(graph, base_name, std::move(tensor));
}

void give_constant(PassContext& context, Node& node, std::size_t slot, std::string_view base_name,
                   Tensor tensor) {
  Value* value = node.input(slot);
  if (value != nullptr && value->is_initializer() && value->uses().size() == 1 &&
      !value->is_graph_input()) {
    context.edit().set_constant(*value, std::move(tensor));
    return;
  }
  Value& fresh = add_constant(context, node.graph(), base_name, std::move(tensor));
  context.edit().set_input(node, slot, &fresh);
}

std::int64_t elements_freed(const Value& operand) {
  const auto tensor = constant_of(&operand);
  return tensor && operand.uses().size() == 1 ? tensor->elements() : 0;
}

namespace {
std::string why_not_forward(PassContext& context, const Value& from, const Value& to) {
  if (std::string reason = context.edit().why_not_replace(from, to); !reason.empty()) {
    return reason;
  }
  if (from.is_graph_output() && to.is_graph_output()) {
    return "'" + std::string(from.name()) + "' and '" + std::string(to.name()) +
           "' are both graph outputs";
  }
  return {};
}
}  // namespace

std::string why_not_bypass(PassContext& context, const Node& node, const Value& to) {
  return why_not_forward(context, *node.output(0), to);
}

std::string forward(PassContext& context, Value& from, Value& to) {
  Editor& editor = context.edit();
  if (std::string reason = why_not_forward(context, from, to); !reason.empty()) return reason;
  if (to.type() == nullptr && from.type() != nullptr && !to.is_initializer()) {
    editor.set_type(to, *from.type(), false);
  }
  Status status = editor.replace_all(from, to);
  return status.ok() ? std::string() : status.error().diagnostic.message;
}

namespace {
// Whether the node could be an Identity and is none yet.
bool may_become_identity(const Node& node) {
  if (node.is("Identity") || !node.domain().empty() || !node.bodies().empty()) return false;
  for (std::size_t i = 1; i < node.outputs().size(); ++i) {
    if (node.output(i) != nullptr && !node.output(i)->uses().empty()) return false;
  }
  return node.output(0)->is_graph_output();
}

Status become_identity(PassContext& context, Node& node, Value& to) {
  Editor& editor = context.edit();
  std::vector<std::string> names;
  for (const Attribute& held : node.attributes()) names.push_back(held.name);
  for (const std::string& name : names) editor.remove_attribute(node, name);
  while (node.outputs().size() > 1) {
    MCOMPRESS_TRY(editor.erase_output(node, node.outputs().size() - 1));
  }
  const std::vector<Value*> inputs(node.inputs().begin(), node.inputs().end());
  while (node.inputs().size() > 1) editor.remove_trailing_input(node);
  editor.set_op_type(node, "", "Identity");
  editor.set_input(node, 0, &to);
  for (Value* input : inputs) {
    if (input != nullptr && input != &to) MCOMPRESS_TRY(erase_unused(context, *input));
  }
  return ok_status();
}
}  // namespace

Result<std::string> bypass(PassContext& context, Node& node, Value& to) {
  if (std::string reason = forward(context, *node.output(0), to); !reason.empty()) {
    if (!may_become_identity(node)) return reason;
    MCOMPRESS_TRY(become_identity(context, node, to));
    return std::string();
  }
  MCOMPRESS_TRY(context.edit().erase(node));
  return std::string();
}

std::optional<std::string> unknown_domain_in(const Node& node) {
  std::set<const Function*> seen;
  return unknown_domain_in(node, seen);
}

bool may_be_erased(const Node& node) {
  const bool unread = std::ranges::all_of(
      node.outputs(), [](const Value* value) { return value == nullptr || value->uses().empty(); });
  return unread && !unknown_domain_in(node);
}

Status erase_unused(PassContext& context, Value& value) {
  std::vector<Value*> work{&value};
  while (!work.empty()) {
    Value& next = *work.back();
    work.pop_back();
    if (IrInternals::erased(next) || !next.uses().empty()) continue;
    if (Node* node = next.producer()) {
      if (!may_be_erased(*node) || !node->bodies().empty()) continue;
      for (Value* input : node->inputs()) {
        if (input != nullptr) work.push_back(input);
      }
      MCOMPRESS_TRY(context.edit().erase(*node));
    } else if (next.is_initializer() && !next.is_graph_input()) {
      MCOMPRESS_TRY(context.edit().erase_initializer(next));
    }
  }
  return ok_status();
}

Result<Tensor> number_tensor(double number, DataType type, std::vector<std::int64_t> dims) {
  switch (type) {
    case DataType::kDouble:
      return filled<double>(type, number, std::move(dims));
    case DataType::kInt64:
      return filled<std::int64_t>(type, number, std::move(dims));
    case DataType::kInt32:
      return filled<std::int32_t>(type, number, std::move(dims));
    case DataType::kInt8:
      return filled<std::int8_t>(type, number, std::move(dims));
    case DataType::kUint8:
      return filled<std::uint8_t>(type, number, std::move(dims));
    default: {
      const auto bytes = packed_bytes(type, element_count(dims).value_or(0));
      if (can_encode(type) && bytes) {
        const std::vector<float> values(static_cast<std::size_t>(*element_count(dims)),
                                        static_cast<float>(number));
        std::vector<std::byte> packed(*bytes);
        if (encode_from_float(type, values, packed, {})) {
          return make_bytes_tensor(type, std::move(dims), std::move(packed));
        }
      }
      return Error(Code::kUnsupported, "number-type",
                   "no constant of type " + dtype_name(type) + " can be made here");
    }
  }
}

}  // namespace mcompress
