#include "passes/common/constants.h"

#include <utility>

#include "ir/facts.h"
#include "ir/walk.h"

namespace mcompress {

std::vector<Value*> constants_of(Graph& graph) {
  std::vector<Value*> values;
  for_each_graph(graph, [&](Graph& part) {
    values.insert(values.end(), part.initializers().begin(), part.initializers().end());
    for (const Node* node : part.nodes()) {
      if (node->is("Constant") && is_constant(node->output(0))) values.push_back(node->output(0));
    }
  });
  return values;
}

Tensor make_int32_tensor(std::span<const std::int32_t> numbers, std::vector<std::int64_t> dims) {
  const auto raw = std::as_bytes(numbers);
  return make_bytes_tensor(DataType::kInt32, std::move(dims), {raw.begin(), raw.end()});
}

void explain_kept(PassContext& context, const Value& value, const Tensor& tensor, const Node* user,
                  std::string why) {
  Decision decision;
  decision.subject = value.name();
  if (user != nullptr) decision.op_type = user->op_type();
  decision.why = std::move(why);
  decision.bytes_before = decision.bytes_after = tensor.byte_size();
  context.explain().skipped(std::move(decision));
}

}  // namespace mcompress
