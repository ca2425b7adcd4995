// Normalisations over the last axes, written out:
//
//   y = (x - mean) / sqrt(variance + epsilon) * gamma + beta
//   y = x / sqrt(mean of x^2 + epsilon) * gamma
//
// with the means as ReduceMean, or as ReduceSum times 1/n; the variance as the mean of (x - mean)^2
// or as the mean of x^2 less mean^2; and the rest in any order and grouping.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/pass.h"

namespace mcompress {

struct Normalization {
  Node* root = nullptr;
  Value* x = nullptr;
  bool centred = false;            // the mean is taken off
  std::int64_t axis = -1;          // first of the last axes, counted from the end
  std::vector<std::int64_t> dims;  // of x from that axis on
  double epsilon = 0;
  const Value* gamma = nullptr;  // null: one number
  double gamma_factor = 1;
  const Value* beta = nullptr;  // null: one number
  double beta_factor = 0;
  std::vector<Node*> nodes;  // all that goes, the root too
  std::string why_not;
};

// The normalisation that this node (Sqrt, or Pow by -1/2) is the standard deviation of.
std::optional<Normalization> find_normalization(Node& node);

// A vector of `dims` from the constant (null: ones) times the factor, as an initializer. Empty when
// no such tensor can be made.
Value* parameter_of(PassContext& context, Graph& graph, std::string_view name,
                    const Value* constant, double factor, const std::vector<std::int64_t>& dims);

// Writes those that are centred (or not) as `op_type`, where they may and the target has it;
// reports "eligible" and "fused".
Status merge_normalizations(Model& model, PassContext& context, std::string_view op_type,
                            bool centred);

}  // namespace mcompress
