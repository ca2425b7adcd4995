// Weights that are integers already: their symbols, what a step of each is worth, and who reads
// them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/blocks/block_calibration.h"

namespace mcompress {

// An int8, uint8, int4 or uint4 constant, or the packed codes of MatMulNBits. Element e lies in
// group ((e / (axis * inner)) * groups_along + (e / inner % axis) / block) * inner' + e % inner,
// where inner' and the last term are 1 and 0 for scales that all of an index of the axis share.
struct IntegerWeight {
  Value* value = nullptr;
  Tensor tensor;
  const Node* user = nullptr;         // one that knows the scale
  bool halves = false;                // two symbols in a byte, the first one lower
  std::uint8_t flip = 0;              // turns codes into symbols that rise with the numbers
  std::vector<std::uint8_t> symbols;  // 0 to 255, or 0 to 15
  std::vector<float> steps;           // by group
  std::optional<std::uint8_t> zero;   // the symbol of 0, where it is the same in all groups
  std::vector<std::uint8_t> zeros;    // of each group, or one
  std::size_t axis = 1, inner = 1, block = 1;
  bool by_inner = false;  // one step for each element across the axis, as blocks have it
  std::size_t column_part = 0, column_inner = 0;  // column e / part * inner + e % inner
  std::vector<float> energy;                      // mean x^2 by column; empty: all alike

  std::size_t group_of(std::size_t e) const {
    if (steps.size() == 1) return 0;
    const std::size_t along = e / inner % axis / block;
    if (!by_inner) return along;
    const std::size_t blocks = (axis + block - 1) / block;
    return (e / (axis * inner) * blocks + along) * inner + e % inner;
  }
  // What an error of one step counts.
  double weight_of(std::size_t e) const {
    const double step = steps[group_of(e)];
    const double h =
        energy.empty() ? 1 : double{energy[e / column_part * column_inner + e % column_inner]};
    return h * step * step;
  }
  std::uint8_t zero_of(std::size_t e) const {
    return zeros.size() == 1 ? zeros.front() : zeros[group_of(e)];
  }
};

// Reads a constant that all its readers take in one way. The reason why not otherwise.
struct FoundIntegers {
  std::optional<IntegerWeight> weight;
  std::string why;
};
// Fails as reading does.
Result<FoundIntegers> integer_weight(Value& value);

// Fills `energy` from the calibration data: matrix products and convolutions of the top graph with
// float inputs; what was never seen counts a hundredth of the mean. Fails as observe_rows does.
Status measure_energies(const Model& model, std::vector<IntegerWeight>& weights,
                        std::int64_t samples, PassContext& context);

// A tensor with these symbols in the place of the weight's own.
Result<Tensor> with_symbols(const IntegerWeight& weight, const std::vector<std::uint8_t>& symbols,
                            TensorFactory& tensors);

}  // namespace mcompress
