// Which weights of a model are pruned, and what is known of the layers that read them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "numeric/block_quantize.h"
#include "numeric/sparsity.h"
#include "passes/common/layer_rows.h"
#include "passes/common/weights.h"

namespace mcompress {

// One float32 constant, seen as rows of columns in the order of channel_vectors().
struct PruneLayer {
  std::uint32_t value = 0;  // id, the same in clones of the model
  std::string name;
  std::string op_type;
  std::string user;  // label of a node that reads it
  Tensor tensor;     // as it came
  WeightView view;
  // Of a node of the top graph whose inputs can be observed, else 0 and empty.
  std::uint32_t node = 0;
  std::string input;
  std::optional<LayerRows> rows;
  bool takes_shift = false;  // a bias, or room for one
  // What stays is rounded to this grid; empty: it stays float32.
  std::optional<BlockFormat> format;
  std::string dense_because;  // why nothing of it goes; empty: it is pruned

  std::size_t columns() const { return static_cast<std::size_t>(view.length()); }
  std::size_t row_count() const { return static_cast<std::size_t>(view.channels); }
  std::size_t groups() const { return rows ? static_cast<std::size_t>(rows->groups()) : 1; }
  // Columns side by side along the input axis: of a convolution the channels at one tap.
  std::size_t run() const;
  // For each column its place among the columns of RowView, as grids lie; empty: the same.
  std::vector<std::uint32_t> places() const;
};

struct PruneSelection {
  std::vector<std::string> include, exclude;
  std::int64_t min_elements = 256;
  bool ends = false;  // the first convolution and the classifier too
  // Plan what is spared as an end, too, with `dense_because`: it is rounded.
  bool with_dense = false;
};

// In the order in which the graph computes them, nested graphs behind; every float weight that is
// left out is explained when `explain`. Fails as reading the weights does.
Result<std::vector<PruneLayer>> plan_pruning(Model& model, const PruneSelection& selection,
                                             bool explain, PassContext& context);

// Rows of floats back in the order of the weight.
Result<Tensor> tensor_of_vectors(std::span<const float> vectors, const WeightView& view,
                                 std::span<const std::int64_t> dims, TensorFactory& tensors);

// Writes what was decided into the planned model or a clone of it.
class LayerWriter {
 public:
  LayerWriter(Model& model, Editor& edit);
  // Gives the layer's value these weights, and adds `shift` (one number per row, or empty) to what
  // its node makes.
  Status write(const PruneLayer& layer, const Tensor& weights, std::span<const double> shift);

 private:
  Model& model_;
  Editor& edit_;
  std::map<std::uint32_t, Value*> values_;
  std::map<std::uint32_t, Node*> nodes_;
};

}  // namespace mcompress
