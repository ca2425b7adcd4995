// A convolution with constant weights in numbers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "passes/common/fusion/linear.h"

namespace mcompress {

struct ConvShape {
  std::int64_t outputs = 0, inputs = 0, groups = 1;            // inputs: of one group
  std::vector<std::int64_t> kernel, strides, dilations, pads;  // pads: begins, then ends
  std::string why_not;           // "Conv 'c' pads by auto_pad": the numbers do not tell all
  std::int64_t taps() const;     // of the kernel
  std::int64_t weights() const;  // elements of the weight
};
// `op` is a Conv.
ConvShape conv_shape(const LinearOp& op);

}  // namespace mcompress
