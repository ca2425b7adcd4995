// Pruning all layers of a model to a sparsity: which layer loses how much, and one after the other.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/pass.h"
#include "passes/common/prune/prune_layer.h"

namespace mcompress {

struct PruneSettings {
  PruneRules rules;
  // How much a layer loses beside the others.
  enum class Spread : std::uint8_t {
    kEven,    // all the same
    kGlobal,  // one ranking of all weights of the model
    kErrors,  // by what layers' errors cost the model's outputs
  };
  Spread spread = Spread::kEven;
  std::int64_t samples = 512;
  bool judged = false;       // on samples that nothing may be fitted to (SampleSplit)
  std::int64_t levels = 16;  // parts of the network, one after the other
  std::uint64_t statistics_bytes = std::uint64_t{768} << 20;
  // Masks to keep to, by name of the weight: a byte for each element, as it lies in the weight.
  const std::map<std::string, std::vector<std::uint8_t>>* masks = nullptr;
};

struct PrunedLayer {
  Tensor weights;
  std::vector<double> shift;
  std::string how;
  std::string score, ranked;  // as PrunedRows has them
  double sparsity = 0;
  std::optional<double> output_db;
  std::optional<BlockRows> codes;  // that the weights are, where the layer has a format
};

// Prunes the layers of one model, to several sparsities if asked again.
class PruneRun {
 public:
  // `model` as it came; the layers were planned in it. The references have to live.
  PruneRun(const Model& model, const std::vector<PruneLayer>& layers, const PruneSettings& settings,
           PassContext& context)
      : model_(model), layers_(layers), settings_(settings), context_(context) {}

  // The share that each layer loses so that all together lose `sparsity`. Fails as running fails.
  Result<std::vector<double>> spread(double sparsity);
  // The SQNR of the outputs, dB, where errors of layers as spread() measured them add up and
  // nothing makes up for them; none before it did, or where it measures nothing.
  std::optional<double> predicted_db(const std::vector<double>& sparsities) const;
  // Prunes; `before`: what an earlier call made, to prune further, or empty. `trial` becomes the
  // model with the result.
  Result<std::vector<PrunedLayer>> prune(const std::vector<double>& sparsities,
                                         const std::vector<PrunedLayer>& before,
                                         std::unique_ptr<Model>& trial);

 private:
  Result<std::vector<double>> spread_all(double sparsity);
  Result<std::vector<double>> global_shares(double sparsity) const;
  Result<std::vector<double>> shares_by_errors(double sparsity);
  Status measure_errors();
  Result<std::vector<double>> model_gains() const;
  bool has_data() const { return context_.calibration_data() != nullptr; }
  bool is_large() const;
  std::size_t level_end(std::size_t begin) const;
  double error_at(std::size_t layer, double sparsity) const;

  const Model& model_;
  const std::vector<PruneLayer>& layers_;
  const PruneSettings& settings_;
  PassContext& context_;
  std::vector<double> grid_;                 // sparsities
  std::vector<std::vector<double>> errors_;  // by layer, at those; in units of the model's outputs
  std::vector<std::vector<double>> energies_;
  std::vector<std::vector<std::size_t>> ways_;  // by layer, what was best in an earlier trial
};

// Writes layers into `model`, a clone of the planned one or itself.
Status write_pruned(Model& model, Editor& edit, const std::vector<PruneLayer>& layers,
                    const std::vector<PrunedLayer>& pruned);

}  // namespace mcompress
