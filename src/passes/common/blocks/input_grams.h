// Second moments of what weights are multiplied with.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "numeric/gptq.h"
#include "passes/common/blocks/block_calibration.h"

namespace mcompress {

// One Gram matrix for all inputs that see the same.
struct InputGrams {
  std::vector<std::unique_ptr<GramMatrix>> grams;  // by input; null for those that share another's
  std::vector<std::size_t> first;                  // as shared_with() has it
  // Null when nothing finite was seen.
  const GramMatrix* of(std::size_t input) const { return grams[first[input]].get(); }
};

std::uint64_t gram_bytes(std::size_t columns);
// Rows that make a Gram matrix of so many columns: four for each, within 4,096 and 32,768.
std::int64_t gram_rows(std::size_t columns);

// The moments of the input's rows by the columns of its unit.
std::vector<double> in_order_of_unit(const GramMatrix& gram, const UnitInput& input);

// Runs the model on `samples` of the calibration data, spread evenly, and takes about gram_rows()
// of each input. Fails as observe_rows does.
Result<InputGrams> collect_grams(const Model& model, const std::vector<UnitInput>& inputs,
                                 std::int64_t samples, PassContext& context);

// How many of the inputs from `begin` on fit in `bytes` of Gram matrices, one at least: those that
// see the same, which must stand side by side, stay together. Returns the end.
std::size_t inputs_within(const std::vector<UnitInput>& inputs, std::size_t begin, std::size_t most,
                          std::uint64_t bytes);

// So that those that see the same stand side by side, else in the order in which the graph
// computes what they read.
void order_inputs(const Graph& graph, std::vector<UnitInput>& inputs);

}  // namespace mcompress
