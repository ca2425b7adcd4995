#include "runtime/model_facts.h"

#include "ir/walk.h"

namespace mcompress {

KnownTypes known_types(const Model& model) {
  KnownTypes known;
  for (const Value* value : model.graph().inputs()) known.emplace(value->name(), value->type());
  for (const Value* value : model.graph().outputs()) known.emplace(value->name(), value->type());
  return known;
}

std::vector<std::pair<std::string, std::int64_t>> count_operators(Model& model) {
  std::map<std::string, std::int64_t> counts;
  for_each_node(model.graph(), [&](const Node& node) {
    std::string key(node.domain());
    if (!key.empty()) key += ':';
    ++counts[key + std::string(node.op_type())];
  });
  return {counts.begin(), counts.end()};
}

std::uint64_t total_bytes(const LargeTensors& large) {
  std::uint64_t total = 0;
  for (const auto& [name, tensor] : large) total += tensor.byte_size();
  return total;
}

}  // namespace mcompress
