#include "passes/common/fusion/convolution.h"

#include <functional>
#include <numeric>

namespace mcompress {

std::int64_t ConvShape::taps() const {
  return std::accumulate(kernel.begin(), kernel.end(), std::int64_t{1}, std::multiplies<>());
}

std::int64_t ConvShape::weights() const { return outputs * inputs * taps(); }

ConvShape conv_shape(const LinearOp& op) {
  using Ints = std::vector<std::int64_t>;
  ConvShape shape;
  const Node& node = *op.node;
  const auto weight = static_shape(*node.input(1)).value();
  const std::size_t rank = weight.size() - 2;
  shape.outputs = weight[0];
  shape.inputs = weight[1];
  shape.groups = node.int_attribute("group", 1);
  shape.kernel.assign(weight.begin() + 2, weight.end());
  shape.strides = node.ints_attribute("strides").value_or(Ints(rank, 1));
  shape.dilations = node.ints_attribute("dilations").value_or(Ints(rank, 1));
  shape.pads = node.ints_attribute("pads").value_or(Ints(2 * rank, 0));
  const std::string_view automatic = node.string_attribute("auto_pad", "NOTSET");
  if (automatic == "VALID") {
    shape.pads.assign(2 * rank, 0);
  } else if (automatic != "NOTSET") {
    shape.why_not = op.label() + " pads by auto_pad";
  }
  if (shape.strides.size() != rank || shape.dilations.size() != rank ||
      shape.pads.size() != 2 * rank || shape.groups < 1 || shape.outputs % shape.groups != 0) {
    shape.why_not = op.label() + " has unusual attributes";
  }
  return shape;
}

}  // namespace mcompress
