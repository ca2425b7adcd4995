// Sizes of values for the analyses, with what was assumed on the way.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/analysis.h"

namespace mcompress {

// a * b and a + b that stop at kCountLimit.
std::uint64_t times(std::uint64_t a, std::uint64_t b);
std::uint64_t plus(std::uint64_t a, std::uint64_t b);

using Sizes = std::vector<std::uint64_t>;
std::uint64_t product(const Sizes& sizes);

class ShapeReader {
 public:
  explicit ShapeReader(const PinnedShapes& shapes) : shapes_(shapes) {}

  // Empty: the rank is unknown. Open dimensions are 1 and make `assumed` true.
  std::optional<Sizes> sizes(const Value* value);
  // Elements; 0 when the rank is unknown.
  std::optional<std::uint64_t> elements(const Value* value);
  // Empty: unknown rank or element type, or no tensor.
  std::optional<std::uint64_t> bytes(const Value* value);

  // Whether a dimension was taken as 1 since the last call.
  bool take_assumed();

 private:
  const PinnedShapes& shapes_;
  bool assumed_ = false;
};

// "If_3/then_branch" for a body of the node `If_3` in the top graph; "" for the top graph.
std::string graph_path(const Graph& graph);

}  // namespace mcompress
