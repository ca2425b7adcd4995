#include "passes/common/selection.h"

#include <algorithm>

namespace mcompress {
namespace {

// The first of the patterns that matches a name of the node, or of its weight; null: none.
const std::string* first_match(const GlobList& list, const Node& node, const Value* weight) {
  const std::size_t none = list.patterns().size();
  if (none == 0) return nullptr;
  std::size_t first = std::min(list.first_match(node.name()), list.first_match(node.op_type()));
  if (weight != nullptr) first = std::min(first, list.first_match(weight->name()));
  for (const Value* value : node.outputs()) {
    if (value != nullptr) first = std::min(first, list.first_match(value->name()));
  }
  return first < none ? &list.patterns()[first] : nullptr;
}

}  // namespace

std::string Selection::why_not(const Node& node, const Value* weight) const {
  if (const std::string* pattern = first_match(exclude_, node, weight)) {
    return "excluded by '" + *pattern + "'";
  }
  if (include_.patterns().empty() || first_match(include_, node, weight) != nullptr) return {};
  return "not among the included";
}

}  // namespace mcompress
