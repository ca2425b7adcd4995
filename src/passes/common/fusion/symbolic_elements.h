// The elements of integer tensors, for SymbolicShapes.
#pragma once

#include <optional>

#include "passes/common/fusion/symbolic_shapes.h"

namespace mcompress {

class SymbolicElements {
 public:
  explicit SymbolicElements(SymbolicShapes& shapes) : shapes_(shapes) {}

  // Of an initializer or a Constant node.
  static std::optional<Terms> of_constant(const Value& value);
  // Of the first output of a node whose inputs are done.
  std::optional<Terms> of(const Node& node);

 private:
  std::optional<Terms> arithmetic(const Node& node);
  std::optional<Terms> choice(const Node& node);
  std::optional<Terms> gather(const Node& node) const;
  std::optional<Terms> slice(const Node& node) const;
  Term combine(const Node& node, Term left, Term right);
  const Terms* input(const Node& node, std::size_t slot) const;

  SymbolicShapes& shapes_;
};

}  // namespace mcompress
