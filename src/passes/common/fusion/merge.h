// Several nodes become one operator.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/fusion/expression.h"

namespace mcompress {

// Why merged operators are not for the elements of this value: their kernels are for float32.
// Empty: they are.
std::string why_not_float(const Value& value);

// The constant number that a Mul or Div multiplies its operand `slot` with, without adding axes.
// Empty: another node, or a number that is 0 or not finite.
std::optional<double> scalar_factor(const Node& node, std::size_t& slot);

// The node becomes another operator that reads other inputs. What it read before and nobody reads
// now goes.
Status become(PassContext& context, Node& node, NewNode form);

// A gate that an operator of one input, x, can stand for.
struct GateSite {
  Gate gate;
  std::vector<NewAttribute> attributes;
};
// Writes the sites as `op_type` of the default domain, where they may and the target has it;
// reports "eligible" and "fused".
Status merge_gates(Model& model, PassContext& context, std::string_view op_type,
                   std::vector<GateSite> sites);

}  // namespace mcompress
