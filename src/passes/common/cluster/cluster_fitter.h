// Codebooks of all weights of a model together: k-means, or even distances that keep its outputs
// as close as asked for; with data codes and entries are those that keep the outputs of each layer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "passes/common/blocks/block_calibration.h"
#include "passes/common/cluster/cluster_feedback.h"
#include "passes/common/guard.h"

namespace mcompress {

struct ClusterFitting {
  bool keep_zero = false;
  bool refit = true;     // entries by least squares on the outputs of the layer
  bool feedback = true;  // codes by adapt_codes()
  double rate = 0;
  std::size_t dimension = 1;  // of entries; weights that can not have vectors get single ones
  std::int64_t samples = 64;
};

class ClusterFitter {
 public:
  // `energies` as of column_energies(), which calibration data give. All outlive the fitter.
  ClusterFitter(const Model& model, const std::vector<ClusterUnit>& units,
                const std::vector<std::vector<float>>& energies, const ClusterFitting& how,
                PassContext& context);

  // Of `clusters` entries each. Fails as reading, the data and the runtime do; kCancelled.
  Status fit();
  // Entries at even distances, at most `clusters` of them, the widest whose outputs stay
  // `sqnr_db` above the error. Distances of weights are such that one more bit gains as much
  // everywhere: the effect of each weight on the outputs is measured. Outputs are those on samples
  // that nothing is fitted to. Needs data. Where no distances hold, or the model as it is does not,
  // fit().
  Status fit_to_outputs(double sqnr_db);

  struct Fitted {
    ClusterCodes codes;
    bool adapted = false, refitted = false;
  };
  const std::vector<Fitted>& fitted() const { return fitted_; }
  // Of fit_to_outputs(); none where it did what fit() does.
  std::optional<double> reached_db() const { return reached_db_; }

 private:
  Status fit_by_means(const std::string& why);
  Status fit_at(const std::vector<double>& steps);
  Status start(std::size_t unit, const std::vector<double>& steps);
  Status improve(std::size_t unit, const UnitInput& input, const GramMatrix& gram);
  Result<std::vector<std::unique_ptr<GramMatrix>>> observe(const std::vector<UnitInput>& part);
  Result<std::vector<double>> relative_steps(const Guard& guard, Runtime& runtime);
  // Of the model with `codes[i]` in the place of unit `of[i]`.
  Result<double> outputs_db(const Guard& guard, Runtime& runtime,
                            const std::vector<std::size_t>& of,
                            const std::vector<const ClusterCodes*>& codes);
  Status stop_if_cancelled(std::string_view what, std::size_t at) const;

  const Model& model_;
  const std::vector<ClusterUnit>& units_;
  const std::vector<std::vector<float>>& energies_;
  ClusterFitting how_;
  PassContext& context_;
  std::vector<UnitInput> inputs_;
  std::vector<std::unique_ptr<GramMatrix>> grams_;  // of all inputs, where they fit in memory
  std::vector<Fitted> fitted_;
  bool judged_ = false;            // on samples that nothing may be fitted to
  std::vector<double> narrowest_;  // distances whose entries reach the largest weight
  std::optional<double> reached_db_;
};

// The weight that the codes stand for.
Result<Tensor> restored_weight(const ClusterUnit& unit, const ClusterCodes& codes,
                               TensorFactory& tensors);
// Puts restored weights into a copy of the model; those of nested graphs stay.
Status put_restored(Model& copy, const ClusterUnit& unit, Tensor weight);

}  // namespace mcompress
