// Reading the rows of weights, and rounding all of a weight.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/blocks/block_plan.h"

namespace mcompress {

// The numbers of a constant, row by row; of other types than float32 a copy is held.
class RowReader {
 public:
  static Result<RowReader> of(const Tensor& tensor, const RowView& view);
  // Rows first ... first + count - 1 (16 at most) as tile[k * 16 + r]; the other rows 0.
  void tile(std::size_t first, std::size_t count, std::span<float> tile) const;
  void row(std::size_t row, std::span<float> out) const;
  // Tells the system that the pages are not needed any more.
  void release() const;

 private:
  RowReader(Tensor tensor, const RowView& view) : tensor_(std::move(tensor)), view_(view) {}
  Tensor tensor_;
  RowView view_;
  Pinned pin_;
  std::vector<float> copy_;          // of what is no plain float32
  const std::byte* data_ = nullptr;  // at any alignment: inline weights of a file stand anywhere
};

// Of the first 16 rows: constants with other numbers there are no copies.
Result<std::uint64_t> first_rows_digest(const BlockUnit::Holder& holder);
// Whether two constants hold the same rows.
Result<bool> same_rows(const BlockUnit::Holder& left, const BlockUnit::Holder& right);

// Sums of w^2 and of (w - w^)^2, each column weighted by the energy of the inputs that meet it
// where there are any: of the products, per input.
BlockEnergy rounding_energy(const RowReader& reader, const BlockRows& rows,
                            std::span<const float> energies, const Executor& executor);

// Rounds the first holder's rows; `importance` as round_tile() has it. Where a scale is too small
// or too large for the type of the format's scales, float32 takes its place, unless the form binds
// that type.
Result<BlockRows> round_unit(const BlockUnit& unit, std::span<const float> importance,
                             BlockRounding how, const Executor& executor);

}  // namespace mcompress
