#include "passes/common/blocks/block_gptq.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "numeric/block_kernels.h"
#include "passes/common/blocks/block_journal.h"
#include "passes/common/blocks/block_rows.h"
#include "passes/common/blocks/input_grams.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kMostColumns = 16384;

using Emit = std::function<Status(std::size_t unit, const BlockRows& rows, const std::string& how)>;

class BlockGptq {
 public:
  BlockGptq(Model& model, const std::vector<BlockUnit>& units,
            const std::vector<std::vector<float>>& energies, const BlockGptqOptions& options,
            PassContext& context, BlockJournal* journal, const Emit& emit)
      : model_(model),
        units_(units),
        energies_(energies),
        options_(options),
        context_(context),
        journal_(journal),
        emit_(emit) {}

  Result<BlockGptqResult> run() {
    take_inputs();
    std::vector<bool> reached(units_.size());
    for (const UnitInput& input : inputs_) reached[input.unit] = true;
    for (std::size_t i = 0; i < units_.size(); ++i) {
      if (!reached[i]) MCOMPRESS_TRY(nearest(i));
    }
    const std::size_t levels = static_cast<std::size_t>(std::max<std::int64_t>(options_.levels, 1));
    const std::size_t of_level = (inputs_.size() + levels - 1) / levels;
    for (std::size_t begin = 0; begin < inputs_.size();) {
      context_.progress().update("round weights", begin, inputs_.size(), "layers");
      const std::size_t end = inputs_within(inputs_, begin, of_level, options_.gram_bytes);
      MCOMPRESS_TRY(level(begin, end));
      ++result_.levels;
      begin = end;
    }
    if (result_.layers > 0) result_.gain_db = gains_ / static_cast<double>(result_.layers);
    return result_;
  }

 private:
  void take_inputs() {
    for (UnitInput& input : unit_inputs(units_, true)) {
      if (input.rows.columns() <= kMostColumns) inputs_.push_back(std::move(input));
    }
    order_inputs(model_.graph(), inputs_);
  }

  Status nearest(std::size_t unit) {
    MCOMPRESS_ASSIGN(const BlockRows rows, round_unit(units_[unit], energies_[unit],
                                                      BlockRounding::kSearch, context_.executor()));
    return emit_(unit, rows, "rtn");
  }

  bool is_done(std::size_t unit) const { return journal_ != nullptr && journal_->holds(unit); }

  Status take_done(std::size_t unit) {
    if (!taken_.insert(unit).second) return ok_status();  // by another group
    MCOMPRESS_ASSIGN(const JournalEntry entry, journal_->read(unit));
    gains_ += entry.gain_db;
    ++result_.layers;
    ++result_.resumed;
    return emit_(unit, entry.rows, entry.how);
  }

  Status level(std::size_t begin, std::size_t end) {
    // Of a level that was finished only the results are needed.
    if (std::all_of(inputs_.begin() + static_cast<std::ptrdiff_t>(begin),
                    inputs_.begin() + static_cast<std::ptrdiff_t>(end),
                    [&](const UnitInput& input) { return is_done(input.unit); })) {
      for (std::size_t i = begin; i < end; ++i) MCOMPRESS_TRY(take_done(inputs_[i].unit));
      return ok_status();
    }
    std::vector<UnitInput> inputs(inputs_.begin() + static_cast<std::ptrdiff_t>(begin),
                                  inputs_.begin() + static_cast<std::ptrdiff_t>(end));
    // What is quantized already has other names.
    for (UnitInput& input : inputs) input.value = input.reader->input(0)->name();
    MCOMPRESS_ASSIGN(InputGrams seen, collect_grams(model_, inputs, options_.samples, context_));
    std::map<std::size_t, std::optional<GramFactor>> factors;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const std::size_t shared = seen.first[i];
      if (shared == i) factors.clear();  // inputs that see the same stand together
      if (is_done(inputs[i].unit)) {
        MCOMPRESS_TRY(take_done(inputs[i].unit));
        continue;
      }
      if (seen.of(i) != nullptr && !factors.contains(shared)) {
        FactorOptions factor_options;
        factor_options.damping = options_.damping;
        factors[shared] = factor_gram(in_order_of_unit(*seen.of(i), inputs[i]),
                                      inputs[i].rows.columns(), factor_options);
        if (factors[shared] && factors[shared]->retries > 0) ++result_.damped;
      }
      const std::optional<GramFactor>& factor = factors[shared];
      MCOMPRESS_TRY(round(inputs[i], factor ? &*factor : nullptr));
      if (i + 1 == inputs.size() || seen.first[i + 1] != shared) seen.grams[shared].reset();
    }
    return ok_status();
  }

  // A unit of which some groups are rounded.
  struct Started {
    BlockRows rows;
    std::size_t groups = 0;  // of these
    bool by_outputs = false;
    GptqCosts costs;
  };

  // Rounds the rows that see the input, to nearest without a factor; the unit is written with its
  // last group.
  Status round(const UnitInput& input, const GramFactor* factor) {
    const BlockUnit& unit = units_[input.unit];
    Started& started = started_[input.unit];
    if (started.groups == 0) {
      MCOMPRESS_ASSIGN(started.rows, round_unit(unit, energies_[input.unit], BlockRounding::kSearch,
                                                context_.executor()));
    }
    if (factor != nullptr) MCOMPRESS_TRY(round_rows_of(input, *factor, started));
    if (++started.groups < input.groups) return ok_status();
    Started all = std::move(started);
    started_.erase(input.unit);
    return finish(input.unit, std::move(all));
  }

  Status round_rows_of(const UnitInput& input, const GramFactor& factor, Started& started) {
    const BlockUnit::Holder& holder = units_[input.unit].holders.front();
    MCOMPRESS_ASSIGN(const RowReader reader, RowReader::of(holder.tensor, holder.view));
    BlockRows& rows = started.rows;
    const std::size_t of_group = rows.rows / input.groups, first = input.group * of_group;
    // So many rows at a time that a copy of them is small beside a large weight.
    const std::size_t columns = rows.columns, blocks = rows.format.blocks_of(columns);
    const std::size_t at_once = std::max<std::size_t>(256, (std::size_t{1} << 24) / columns);
    for (std::size_t from = first; from < first + of_group; from += at_once) {
      const std::size_t count = std::min(at_once, first + of_group - from);
      std::vector<float> weights(count * columns);
      for (std::size_t r = 0; r < count; ++r) {
        reader.row(from + r, std::span(weights).subspan(r * columns, columns));
      }
      std::uint8_t* const stored = rows.codes.data() + from * columns;
      std::vector<std::int16_t> codes(stored, stored + count * columns);
      std::vector<std::int32_t> zeros(count * blocks, rows.format.middle());
      for (std::size_t b = 0; !rows.zero_points.empty() && b < zeros.size(); ++b) {
        zeros[b] = rows.zero_points[from * blocks + b];
      }
      RoundingGrid grid;
      grid.group = rows.format.block;
      grid.scales = std::span(rows.scales).subspan(from * blocks, count * blocks);
      grid.zero_points = zeros;
      grid.codes = {0, rows.format.top()};
      const GptqCosts part = round_rows(weights, factor, grid, {}, context_.executor(), codes);
      started.costs.given += part.given;
      started.costs.descended += part.descended;
      std::ranges::transform(codes, stored,
                             [](std::int16_t code) { return static_cast<std::uint8_t>(code); });
    }
    started.by_outputs = true;
    reader.release();
    return ok_status();
  }

  Status finish(std::size_t place, Started started) {
    BlockRows& rows = started.rows;
    const GptqCosts& costs = started.costs;
    if (!started.by_outputs) {
      ++result_.left;
      return emit_(place, rows, "rtn");
    }
    const BlockUnit::Holder& holder = units_[place].holders.front();
    MCOMPRESS_ASSIGN(const RowReader reader, RowReader::of(holder.tensor, holder.view));
    rows.noise = rounding_energy(reader, rows, {}, context_.executor()).noise;
    reader.release();
    const double gain =
        costs.given > 0 && costs.descended > 0 ? 10 * std::log10(costs.given / costs.descended) : 0;
    gains_ += gain;
    ++result_.layers;
    const JournalEntry entry{std::move(rows), "gptq, output error " + fixed(gain, 1) + " dB lower",
                             gain};
    if (journal_ != nullptr) MCOMPRESS_TRY(journal_->add(place, entry));
    return emit_(place, entry.rows, entry.how);
  }

  Model& model_;
  const std::vector<BlockUnit>& units_;
  const std::vector<std::vector<float>>& energies_;
  const BlockGptqOptions& options_;
  PassContext& context_;
  BlockJournal* journal_;
  const Emit& emit_;
  std::vector<UnitInput> inputs_;
  std::map<std::size_t, Started> started_;
  std::set<std::size_t> taken_;  // from the journal
  BlockGptqResult result_;
  double gains_ = 0;
};

}  // namespace

Result<BlockGptqResult> round_blocks_by_gptq(Model& model, const std::vector<BlockUnit>& units,
                                             const std::vector<std::vector<float>>& energies,
                                             const BlockGptqOptions& options, PassContext& context,
                                             BlockJournal* journal, const Emit& emit) {
  return BlockGptq(model, units, energies, options, context, journal, emit).run();
}

}  // namespace mcompress
