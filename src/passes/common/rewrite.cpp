#include "passes/common/rewrite.h"

#include <cstring>

#include "ir/convert.h"
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

Value& add_constant(PassContext& context, Graph& graph, std::string_view base_name,
                    Tensor tensor) {
  modernise_initializers(graph.model(), context);
  return context.edit().add_initializer(graph, base_name, std::move(tensor));
}

std::string forward(PassContext& context, Value& from, Value& to) {
  Editor& editor = context.edit();
  if (std::string reason = editor.why_not_replace(from, to); !reason.empty()) return reason;
  if (from.is_graph_output() && to.is_graph_output()) {
    return "'" + std::string(from.name()) + "' and '" + std::string(to.name()) +
           "' are both graph outputs";
  }
  if (to.type() == nullptr && from.type() != nullptr && !to.is_initializer()) {
    editor.set_type(to, *from.type(), false);
  }
  Status status = editor.replace_all(from, to);
  return status.ok() ? std::string() : status.error().diagnostic.message;
}

Result<std::string> bypass(PassContext& context, Node& node, Value& to) {
  if (std::string reason = forward(context, *node.output(0), to); !reason.empty()) return reason;
  MCOMPRESS_TRY(context.edit().erase(node));
  return std::string();
}

Status erase_unused(PassContext& context, Value& value) {
  if (!value.uses().empty()) return ok_status();
  if (Node* node = value.producer()) {
    for (const Value* output : node->outputs()) {
      if (output != nullptr && !output->uses().empty()) return ok_status();
    }
    const std::vector<Value*> inputs(node->inputs().begin(), node->inputs().end());
    MCOMPRESS_TRY(context.edit().erase(*node));
    for (Value* input : inputs) {
      // An operand read twice has nothing more to erase the second time.
      if (input != nullptr && std::find(inputs.begin(), inputs.end(), input) != inputs.end()) {
        MCOMPRESS_TRY(erase_unused(context, *input));
      }
    }
    return ok_status();
  }
  if (value.is_initializer() && !value.is_graph_input()) {
    return context.edit().erase_initializer(value);
  }
  return ok_status();
}

Result<Tensor> number_tensor(double number, DataType type, std::vector<std::int64_t> dims) {
  switch (type) {
    case DataType::kDouble: return filled<double>(type, number, std::move(dims));
    case DataType::kInt64: return filled<std::int64_t>(type, number, std::move(dims));
    case DataType::kInt32: return filled<std::int32_t>(type, number, std::move(dims));
    case DataType::kInt8: return filled<std::int8_t>(type, number, std::move(dims));
    case DataType::kUint8: return filled<std::uint8_t>(type, number, std::move(dims));
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
