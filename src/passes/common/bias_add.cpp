#include "passes/common/bias_add.h"

#include "ir/facts.h"

namespace mcompress {

bool is_bias(const Value* value, std::int64_t outputs) {
  const Tensor* tensor = value != nullptr ? value->constant() : nullptr;
  return tensor != nullptr && tensor->dtype() == DataType::kFloat &&
         tensor->elements() == outputs && !tensor->dims().empty() &&
         tensor->dims().back() == outputs;
}

std::optional<BiasAdd> find_bias_add(const Node& product, std::int64_t outputs) {
  if (product.output(0) == nullptr) return std::nullopt;
  Node* const add = only_user(*product.output(0));
  if (add == nullptr || !add->is("Add")) return std::nullopt;
  const std::size_t slot = add->input(0) == product.output(0) ? 1 : 0;
  if (!is_bias(add->input(slot), outputs)) return std::nullopt;
  return BiasAdd{add, slot};
}

}  // namespace mcompress
