#include "passes/common/blocks/block_calibration.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "ir/prefix.h"
#include "mcompress/seen_inputs.h"
#include "numeric/kernels.h"
#include "passes/common/sample_split.h"
#include "support/executor.h"
#include "support/hash.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Of a convolution: LayerRows has the taps of the kernel before the input channels.
std::vector<std::uint32_t> convolution_columns(const WeightView& view) {
  const auto taps = static_cast<std::uint32_t>(view.taps);
  const auto depth = static_cast<std::uint32_t>(view.inner) / taps;
  std::vector<std::uint32_t> column(std::size_t{taps} * depth);
  for (std::uint32_t c = 0; c < depth; ++c) {
    for (std::uint32_t t = 0; t < taps; ++t) column[c * taps + t] = t * depth + c;
  }
  return column;
}

std::optional<UnitInput> input_of(std::size_t place, const BlockUnit& unit, bool grouped) {
  for (const BlockUnit::Holder& holder : unit.holders) {
    if (holder.value->graph().owner() != nullptr) continue;
    for (const Use& use : holder.value->uses()) {
      const Node* const node = use.node;
      if (node == nullptr || use.slot != 1 || use.graph != &holder.value->graph()) continue;
      if (node->input(0) == nullptr || node->input(0)->initializer() != nullptr) continue;
      const auto view = weight_view(*node, use.slot, holder.tensor.dims());
      if (!view || view->length() != static_cast<std::int64_t>(unit.columns())) continue;
      auto rows = LayerRows::of(*node, *view, holder.tensor.dims());
      if (!rows || (rows->groups() != 1 && !grouped)) continue;
      UnitInput input{place, node, std::string(node->input(0)->name()), std::move(*rows), {}};
      if (view->taps > 1) input.column = convolution_columns(*view);
      input.groups = static_cast<std::size_t>(input.rows.groups());
      if (unit.rows() % input.groups != 0) continue;
      return input;
    }
  }
  return std::nullopt;
}

using ReceiveRows = std::function<void(std::size_t input, std::vector<float>& rows)>;

// As many as there are threads, as long as the rows that then wait take little.
std::int64_t samples_at_once(const std::vector<UnitInput>& inputs,
                             const std::vector<std::size_t>& first, const ObservedRows& how,
                             std::int64_t count, PassContext& context) {
  constexpr double kMostWaiting = 64 << 20;
  if (context.memory_budget() > 0) return 1;
  double bytes = 1;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (first[i] != i) continue;
    const std::size_t columns = inputs[i].rows.columns();
    bytes += std::ceil(static_cast<double>(how.wanted(columns)) / static_cast<double>(count)) *
             static_cast<double>(columns * sizeof(float));
  }
  return std::clamp(static_cast<std::int64_t>(kMostWaiting / bytes), std::int64_t{1},
                    std::int64_t{std::max(context.executor().threads(), 1)});
}

// Of all that the squares depend on.
std::uint64_t digest_of_inputs(const Model& model, const std::vector<UnitInput>& inputs,
                               std::int64_t samples, PassContext& context) {
  std::vector<std::string> values;
  Hasher hasher;
  hasher.integer(context.calibration_data()->digest()).integer(static_cast<std::uint64_t>(samples));
  for (const UnitInput& input : inputs) {
    hasher.text(input.value).integer(input.rows.digest()).integer(input.group);
    hasher.integer(input.groups);
    values.push_back(input.value);
  }
  return hasher.integer(fingerprint(*prefix_of(model, values))).digest();
}

// x^2 of what each input that is not shared has read.
Result<SeenInputs::Squares> squares_of(const Model& model, const std::vector<UnitInput>& inputs,
                                       std::int64_t samples, PassContext& context) {
  SeenInputs::Squares squares;
  squares.sums.resize(inputs.size());
  squares.rows.resize(inputs.size());
  ObservedRows how;
  how.samples = samples;
  how.wanted = [](std::size_t) { return std::int64_t{1} << 14; };
  MCOMPRESS_TRY(
      observe_rows(model, inputs, how, context, [&](std::size_t i, std::vector<float>& rows) {
        const std::size_t columns = inputs[i].rows.columns();
        for (float& x : rows) x *= x;
        squares.sums[i].resize(columns);
        kernel::add_rows(rows.data(), rows.size() / columns, columns, squares.sums[i].data());
        squares.rows[i] += static_cast<std::int64_t>(rows.size() / columns);
      }));
  return squares;
}

}  // namespace

std::vector<UnitInput> unit_inputs(const std::vector<BlockUnit>& units, bool grouped) {
  std::vector<UnitInput> inputs;
  for (std::size_t i = 0; i < units.size(); ++i) {
    auto input = input_of(i, units[i], grouped);
    if (!input) continue;
    for (; input->group + 1 < input->groups; ++input->group) inputs.push_back(*input);
    inputs.push_back(std::move(*input));
  }
  return inputs;
}

std::vector<std::size_t> shared_with(const std::vector<UnitInput>& inputs) {
  std::map<std::string, std::vector<std::size_t>> readers;
  std::vector<std::size_t> first(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    std::vector<std::size_t>& known = readers[inputs[i].value];
    const auto same = std::ranges::find_if(known, [&](std::size_t k) {
      return inputs[k].group == inputs[i].group && inputs[k].rows.same(inputs[i].rows);
    });
    first[i] = same != known.end() ? *same : i;
    if (same == known.end()) known.push_back(i);
  }
  return first;
}

Status observe_rows(const Model& model, const std::vector<UnitInput>& inputs,
                    const ObservedRows& how, PassContext& context, const ReceiveRows& receive) {
  if (inputs.empty()) return ok_status();
  MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
  DataSource& data = *context.calibration_data();
  SessionOptions session_options;
  const std::vector<std::size_t> first = shared_with(inputs);
  std::map<std::string, std::size_t> slots;
  std::vector<std::vector<std::size_t>> readers;  // of each observed value
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (first[i] != i) continue;
    const auto [slot, added] = slots.try_emplace(inputs[i].value, readers.size());
    if (added) {
      session_options.observed.push_back(inputs[i].value);
      readers.emplace_back();
    }
    readers[slot->second].push_back(i);
  }
  // What comes behind the last of them need not run.
  const std::unique_ptr<Model> prefix = prefix_of(model, session_options.observed);
  MCOMPRESS_ASSIGN(const auto session, runtime->open(*prefix, session_options));
  const SampleSplit split(data, how.samples);
  std::vector<std::int64_t> places;
  for (std::int64_t s = 0; s < split.count(); ++s) {
    if (!how.leave_judging || !split.judges(s)) places.push_back(s);
  }
  const auto count = static_cast<std::int64_t>(places.size());
  const auto look = [&](const std::vector<NamedTensor>& feeds, std::int64_t s,
                        const ReceiveRows& take) {
    std::vector<std::vector<float>> rows;  // by group
    return session->observe(feeds, [&](std::size_t slot, const TensorView& view) {
      const UnitInput* last = nullptr;
      for (const std::size_t i : readers[slot]) {
        const UnitInput& input = inputs[i];
        if (last == nullptr || !last->rows.same(input.rows)) {  // else: another group of the same
          rows.resize(std::max(rows.size(), input.groups));
          for (std::vector<float>& of_group : rows) of_group.clear();
          const std::int64_t wanted = how.wanted(input.rows.columns());
          input.rows.read(view, (wanted + count - 1) / count, s, rows);
        }
        last = &input;
        if (!rows[input.group].empty()) take(i, rows[input.group]);
      }
      return ok_status();
    });
  };
  const std::int64_t at_once = samples_at_once(inputs, first, how, count, context);
  for (std::int64_t begin = 0; begin < count; begin += at_once) {
    if (context.progress().cancelled()) {
      return Error(Code::kCancelled, "cancelled", "interrupted while inputs were observed");
    }
    if (at_once == 1) {
      const std::int64_t s = places[static_cast<std::size_t>(begin)];
      MCOMPRESS_ASSIGN(const auto feeds, split.read(data, s));
      MCOMPRESS_TRY(look(feeds, s, receive));
      continue;
    }
    // Side by side, and handed out in the order of the samples.
    const auto wave = static_cast<std::size_t>(std::min(at_once, count - begin));
    const std::int64_t* const of_wave = places.data() + begin;
    std::vector<std::vector<NamedTensor>> feeds(wave);
    std::vector<std::vector<std::pair<std::size_t, std::vector<float>>>> seen(wave);
    for (std::size_t k = 0; k < wave; ++k) {
      MCOMPRESS_ASSIGN(feeds[k], split.read(data, of_wave[k]));
    }
    MCOMPRESS_TRY(
        context.executor().try_parallel_for(wave, 1, [&](std::size_t k, std::size_t) -> Status {
          return look(feeds[k], of_wave[k], [&, k](std::size_t i, std::vector<float>& rows) {
            seen[k].emplace_back(i, std::move(rows));
            rows.clear();
          });
        }));
    for (auto& of_sample : seen) {
      for (auto& [i, rows] : of_sample) receive(i, rows);
    }
  }
  return ok_status();
}

Result<std::vector<std::vector<float>>> column_energies(const Model& model,
                                                        const std::vector<BlockUnit>& units,
                                                        std::int64_t samples,
                                                        PassContext& context) {
  return input_energies(model, unit_inputs(units, true), units.size(), samples, context);
}

Result<std::vector<std::vector<float>>> input_energies(const Model& model,
                                                       const std::vector<UnitInput>& inputs,
                                                       std::size_t units, std::int64_t samples,
                                                       PassContext& context) {
  SeenInputs::Squares squares;
  auto* const remembering = dynamic_cast<RememberingData*>(context.calibration_data());
  SeenInputs* const seen =
      remembering != nullptr && !inputs.empty() ? &remembering->seen() : nullptr;
  const std::uint64_t digest =
      seen != nullptr ? digest_of_inputs(model, inputs, samples, context) : 0;
  if (seen != nullptr && seen->known.contains(digest)) {
    squares = seen->known.at(digest);
  } else {
    MCOMPRESS_ASSIGN(squares, squares_of(model, inputs, samples, context));
    constexpr std::size_t kMostKept = 1000;
    if (seen != nullptr && seen->known.size() < kMostKept) seen->known.emplace(digest, squares);
  }
  const auto& [sums, counts] = squares;
  const std::vector<std::size_t> first = shared_with(inputs);
  std::vector<std::vector<float>> energies(units);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const std::vector<double>& sum = sums[first[i]];
    if (counts[first[i]] == 0) continue;
    std::vector<float>& energy = energies[inputs[i].unit];
    energy.resize(sum.size());
    const double rows =
        static_cast<double>(counts[first[i]]) * static_cast<double>(inputs[i].groups);
    for (std::size_t k = 0; k < sum.size(); ++k) {
      const std::size_t column = inputs[i].column.empty() ? k : inputs[i].column[k];
      energy[k] += static_cast<float>(sum[column] / rows);
    }
  }
  for (std::vector<float>& energy : energies) {
    // Squares of large numbers may not be finite, and where nothing was seen nothing is known.
    const bool finite = kernel::all_finite(energy.data(), energy.size());
    if (!finite || std::ranges::all_of(energy, [](float e) { return e == 0; })) energy.clear();
  }
  return energies;
}

}  // namespace mcompress
