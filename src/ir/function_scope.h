// The body of a function in the place of the model's graph, for a while.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>

#include "ir/builder.h"
#include "mcompress/edit.h"

namespace mcompress {

// While it lives, the model's graph is the body of a function, with the function's operator sets:
// what edits graphs edits the function. The function is out of the model's list meanwhile. Nodes
// whose attributes refer to those of a call are in domain "reference:..." so that nobody takes
// them for operators whose attributes are left out. In the end all is put back: initializers that
// the body has got become Constant nodes, and types that the file does not tell are forgotten, as
// they held for the calls that there are.
class Builder::FunctionScope {
 public:
  FunctionScope(Editor& editor, std::size_t position);
  ~FunctionScope();
  FunctionScope(const FunctionScope&) = delete;
  FunctionScope& operator=(const FunctionScope&) = delete;

 private:
  void hide_references();
  void write_constants();
  void restore_types();

  Editor& editor_;
  Model& model_;
  std::size_t position_;
  Function function_;  // with the model's graph in the place of its body, and its operator sets
  Origin origin_;      // of the body
  std::map<std::string, std::int64_t, std::less<>> opsets_;  // of the function, as they were
  bool opsets_edited_ = false;                               // of the model
  std::unordered_map<const Value*, const TypeInfo*> types_;  // as the file tells them
};

}  // namespace mcompress
