#include "passes/common/blocks/block_rows.h"

#include <algorithm>
#include <cstring>

#include "numeric/block_kernels.h"
#include "support/executor.h"
#include "support/hash.h"
#include "support/try.h"

namespace mcompress {

using kernel::kTileRows;

Result<RowReader> RowReader::of(const Tensor& tensor, const RowView& view) {
  RowReader reader(tensor, view);
  if (tensor.dtype() == DataType::kFloat && !tensor.is_opaque()) {
    MCOMPRESS_ASSIGN(reader.pin_, tensor.storage()->pin(0, tensor.byte_size()));
    reader.data_ = reader.pin_.bytes().data();
    return reader;
  }
  MCOMPRESS_ASSIGN(reader.copy_, read_floats(tensor));
  reader.data_ = std::as_bytes(std::span(reader.copy_)).data();
  return reader;
}

void RowReader::tile(std::size_t first, std::size_t count, std::span<float> tile) const {
  const std::size_t rows = view_.rows, inner = view_.inner;
  if (count < kTileRows) std::ranges::fill(tile, 0.0F);
  for (std::size_t o = 0; o < view_.outer; ++o) {
    float* const to = tile.data() + o * inner * kTileRows;
    const std::byte* const from = data_ + (o * rows + first) * inner * sizeof(float);
    if (inner == 1) {
      std::memcpy(to, from, count * sizeof(float));
      continue;
    }
    for (std::size_t r = 0; r < count; ++r) {
      const std::byte* const row = from + r * inner * sizeof(float);
      for (std::size_t i = 0; i < inner; ++i) {
        std::memcpy(to + i * kTileRows + r, row + i * sizeof(float), sizeof(float));
      }
    }
  }
}

void RowReader::row(std::size_t row, std::span<float> out) const {
  for (std::size_t o = 0; o < view_.outer; ++o) {
    const std::size_t from = (o * view_.rows + row) * view_.inner;
    std::memcpy(out.data() + o * view_.inner, data_ + from * sizeof(float),
                view_.inner * sizeof(float));
  }
}

void RowReader::release() const { tensor_.storage()->release(0, tensor_.byte_size()); }

Result<std::uint64_t> first_rows_digest(const BlockUnit::Holder& holder) {
  MCOMPRESS_ASSIGN(const RowReader reader, RowReader::of(holder.tensor, holder.view));
  std::vector<float> tile(holder.view.columns() * kTileRows);
  reader.tile(0, std::min(kTileRows, holder.view.rows), tile);
  reader.release();  // of a matrix whose rows are columns they lie on all pages
  return digest_bytes(std::as_bytes(std::span(tile)));
}

Result<bool> same_rows(const BlockUnit::Holder& left, const BlockUnit::Holder& right) {
  MCOMPRESS_ASSIGN(const RowReader a, RowReader::of(left.tensor, left.view));
  MCOMPRESS_ASSIGN(const RowReader b, RowReader::of(right.tensor, right.view));
  const std::size_t rows = left.view.rows, columns = left.view.columns();
  std::vector<float> one(columns * kTileRows), other(columns * kTileRows);
  for (std::size_t first = 0; first < rows; first += kTileRows) {
    const std::size_t count = std::min(kTileRows, rows - first);
    a.tile(first, count, one);
    b.tile(first, count, other);
    if (std::memcmp(one.data(), other.data(), one.size() * sizeof(float)) != 0) return false;
  }
  a.release();
  b.release();
  return true;
}

BlockEnergy rounding_energy(const RowReader& reader, const BlockRows& rows,
                            std::span<const float> energies, const Executor& executor) {
  std::vector<BlockEnergy> of_row(rows.rows);
  executor.parallel_for(rows.rows, 64, [&](std::size_t begin, std::size_t end) {
    std::vector<float> real(rows.columns), restored(rows.columns);
    for (std::size_t r = begin; r < end; ++r) {
      reader.row(r, real);
      restore_row(rows, r, restored);
      for (std::size_t k = 0; k < rows.columns; ++k) {
        const double weight = energies.empty() ? 1.0 : double{energies[k]};
        const double error = double{restored[k]} - double{real[k]};
        of_row[r].signal += weight * double{real[k]} * double{real[k]};
        of_row[r].noise += weight * error * error;
      }
    }
  });
  BlockEnergy total;
  for (const BlockEnergy& one : of_row) {
    total.signal += one.signal;
    total.noise += one.noise;
  }
  return total;
}

Result<BlockRows> round_unit(const BlockUnit& unit, std::span<const float> importance,
                             BlockRounding how, const Executor& executor) {
  const BlockUnit::Holder& holder = unit.holders.front();
  MCOMPRESS_ASSIGN(const RowReader reader, RowReader::of(holder.tensor, holder.view));
  const std::size_t rows = unit.rows(), columns = unit.columns();
  BlockFormat format = unit.format;
  const auto round_all = [&]() {
    BlockRows made = make_block_rows(rows, columns, format);
    const std::size_t tiles = (rows + kTileRows - 1) / kTileRows;
    std::vector<BlockEnergy> energies(tiles);
    // Enough work for a thread to be worth waking.
    const std::size_t grain = (std::size_t{1} << 14) / (columns * kTileRows) + 1;
    executor.parallel_for(tiles, grain, [&](std::size_t begin, std::size_t end) {
      std::vector<float> tile(columns * kTileRows);
      for (std::size_t t = begin; t < end; ++t) {
        const std::size_t first = t * kTileRows, count = std::min(kTileRows, rows - first);
        reader.tile(first, count, tile);
        energies[t] = round_tile(tile, importance, how, first, count, made);
      }
    });
    for (const BlockEnergy& energy : energies) {
      made.signal += energy.signal;
      made.noise += energy.noise;
    }
    return made;
  };
  BlockRows made = round_all();
  const bool bound = holder.type != DataType::kFloat && holder.binds_scales();
  if (!bound && format.scales != DataType::kFloat &&
      std::ranges::any_of(made.scales,
                          [&](float scale) { return at_limit(scale, format.scales); })) {
    format.scales = DataType::kFloat;
    BlockRows wider = round_all();
    // A block of next to nothing may lie at the limit, too.
    if (wider.noise < 0.999 * made.noise) made = std::move(wider);
  }
  reader.release();
  return made;
}

}  // namespace mcompress
