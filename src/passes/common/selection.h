// Which nodes a user included or excluded.
#pragma once

#include <string>
#include <vector>

#include "mcompress/ir.h"
#include "mcompress/status.h"

namespace mcompress {

// Patterns are globs over node names, operator types and tensor names. Nothing included means
// everything is.
class Selection {
 public:
  Selection(std::vector<std::string> include, std::vector<std::string> exclude)
      : include_(std::move(include)), exclude_(std::move(exclude)) {}

  // Why the node is left alone; empty: it is selected. `weight` may be null.
  std::string why_not(const Node& node, const Value* weight) const;

 private:
  std::vector<std::string> include_, exclude_;
};

}  // namespace mcompress
