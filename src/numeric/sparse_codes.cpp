#include "numeric/sparse_codes.h"

#include <algorithm>
#include <cmath>

#include "numeric/block_kernels.h"

namespace mcompress {
namespace {

std::size_t placed(std::span<const std::uint32_t> place, std::size_t column) {
  return place.empty() ? column : place[column];
}

int zero_of(const BlockRows& rows, std::size_t block) {
  return rows.zero_points.empty() ? rows.format.middle() : int{rows.zero_points[block]};
}

// One row while its codes and scales move: v, and the slope g = v H - b.
class RowDescent {
 public:
  RowDescent(std::span<const std::uint8_t> kept, std::span<const double> gram,
             std::span<const double> wanted, std::span<const std::uint32_t> place, std::size_t row,
             BlockRows& rows)
      : gram_(gram),
        columns_(rows.columns),
        blocks_(rows.format.blocks_of(rows.columns)),
        row_(row),
        rows_(rows),
        place_(place),
        members_(blocks_),
        slope_(columns_) {
    const std::size_t width = rows.format.width(columns_);
    for (std::size_t c = 0; c < columns_; ++c) {
      if (kept[c] != 0) {
        members_[placed(place, c) / width].push_back(static_cast<std::uint32_t>(c));
      }
      slope_[c] = -wanted[c];
    }
    for (std::size_t b = 0; b < blocks_; ++b) {
      for (const std::uint32_t c : members_[b]) add(c, steps_of(b, c) * scale(b));
    }
  }

  bool move_codes() {
    bool moved = false;
    const int top = rows_.format.top();
    for (std::size_t b = 0; b < blocks_; ++b) {
      const int zero = zero_of(rows_, row_ * blocks_ + b);
      for (const std::uint32_t c : members_[b]) {
        const double steps = steps_of(b, c);
        const double best = steps - slope_[c] / (gram_[c * columns_ + c] * scale(b));
        const double next = std::clamp(std::nearbyint(best), static_cast<double>(-zero),
                                       static_cast<double>(top - zero));
        if (next == steps) continue;
        code(c) = static_cast<std::uint8_t>(static_cast<int>(next) + zero);
        add(c, (next - steps) * scale(b));
        moved = true;
      }
    }
    return moved;
  }

  // The best scale of a block with codes q: s -= (g q) / (q H q), as far as its type holds it.
  bool move_scales() {
    bool moved = false;
    for (std::size_t b = 0; b < blocks_; ++b) {
      double slope = 0, bend = 0;
      for (const std::uint32_t c : members_[b]) {
        const double steps = steps_of(b, c);
        if (steps == 0) continue;
        slope += slope_[c] * steps;
        for (const std::uint32_t other : members_[b]) {
          bend += steps * gram_[c * columns_ + other] * steps_of(b, other);
        }
      }
      if (!(bend > 0)) continue;
      float fitted = 0;
      const double wish = scale(b) - slope / bend;
      if (!(wish > 0) || !fit_scale(static_cast<float>(wish), rows_.format.scales, fitted)) {
        continue;
      }
      const double change = double{fitted} - scale(b);
      if (!(change * (2 * slope + change * bend) < 0)) continue;
      rows_.scales[row_ * blocks_ + b] = fitted;
      for (const std::uint32_t c : members_[b]) add(c, change * steps_of(b, c));
      moved = true;
    }
    return moved;
  }

 private:
  double scale(std::size_t b) const { return double{rows_.scales[row_ * blocks_ + b]}; }
  std::uint8_t& code(std::size_t c) { return rows_.codes[row_ * columns_ + placed(place_, c)]; }
  double steps_of(std::size_t b, std::size_t c) {
    return int{code(c)} - zero_of(rows_, row_ * blocks_ + b);
  }
  void add(std::size_t c, double change) {
    if (change == 0) return;
    const double* const h = gram_.data() + c * columns_;
    for (std::size_t k = 0; k < columns_; ++k) slope_[k] += change * h[k];
  }

  std::span<const double> gram_;
  std::size_t columns_, blocks_, row_;
  BlockRows& rows_;
  std::span<const std::uint32_t> place_;
  std::vector<std::vector<std::uint32_t>> members_;  // of each block what stays
  std::vector<double> slope_;
};

}  // namespace

BlockRows fit_codes(std::span<const float> weights, std::size_t columns,
                    std::span<const std::uint32_t> place, std::span<const double> importance,
                    const BlockFormat& format, const Executor& executor) {
  using kernel::kTileRows;
  const std::size_t rows = weights.size() / columns;
  std::vector<float> energies(importance.size());
  for (std::size_t c = 0; c < importance.size(); ++c) {
    energies[placed(place, c)] = static_cast<float>(importance[c]);
  }
  const auto fit = [&](const BlockFormat& as) {
    BlockRows made = make_block_rows(rows, columns, as);
    const std::size_t tiles = (rows + kTileRows - 1) / kTileRows;
    std::vector<BlockEnergy> of_tile(tiles);
    executor.parallel_for(tiles, 1, [&](std::size_t begin, std::size_t end) {
      std::vector<float> tile(columns * kTileRows);
      for (std::size_t t = begin; t < end; ++t) {
        const std::size_t first = t * kTileRows, count = std::min(kTileRows, rows - first);
        std::ranges::fill(tile, 0.0F);
        for (std::size_t r = 0; r < count; ++r) {
          for (std::size_t c = 0; c < columns; ++c) {
            tile[placed(place, c) * kTileRows + r] = weights[(first + r) * columns + c];
          }
        }
        of_tile[t] = round_tile(tile, energies, BlockRounding::kSearch, first, count, made);
      }
    });
    for (const BlockEnergy& energy : of_tile) {
      made.signal += energy.signal;
      made.noise += energy.noise;
    }
    return made;
  };
  BlockRows made = fit(format);
  const bool limited =
      std::ranges::any_of(made.scales, [&](float scale) { return at_limit(scale, format.scales); });
  if (!limited) return made;
  BlockFormat wide = format;
  wide.scales = DataType::kFloat;
  BlockRows wider = fit(wide);
  // A block of zeros may lie at the limit, too.
  return wider.noise < 0.999 * made.noise ? wider : made;
}

double sweep_codes(std::span<float> weights, const GramFactor& factor, SparseSweepOptions options,
                   std::span<const std::uint32_t> place, const Executor& executor,
                   std::span<std::uint8_t> mask, BlockRows& rows) {
  const std::size_t columns = rows.columns, blocks = rows.format.blocks_of(columns);
  std::vector<std::int32_t> zeros(rows.scales.size());
  for (std::size_t b = 0; b < zeros.size(); ++b) zeros[b] = zero_of(rows, b);
  RoundingGrid grid;
  grid.group = rows.format.block;
  grid.scales = rows.scales;
  grid.zero_points = zeros;
  grid.codes = {0, rows.format.top()};
  options.grid = &grid;
  options.place = place;
  std::vector<std::int16_t> codes(weights.size());
  const double cost = sparse_sweep(weights, factor, options, executor, mask, codes);
  const std::size_t width = rows.format.width(columns);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::size_t row = i / columns, column = placed(place, i % columns);
    rows.codes[row * columns + column] =
        static_cast<std::uint8_t>(mask[i] != 0 ? codes[i] : zeros[row * blocks + column / width]);
  }
  return cost;
}

void descend_codes(std::span<const std::uint8_t> mask, std::span<const double> gram,
                   std::span<const double> wanted, std::span<const std::uint32_t> place, int rounds,
                   const Executor& executor, BlockRows& rows) {
  const std::size_t columns = rows.columns;
  executor.parallel_for(rows.rows, 4, [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      RowDescent row(mask.subspan(r * columns, columns), gram, wanted.subspan(r * columns, columns),
                     place, r, rows);
      for (int round = 0; round < rounds; ++round) {
        const bool moved = row.move_codes();
        if (!row.move_scales() && !moved) break;
      }
    }
  });
}

void restore_codes(const BlockRows& rows, std::span<const std::uint32_t> place,
                   std::span<float> weights) {
  const std::size_t columns = rows.columns;
  std::vector<float> one(columns);
  for (std::size_t r = 0; r < rows.rows; ++r) {
    restore_row(rows, r, one);
    for (std::size_t c = 0; c < columns; ++c) weights[r * columns + c] = one[placed(place, c)];
  }
}

}  // namespace mcompress
