// What layers take in float32 and in integers, by the costs of a target.
#pragma once

#include <cstddef>

#include "mcompress/target.h"

namespace mcompress {

struct LayerShape {
  double outputs = 0;   // elements of the result
  double channels = 1;  // of the result
  double length = 1;    // weights per channel of the result
  double taps = 1;      // positions of the spatial kernel
  double groups = 1;
  std::size_t rank = 4;    // of the input of a convolution
  bool depthwise = false;  // one channel of the input per group, more than one group
};

struct LayerCost {
  double real = 0, integer = 0;  // nanoseconds on one thread
};

// Convolutions of images (rank 4) have blocked float32 kernels; others gather columns and multiply.
LayerCost convolution_cost(const KernelCosts& costs, const LayerShape& shape);
// Gemm and MatMul with a constant weight.
LayerCost product_cost(const KernelCosts& costs, const LayerShape& shape);

}  // namespace mcompress
