#include "passes/common/blocks/block_calibration.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "ir/prefix.h"
#include "numeric/kernels.h"
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

Status observe_rows(
    const Model& model, const std::vector<UnitInput>& inputs, const ObservedRows& how,
    PassContext& context,
    const std::function<void(std::size_t input, std::vector<float>& rows)>& receive) {
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
  const std::int64_t total = data.count(), count = std::min(how.samples, total);
  std::vector<std::vector<float>> rows;  // by group
  for (std::int64_t s = 0; s < count; ++s) {
    if (context.progress().cancelled()) {
      return Error(Code::kCancelled, "cancelled", "interrupted while inputs were observed");
    }
    MCOMPRESS_ASSIGN(const auto feeds, data.sample(s * total / count));
    MCOMPRESS_TRY(session->observe(feeds, [&](std::size_t slot, const TensorView& view) {
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
        if (!rows[input.group].empty()) receive(i, rows[input.group]);
      }
      return ok_status();
    }));
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
  std::vector<std::vector<double>> sums(inputs.size());
  std::vector<std::int64_t> counts(inputs.size());
  ObservedRows how;
  how.samples = samples;
  how.wanted = [](std::size_t) { return std::int64_t{1} << 14; };
  MCOMPRESS_TRY(
      observe_rows(model, inputs, how, context, [&](std::size_t i, std::vector<float>& rows) {
        const std::size_t columns = inputs[i].rows.columns();
        for (float& x : rows) x *= x;
        sums[i].resize(columns);
        kernel::add_rows(rows.data(), rows.size() / columns, columns, sums[i].data());
        counts[i] += static_cast<std::int64_t>(rows.size() / columns);
      }));
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
