// In which form the weights of a model are stored: read off the operators between the constants
// and the nodes that compute with them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/ir.h"
#include "mcompress/status.h"

namespace mcompress::tools {

struct WeightForm {
  std::string tensor;         // the constant with the most bytes
  std::string node, op_type;  // the node that computes with it
  std::string form;           // "int8, a scale per channel on axis 0 (DequantizeLinear)"
  bool compressed = false;
  std::vector<std::int64_t> dims;  // as computed with; empty: unknown
  std::uint64_t bytes = 0;         // of all constants it is made of
  std::uint64_t float_bytes = 0;   // as float32; 0: unknown
  std::optional<double> density;   // share of stored float numbers that are not 0
};

// One entry for each weight and the first node that computes with it, in graph order, nested
// graphs included. Constants of less than `min_elements` are no weights. Fails when the file can
// not be read.
Result<std::vector<WeightForm>> weight_forms(const Model& model, std::int64_t min_elements);

}  // namespace mcompress::tools
