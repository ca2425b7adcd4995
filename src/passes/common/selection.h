// Which nodes a user included or excluded.
#pragma once

#include <string>
#include <vector>

#include "mcompress/ir.h"
#include "mcompress/options.h"
#include "mcompress/status.h"
#include "support/text.h"

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
  GlobList include_, exclude_;
};

// The options of a pass that takes a selection: "include" and "exclude".
template <class Options>
Schema<Options> selection_schema() {
  return Schema<Options>()
      .field("include", &Options::include,
             "only nodes whose name, type or tensor matches one of these globs")
      .field("exclude", &Options::exclude,
             "not the nodes whose name, type or tensor matches one of these globs");
}

}  // namespace mcompress
