#include "passes/common/selection.h"

#include "support/text.h"

namespace mcompress {
namespace {

bool matches(const std::string& pattern, const Node& node, const Value* weight) {
  if (glob_match(pattern, node.name()) || glob_match(pattern, node.op_type())) return true;
  if (weight != nullptr && glob_match(pattern, weight->name())) return true;
  for (const Value* value : node.outputs()) {
    if (value != nullptr && glob_match(pattern, value->name())) return true;
  }
  return false;
}

}  // namespace

std::string Selection::why_not(const Node& node, const Value* weight) const {
  for (const std::string& pattern : exclude_) {
    if (matches(pattern, node, weight)) return "excluded by '" + pattern + "'";
  }
  if (include_.empty()) return {};
  for (const std::string& pattern : include_) {
    if (matches(pattern, node, weight)) return {};
  }
  return "not among the included";
}

}  // namespace mcompress
