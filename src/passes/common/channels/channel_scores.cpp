#include "passes/common/channels/channel_scores.h"

#include <algorithm>
#include <map>

#include "numeric/gptq.h"
#include "numeric/regression.h"
#include "passes/common/blocks/input_grams.h"
#include "passes/common/weights.h"
#include "support/try.h"

namespace mcompress {
namespace {

using Role = ChannelMember::Role;

// Squares of the slices of a constant along an axis.
Result<std::vector<double>> slice_squares(const Tensor& tensor, std::size_t axis) {
  std::int64_t inner = 1;
  const auto dims = tensor.dims();
  for (std::size_t i = axis + 1; i < dims.size(); ++i) inner *= dims[i];
  std::vector<double> squares(static_cast<std::size_t>(dims[axis]));
  MCOMPRESS_TRY(read_as_float(
      tensor, std::size_t{1} << 16, [&](std::int64_t first, std::span<const float> values) {
        for (std::size_t i = 0; i < values.size(); ++i) {
          const std::int64_t at = (first + static_cast<std::int64_t>(i)) / inner % dims[axis];
          squares[static_cast<std::size_t>(at)] +=
              static_cast<double>(values[i]) * static_cast<double>(values[i]);
        }
      }));
  return squares;
}

// Adds each slice's share of all squares to its unit.
void add_shares(const ChannelTrace& trace, const ChannelSlices& slices,
                const std::vector<double>& squares, std::vector<double>& scores) {
  double total = 0;
  for (const double square : squares) total += square;
  if (!(total > 0)) return;
  for (std::size_t i = 0; i < squares.size(); ++i) {
    const std::uint32_t cell = (*slices.cells)[i];
    if (cell != kFixedCell) scores[trace.unit_of(cell)] += squares[i] / total;
  }
}

// A reader whose inputs can be seen.
struct SeenReader {
  const ChannelSlices* slices = nullptr;
  UnitInput input;
  WeightView view;
};

std::vector<SeenReader> seen_readers(const ChannelTrace& trace) {
  constexpr std::size_t kMostColumns = 6144;  // a factor of that many takes a minute
  std::vector<SeenReader> readers;
  for (const ChannelSlices& slices : trace.slices()) {
    const Node& node = *slices.node;
    if (slices.role != Role::kReads || slices.tensor->initializer() == nullptr ||
        node.input(1) != slices.tensor || node.input(0) == nullptr) {
      continue;
    }
    const auto view = weight_view(node, 1, slices.tensor->initializer()->dims());
    if (!view) continue;
    auto rows = LayerRows::of(node, *view);
    if (!rows || rows->groups() != 1 || rows->columns() > kMostColumns) continue;
    SeenReader reader{&slices, {}, *view};
    reader.input.unit = readers.size();
    reader.input.reader = &node;
    reader.input.value = node.input(0)->name();
    reader.input.rows = std::move(*rows);
    readers.push_back(std::move(reader));
  }
  return readers;
}

Status add_losses(const ChannelTrace& trace, const SeenReader& reader, const GramMatrix& gram,
                  double damping, std::vector<double>& scores, bool& done) {
  MCOMPRESS_ASSIGN(const std::vector<float> weights,
                   channel_vectors(*reader.slices->tensor->initializer(), reader.view));
  const auto& cells = *reader.slices->cells;
  const std::size_t depth = cells.size(), taps = gram.columns() / depth;
  std::map<std::uint32_t, std::size_t> place;
  std::vector<std::uint32_t> units;
  std::vector<std::vector<std::uint32_t>> blocks;
  for (std::size_t c = 0; c < depth; ++c) {
    if (cells[c] == kFixedCell) continue;
    const std::uint32_t unit = trace.unit_of(cells[c]);
    if (trace.is_frozen(unit)) continue;
    const auto [found, added] = place.try_emplace(unit, blocks.size());
    if (added) units.push_back(unit), blocks.emplace_back();
    for (std::size_t t = 0; t < taps; ++t) {
      blocks[found->second].push_back(static_cast<std::uint32_t>(t * depth + c));
    }
  }
  const auto losses = block_losses(gram.centred(), weights, gram.columns(), blocks, damping);
  if (!losses) return ok_status();
  done = true;
  for (std::size_t i = 0; i < units.size(); ++i) scores[units[i]] += (*losses)[i];
  return ok_status();
}

}  // namespace

Result<std::vector<double>> channel_scores(const ChannelTrace& trace,
                                           const ChannelScoreOptions& options,
                                           PassContext& context) {
  std::vector<double> scores(trace.units());
  std::vector<bool> known(trace.slices().size());
  if (options.by_data) {
    std::vector<SeenReader> readers = seen_readers(trace);
    std::vector<UnitInput> inputs;
    inputs.reserve(readers.size());
    for (SeenReader& reader : readers) inputs.push_back(std::move(reader.input));
    order_inputs(trace.model().graph(), inputs);
    constexpr std::uint64_t kBudget = std::uint64_t{1} << 30;  // of Gram matrices at a time
    for (std::size_t begin = 0; begin < inputs.size();) {
      const std::size_t end = inputs_within(inputs, begin, inputs.size(), kBudget);
      const std::vector<UnitInput> part(inputs.begin() + static_cast<std::ptrdiff_t>(begin),
                                        inputs.begin() + static_cast<std::ptrdiff_t>(end));
      MCOMPRESS_ASSIGN(const InputGrams grams,
                       collect_grams(trace.model(), part, options.samples, context));
      for (std::size_t i = 0; i < part.size(); ++i) {
        if (grams.of(i) == nullptr) continue;
        const SeenReader& reader = readers[part[i].unit];
        bool done = false;
        MCOMPRESS_TRY(add_losses(trace, reader, *grams.of(i), options.damping, scores, done));
        if (done) known[static_cast<std::size_t>(reader.slices - trace.slices().data())] = true;
      }
      begin = end;
    }
  }
  // By the weights: |maker| * |reader| of each unit, as shares.
  std::vector<double> made(trace.units()), read(trace.units());
  for (std::size_t i = 0; i < trace.slices().size(); ++i) {
    const ChannelSlices& slices = trace.slices()[i];
    if (slices.tensor->initializer() == nullptr || slices.role == Role::kParameter) continue;
    if (slices.role == Role::kReads && known[i]) continue;
    MCOMPRESS_ASSIGN(const std::vector<double> squares,
                     slice_squares(*slices.tensor->initializer(), slices.axis));
    add_shares(trace, slices, squares, slices.role == Role::kMakes ? made : read);
  }
  for (const ChannelTrace::Group& group : trace.groups()) {
    double total = 0;
    for (const std::uint32_t unit : group.units) total += made[unit];
    const double mean = total / static_cast<double>(group.units.size());
    for (const std::uint32_t unit : group.units) {
      scores[unit] += read[unit] * (mean > 0 ? made[unit] / mean : 1.0);
    }
  }
  return scores;
}

}  // namespace mcompress
