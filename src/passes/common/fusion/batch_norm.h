// BatchNormalization in inference as an affine step per channel.
#pragma once

#include <string>
#include <vector>

#include "mcompress/ir.h"

namespace mcompress {

// y = a x + c, in double; or the reason why the node is no such step.
struct BatchNormStep {
  std::vector<double> a, c;  // one entry per channel
  std::string why_not;
};
BatchNormStep batch_norm_step(const Node& node);

}  // namespace mcompress
