#include "passes/common/prune/prune_run.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "passes/common/guard.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr double kStep = 0.05, kFineStep = 0.02;
constexpr double kMostSparse = 0.98;
constexpr std::int64_t kJudges = 32;
// Sweeps at every sparsity are tried up to so many products in all, else scores have to do.
constexpr double kMostSweepWork = 4e11;
// Models with more products of weights and columns are pruned in every way once; later
// trials take what was best for each layer then.
constexpr double kMostWaysWork = 1e9;
constexpr std::size_t kBestWays = 3;

std::vector<std::uint8_t> in_vector_order(std::span<const std::uint8_t> mask,
                                          const WeightView& view) {
  const auto channels = static_cast<std::size_t>(view.channels);
  const auto inner = static_cast<std::size_t>(view.inner);
  const auto taps = static_cast<std::size_t>(std::max<std::int64_t>(view.taps, 1));
  const auto length = static_cast<std::size_t>(view.length());
  std::vector<std::uint8_t> turned(mask.size());
  for (std::size_t flat = 0; flat < mask.size(); ++flat) {
    const std::size_t i = flat % inner, c = flat / inner % channels, o = flat / inner / channels;
    turned[c * length + o * inner + i % taps * (inner / taps) + i / taps] = mask[flat];
  }
  return turned;
}

}  // namespace

Status write_pruned(Model& model, Editor& edit, const std::vector<PruneLayer>& layers,
                    const std::vector<PrunedLayer>& pruned) {
  LayerWriter writer(model, edit);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    MCOMPRESS_TRY(writer.write(layers[i], pruned[i].weights, pruned[i].shift));
  }
  return ok_status();
}

std::size_t PruneRun::level_end(std::size_t begin) const {
  const std::size_t levels = static_cast<std::size_t>(std::max<std::int64_t>(settings_.levels, 1));
  const std::size_t most = (layers_.size() + levels - 1) / levels;
  std::size_t end = begin;
  std::uint64_t bytes = 0;
  while (end < layers_.size()) {
    const bool shared =
        end > begin && !layers_[end].input.empty() && layers_[end].input == layers_[end - 1].input;
    const std::uint64_t more = shared ? 0 : observation_bytes(layers_[end]);
    if (end > begin && !shared &&
        (end - begin >= most || bytes + more > settings_.statistics_bytes)) {
      break;
    }
    bytes += more;
    ++end;
  }
  return end;
}

bool PruneRun::is_large() const {
  double work = 0;
  for (const PruneLayer& layer : layers_) {
    work += static_cast<double>(layer.tensor.elements()) * static_cast<double>(layer.columns());
  }
  return work > kMostWaysWork;
}

Result<std::vector<double>> PruneRun::spread(double sparsity) {
  MCOMPRESS_ASSIGN(std::vector<double> shares, spread_all(sparsity));
  for (std::size_t i = 0; i < shares.size(); ++i) {
    if (!layers_[i].dense_because.empty()) shares[i] = 0;
  }
  return shares;
}

Result<std::vector<double>> PruneRun::spread_all(double sparsity) {
  std::vector<double> even(layers_.size(), sparsity);
  const bool free = settings_.rules.pattern.kind != SparsityPattern::Kind::kOfGroup;
  if (!free || settings_.masks != nullptr || layers_.size() < 2) return even;
  if (settings_.spread == PruneSettings::Spread::kGlobal) return global_shares(sparsity);
  if (settings_.spread == PruneSettings::Spread::kErrors && has_data() && sparsity > 0) {
    return shares_by_errors(sparsity);
  }
  return even;
}

Result<std::vector<double>> PruneRun::global_shares(double sparsity) const {
  // One threshold over |w|^2 E[x^2], each layer's as a share of their sum; without data over |w|.
  std::vector<std::vector<float>> scores(layers_.size());
  std::vector<std::vector<double>> energies(layers_.size());
  const bool weighed = has_data() && settings_.rules.method != PruneMethod::kMagnitude;
  if (weighed) {
    for (std::size_t begin = 0; begin < layers_.size();) {
      const std::size_t end = level_end(begin);
      const PruneObservation how{settings_.samples, settings_.judged};
      MCOMPRESS_ASSIGN(const std::vector<PruneInput> inputs,
                       observe_layers(model_, model_, layers_, begin, end, how, context_));
      for (const PruneInput& input : inputs) {
        for (const std::size_t i : input.layers) {
          const std::size_t columns = layers_[i].columns();
          energies[i].assign(columns, 0);
          for (const PruneInputGroup& group : input.groups) {
            const std::vector<double> moments = group.gram->moments();
            for (std::size_t c = 0; c < columns; ++c) {
              energies[i][c] += moments[c * columns + c] / static_cast<double>(input.groups.size());
            }
          }
        }
      }
      begin = end;
    }
  }
  std::vector<float> all;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    MCOMPRESS_ASSIGN(const std::vector<float> rows,
                     channel_vectors(layers_[i].tensor, layers_[i].view));
    scores[i] = weight_scores(rows, layers_[i].columns(), energies[i]);
    if (weighed) {
      double sum = 0;
      for (const float score : scores[i]) sum += double{score} * double{score};
      const double scale = sum > 0 ? 1 / std::sqrt(sum) : 0;
      for (float& score : scores[i]) score = static_cast<float>(double{score} * scale);
    }
    if (layers_[i].dense_because.empty()) {
      all.insert(all.end(), scores[i].begin(), scores[i].end());
    }
  }
  const auto gone =
      static_cast<std::size_t>(std::clamp(std::llround(static_cast<double>(all.size()) * sparsity),
                                          0LL, static_cast<long long>(all.size())));
  if (gone == 0) return std::vector<double>(layers_.size());
  std::ranges::nth_element(all, all.begin() + static_cast<std::ptrdiff_t>(gone - 1));
  const float limit = all[gone - 1];
  std::vector<double> shares;
  for (const std::vector<float>& list : scores) {
    const auto below = std::ranges::count_if(list, [&](float score) { return score <= limit; });
    shares.push_back(
        std::min(static_cast<double>(below) / static_cast<double>(list.size()), 0.995));
  }
  return shares;
}

Status PruneRun::measure_errors() {
  if (!errors_.empty()) return ok_status();
  for (double s = 0; s < 0.9 - 1e-9; s += kStep) grid_.push_back(s);
  for (double s = 0.9; s <= kMostSparse + 1e-9; s += kFineStep) grid_.push_back(s);
  double work = 0;
  for (const PruneLayer& layer : layers_) {
    const auto columns = static_cast<double>(layer.columns());
    work +=
        static_cast<double>(layer.tensor.elements()) * columns * static_cast<double>(grid_.size());
  }
  errors_.resize(layers_.size());
  for (std::size_t begin = 0; begin < layers_.size();) {
    context_.progress().update("measure layers", begin, layers_.size(), "layers");
    const std::size_t end = level_end(begin);
    const PruneObservation how{settings_.samples, settings_.judged};
    MCOMPRESS_ASSIGN(const std::vector<PruneInput> inputs,
                     observe_layers(model_, model_, layers_, begin, end, how, context_));
    for (const PruneInput& input : inputs) {
      for (const std::size_t i : input.layers) {
        MCOMPRESS_ASSIGN(const std::vector<float> rows,
                         channel_vectors(layers_[i].tensor, layers_[i].view));
        if (!layers_[i].dense_because.empty()) continue;
        errors_[i] = pruning_errors(layers_[i], rows, input, settings_.rules, grid_,
                                    work > kMostSweepWork, context_.executor());
      }
    }
    begin = end;
  }
  MCOMPRESS_ASSIGN(const std::vector<double> gains, model_gains());
  double least = -1;  // gains that could not be measured
  for (const double gain : gains) {
    if (gain > 0 && (least < 0 || gain < least)) least = gain;
  }
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    double highest = 0;
    for (double& error : errors_[i]) {
      highest = std::max(highest, error);
      error = highest * (gains[i] > 0 ? gains[i] : std::max(least, 1.0));
    }
  }
  return ok_status();
}

// What one layer's error alone makes of the model's outputs, for each layer, as a ratio.
Result<std::vector<double>> PruneRun::model_gains() const {
  std::vector<double> gains(layers_.size());
  MCOMPRESS_ASSIGN(Runtime * runtime, context_.runtime());
  Guard guard(*runtime, *context_.calibration_data(), kJudges);
  MCOMPRESS_TRY(guard.open_reference(nullptr, model_, &context_.executor()));
  constexpr double kTried = 0.5;
  PruneRules plain;
  plain.method = PruneMethod::kMagnitude;
  if (is_large()) plain.repair = PruneRepair::kBias;
  const auto measure = [&](std::size_t i, const PruneInput& input) -> Status {
    MCOMPRESS_ASSIGN(const std::vector<float> rows,
                     channel_vectors(layers_[i].tensor, layers_[i].view));
    // The layer's own error of the same trial stands in the ratio: any mask will do.
    const PrunedRows made =
        prune_layer(layers_[i], rows, rows, &input, plain, kTried, {}, {}, context_.executor());
    if (!made.output_db) return ok_status();
    MCOMPRESS_ASSIGN(const Tensor weights,
                     tensor_of_vectors(made.weights, layers_[i].view, layers_[i].tensor.dims(),
                                       context_.tensors()));
    const std::unique_ptr<Model> trial = model_.clone();
    Editor edit(*trial, &onnx_catalog());
    MCOMPRESS_TRY(LayerWriter(*trial, edit).write(layers_[i], weights, made.shift));
    MCOMPRESS_ASSIGN(const double sqnr, guard.sqnr_db(*trial));
    gains[i] = std::pow(10, (*made.output_db - sqnr) / 10);
    return ok_status();
  };
  for (std::size_t begin = 0; begin < layers_.size();) {
    context_.progress().update("measure layers", begin, layers_.size(), "layers");
    const std::size_t end = level_end(begin);
    const PruneObservation how{kJudges};
    MCOMPRESS_ASSIGN(const std::vector<PruneInput> inputs,
                     observe_layers(model_, model_, layers_, begin, end, how, context_));
    for (const PruneInput& input : inputs) {
      for (const std::size_t i : input.layers) {
        if (!errors_[i].empty()) MCOMPRESS_TRY(measure(i, input));
      }
    }
    begin = end;
  }
  return gains;
}

// Between the points of the grid along straight lines.
double PruneRun::error_at(std::size_t layer, double sparsity) const {
  const auto above = std::ranges::upper_bound(grid_, sparsity);
  const auto at = static_cast<std::size_t>(above - grid_.begin()) - 1;
  double error = errors_[layer][at];
  if (at + 1 < grid_.size()) {
    const double part = (sparsity - grid_[at]) / (grid_[at + 1] - grid_[at]);
    error += part * (errors_[layer][at + 1] - error);
  }
  return error;
}

std::optional<double> PruneRun::predicted_db(const std::vector<double>& sparsities) const {
  double noise = 0;
  for (std::size_t i = 0; i < errors_.size(); ++i) {
    if (!errors_[i].empty()) noise += error_at(i, sparsities[i]);
  }
  if (!(noise > 0)) return std::nullopt;
  return -10 * std::log10(noise);
}

Result<std::vector<double>> PruneRun::shares_by_errors(double sparsity) {
  MCOMPRESS_TRY(measure_errors());
  // Layers without errors lose what is asked for, the others share the rest.
  std::vector<std::vector<double>> errors;
  std::vector<std::int64_t> sizes;
  std::vector<std::size_t> places;
  // Nothing tells how far a layer can go beyond what was tried around the wish.
  const double most = std::min((1 + 2 * sparsity) / 3 + 0.05, kMostSparse);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (errors_[i].empty()) continue;
    places.push_back(i);
    sizes.push_back(layers_[i].tensor.elements());
    // Back to even steps, as the choice wants them.
    std::vector<double> even;
    for (double s = 0; s <= std::max(most, sparsity) + 1e-9; s += kFineStep / 2) {
      even.push_back(error_at(i, s));
    }
    errors.push_back(std::move(even));
  }
  std::vector<double> shares(layers_.size(), sparsity);
  const std::vector<std::size_t> chosen = spread_sparsity(errors, sizes, kFineStep / 2, sparsity);
  for (std::size_t k = 0; k < places.size(); ++k) {
    shares[places[k]] = static_cast<double>(chosen[k]) * kFineStep / 2;
  }
  return shares;
}

Result<std::vector<PrunedLayer>> PruneRun::prune(const std::vector<double>& sparsities,
                                                 const std::vector<PrunedLayer>& before,
                                                 std::unique_ptr<Model>& trial) {
  trial = model_.clone();
  Editor edit(*trial, &onnx_catalog());
  LayerWriter writer(*trial, edit);
  std::vector<PrunedLayer> pruned(layers_.size());
  ways_.resize(layers_.size());
  const auto prune_one = [&](std::size_t i, const PruneInput* input) -> Status {
    const PruneLayer& layer = layers_[i];
    MCOMPRESS_ASSIGN(const std::vector<float> rows, channel_vectors(layer.tensor, layer.view));
    std::vector<float> current = rows;
    if (!before.empty()) {
      MCOMPRESS_ASSIGN(current, channel_vectors(before[i].weights, layer.view));
    }
    std::vector<std::uint8_t> given;
    if (settings_.masks != nullptr && layer.dense_because.empty()) {
      given = in_vector_order(settings_.masks->at(layer.name), layer.view);
    }
    const bool fewer = is_large() && before.empty();
    const std::vector<std::size_t> only = fewer ? ways_[i] : std::vector<std::size_t>();
    PrunedRows made = prune_layer(layer, rows, current, input, settings_.rules, sparsities[i],
                                  given, only, context_.executor());
    if (only.empty() && before.empty()) {
      ways_[i] = std::move(made.ways);
      ways_[i].resize(std::min(ways_[i].size(), kBestWays));
    }
    PrunedLayer& result = pruned[i];
    MCOMPRESS_ASSIGN(result.weights, tensor_of_vectors(made.weights, layer.view,
                                                       layer.tensor.dims(), context_.tensors()));
    result.shift = std::move(made.shift);
    result.how = std::move(made.how);
    result.score = std::move(made.score);
    result.ranked = std::move(made.ranked);
    result.sparsity = made.sparsity;
    result.output_db = made.output_db;
    result.codes = std::move(made.codes);
    return writer.write(layer, result.weights, result.shift);
  };
  // Magnitudes that nothing makes up for need no data.
  const bool looks = has_data() && (settings_.rules.method != PruneMethod::kMagnitude ||
                                    settings_.rules.repair != PruneRepair::kNone);
  for (std::size_t begin = 0; begin < layers_.size();) {
    context_.progress().update("prune", begin, layers_.size(), "layers");
    const std::size_t end = level_end(begin);
    std::vector<PruneInput> inputs;
    if (looks) {
      const PruneObservation how{settings_.samples, settings_.judged};
      MCOMPRESS_ASSIGN(inputs, observe_layers(model_, *trial, layers_, begin, end, how, context_));
    }
    std::vector<bool> done(end - begin);
    for (const PruneInput& input : inputs) {
      for (const std::size_t i : input.layers) {
        MCOMPRESS_TRY(prune_one(i, &input));
        done[i - begin] = true;
      }
    }
    for (std::size_t i = begin; i < end; ++i) {
      if (!done[i - begin]) MCOMPRESS_TRY(prune_one(i, nullptr));
    }
    begin = end;
  }
  return pruned;
}

}  // namespace mcompress
