#include "passes/common/integer/integer_costs.h"

#include <cmath>

namespace mcompress {
namespace {

constexpr std::size_t kImageRank = 4;
constexpr double kSmallKernel = 9;
constexpr double kFewRows = 4;         // below, reading the weight is the work
constexpr double kWide = 16;           // channels of the input
constexpr double kVolumeTap = 6;       // finding a tap's place, once for all channels
constexpr double kVolumeColumn = 2.5;  // columns of volumes against those of signals

double float_convolution(const KernelCosts& costs, const LayerShape& shape, double macs) {
  const bool small = shape.taps <= kSmallKernel;
  if (shape.rank == kImageRank) {
    if (!shape.depthwise) return costs.node + macs / costs.float_convolution;
    return costs.node + macs / (small ? costs.float_depthwise : costs.float_large_depthwise);
  }
  double total = costs.node + macs / costs.float_product + shape.groups * costs.float_group;
  if (shape.taps > 1) {
    const double columns = shape.outputs / shape.channels * shape.length * shape.groups;
    total += columns * costs.float_column * (shape.rank > kImageRank ? kVolumeColumn : 1);
  }
  return total;
}

double integer_convolution(const KernelCosts& costs, const LayerShape& shape, double macs) {
  const double positions = shape.outputs / shape.channels;
  double total = costs.node;
  if (shape.rank > kImageRank && shape.taps > 1) total += positions * shape.taps * kVolumeTap;
  if (shape.depthwise) {
    const bool small = shape.taps <= kSmallKernel;
    return total + macs / (small ? costs.integer_depthwise : costs.integer_large_depthwise);
  }
  double row = costs.integer_row;
  if (shape.groups > 1) {
    row += costs.integer_group + costs.integer_copy * shape.taps;
  } else if (shape.length / shape.taps < kWide) {
    row += costs.integer_narrow + costs.integer_narrow_result * shape.channels;
    // A signal's taps lie side by side, of an image only those of one line.
    if (shape.rank >= kImageRank) row += costs.integer_copy * std::sqrt(shape.taps);
  }
  return total + positions * shape.groups * row + macs / costs.integer_product;
}

}  // namespace

LayerCost convolution_cost(const KernelCosts& costs, const LayerShape& shape) {
  const double macs = shape.outputs * shape.length;
  return {float_convolution(costs, shape, macs), integer_convolution(costs, shape, macs)};
}

LayerCost product_cost(const KernelCosts& costs, const LayerShape& shape) {
  const double weights = shape.length * shape.channels;
  // A Gemm or MatMul starts faster than a convolution, in integers by less.
  const double start = costs.node * 0.2, integer_start = costs.node * 0.7;
  if (shape.outputs / shape.channels <= kFewRows) {
    return {start + weights * costs.float_weight, integer_start + weights * costs.integer_weight +
                                                      shape.outputs * costs.integer_single_result};
  }
  const double macs = shape.outputs * shape.length;
  return {start + macs / costs.float_product,
          integer_start + macs / costs.integer_product + shape.outputs * costs.integer_result};
}

}  // namespace mcompress
