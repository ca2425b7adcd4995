#include "passes/common/fusion/evaluate.h"

#include "ir/part.h"
#include "support/try.h"

namespace mcompress {

std::string why_not_evaluable(const Node& node) { return why_no_part(node); }

Result<std::vector<Tensor>> evaluate(Runtime& runtime, const Model& model,
                                     std::span<Node* const> nodes, std::span<Value* const> wanted) {
  for (const Node* node : nodes) {
    if (std::string why = why_no_part(*node); !why.empty()) {
      return Error(Code::kInternal, "fold-attribute", std::move(why));
    }
  }
  const std::vector<const Node*> taken(nodes.begin(), nodes.end());
  const std::vector<const Value*> asked(wanted.begin(), wanted.end());
  const auto part = part_of(model, taken, {}, asked);
  std::vector<std::string> names;
  names.reserve(wanted.size());
  for (const Value* value : wanted) names.push_back(part_name(*value));
  SessionOptions options;
  options.optimisation = Optimisation::kNone;
  options.prepack = false;
  options.memory_arena = false;
  MCOMPRESS_ASSIGN(const auto session, runtime.open(*part, options));
  return session->run({}, names);
}

}  // namespace mcompress
