// Models read without being run: what they compute, what they keep in memory, how two of them
// differ. docs/inspect.md has the formulas.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mcompress/edit.h"
#include "mcompress/ir.h"
#include "mcompress/status.h"

namespace mcompress {

// --------------------------------------------------------------------------------------- shapes

using ShapePins = std::map<std::string, std::vector<std::int64_t>, std::less<>>;

// What stands for the dimensions that a model leaves open.
struct PinnedShapes {
  std::map<std::string, std::int64_t, std::less<>> symbols;
  std::vector<std::string> assumed;  // "batch", "input 'x' axis 2": nobody gave a size, so 1
};
// Gives every input of the top graph the sizes of `pins`, the sizes that those imply for symbols
// that inputs share, and 1 where that leaves a dimension open. To be followed by infer_shapes().
// Fails with kUsage for a name that is no input, a wrong number of dimensions, a size that is
// negative, differs from a fixed dimension, or gives a symbol two sizes.
Result<PinnedShapes> pin_input_shapes(Editor& editor, const ShapePins& pins);

// ----------------------------------------------------------------------------------------- cost

// Counts that pass this stay at it: "that many or more".
inline constexpr std::uint64_t kCountLimit = (std::uint64_t{1} << 63) - 1;

struct NodeCost {
  // kAssumed: a dimension that only the data tell was taken as 1. kUnknown: no formula for the
  // operator, or not even the rank is known; such nodes count as nothing.
  enum class Certainty : std::uint8_t { kExact, kAssumed, kUnknown };

  const Node* node = nullptr;
  std::string graph;          // "" for the top graph, else "If_3/then_branch"
  std::uint64_t repeats = 1;  // how often it runs; 0: in the branch that costs less
  std::uint64_t macs = 0;     // multiply-accumulates, all repeats together
  std::uint64_t flops = 0;    // 2 per multiply-accumulate, and everything else
  std::uint64_t parameters = 0, weight_bytes = 0;  // of constants that no node before it reads
  Certainty certainty = Certainty::kExact;
};

struct ModelCost {
  std::vector<NodeCost> nodes;  // in execution order; a node with bodies before what is in them
  std::uint64_t macs = 0, flops = 0, parameters = 0, weight_bytes = 0;
  bool saturated = false;          // a count has reached kCountLimit
  std::vector<std::string> notes;  // what was assumed, and what was not counted
};
ModelCost cost_of(const Model& model, const PinnedShapes& shapes);

// --------------------------------------------------------------------------------------- memory

struct LiveValue {
  const Value* value = nullptr;
  std::string graph;
  std::uint64_t bytes = 0;
};

// Activations in execution order: a value lives from the node that makes it to its last reader,
// an input of the model from the beginning, an output to the end. Views (Reshape, Squeeze...)
// share their input's memory. Constants do not count.
struct MemoryPlan {
  std::uint64_t peak_bytes = 0;
  const Node* node = nullptr;  // where the peak is; null for a model without nodes
  std::string graph;
  std::vector<LiveValue> alive;   // at the peak, largest first
  std::uint64_t total_bytes = 0;  // of all activations, as if none were ever dropped
  std::uint64_t values = 0;
  bool saturated = false;
  std::vector<std::string> notes;
};
MemoryPlan plan_memory(const Model& model, const PinnedShapes& shapes);

// ----------------------------------------------------------------------------------- difference

// One fact that is not the same on both sides.
struct Difference {
  std::string what;  // "attribute 'axis'", "operator", "input 1", "opset ai.onnx"
  std::string before, after;
  bool operator==(const Difference&) const = default;
};

struct NodePair {
  const Node* before = nullptr;
  const Node* after = nullptr;
  std::vector<Difference> differences;  // empty: the same node
};

struct TensorPair {
  std::string before, after;            // names
  std::vector<Difference> differences;  // "type", "shape", "values"
  std::uint64_t bytes_before = 0, bytes_after = 0;
  std::optional<double> sqnr_db;  // where both decode to as many floats; +inf: equal values
  std::string through;  // "DequantizeLinear" when that stands between the tensor and its reader
};

struct ModelDiff {
  std::vector<NodePair> pairs;  // in the order of the second model, equal ones too
  std::vector<const Node*> removed, added;
  std::vector<TensorPair> tensors;  // constants that differ
  std::vector<std::string> removed_tensors, added_tensors;
  std::vector<std::pair<std::string, std::string>> renamed_nodes, renamed_values;
  std::vector<Difference> interface;  // inputs and outputs
  std::vector<Difference> model;      // IR version, operator sets, producer, metadata, functions

  // Nothing differs that could change a result; names may.
  bool same_content() const;
  // Not even names differ.
  bool identical() const;
};
// Aligns both models by what nodes compute and how they are connected, not by names or positions.
// Fails when weights can not be read.
Result<ModelDiff> diff_models(const Model& before, const Model& after);

// -------------------------------------------------------------------------------------- drawing

struct DrawOptions {
  std::size_t max_label = 48;  // longer names are cut, in bytes of UTF-8
};
// Graphviz text of a graph and those nested in it.
std::string draw_model(const Model& model, const ModelCost* cost, const DrawOptions& options);
// Both models in one graph: what was removed red, what was added green, what was changed amber.
std::string draw_diff(const Model& before, const Model& after, const ModelDiff& diff,
                      const DrawOptions& options);

}  // namespace mcompress
