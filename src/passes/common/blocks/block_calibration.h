// What the readers of weights in few bits multiply them with, from calibration data.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "numeric/gptq.h"
#include "passes/common/blocks/block_plan.h"
#include "passes/common/layer_rows.h"

namespace mcompress {

// The input of one reader of a unit: columns of `rows` are those of the unit, in another order for
// convolutions.
struct UnitInput {
  std::size_t unit = 0;
  const Node* reader = nullptr;
  std::string value;  // the reader's first input, when it was looked at
  LayerRows rows;
  std::vector<std::uint32_t> column;  // of `rows`, for each column of the unit; empty: the same
  // Of a convolution of several groups: which of them sees this. The unit's rows are theirs in
  // turn, as many each.
  std::size_t group = 0, groups = 1;
};

// Of matrix products and convolutions of the top graph. Other units have none: what recurrent
// operators multiply can not be seen, and rows of tables are not multiplied. `grouped`:
// convolutions of several groups, too, with an input for each group.
std::vector<UnitInput> unit_inputs(const std::vector<BlockUnit>& units, bool grouped = false);

struct ObservedRows {
  std::int64_t samples = 64;   // of the calibration data, spread evenly
  bool leave_judging = false;  // what judges (SampleSplit) is not looked at
  // Rows wanted of all samples together, for an input of so many columns.
  std::function<std::int64_t(std::size_t columns)> wanted;
};

// Runs the model on the calibration data and hands out rows of the inputs, a part of one sample at
// a time: `receive(place in inputs, rows)`. Readers of one value in one way share a call: only the
// first of them is called, see `shared_with`. Fails as the data and the runtime do.
Status observe_rows(
    const Model& model, const std::vector<UnitInput>& inputs, const ObservedRows& how,
    PassContext& context,
    const std::function<void(std::size_t input, std::vector<float>& rows)>& receive);
// For each input the place of the first one that sees the same.
std::vector<std::size_t> shared_with(const std::vector<UnitInput>& inputs);

// Mean of x^2 for each column of each unit, over the groups as well; empty for units without input,
// or when nothing finite was seen. One run over the data.
Result<std::vector<std::vector<float>>> column_energies(const Model& model,
                                                        const std::vector<BlockUnit>& units,
                                                        std::int64_t samples, PassContext& context);
// The same for given inputs of so many units.
Result<std::vector<std::vector<float>>> input_energies(const Model& model,
                                                       const std::vector<UnitInput>& inputs,
                                                       std::size_t units, std::int64_t samples,
                                                       PassContext& context);

}  // namespace mcompress
