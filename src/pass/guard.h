// Whether passes kept what the model computes: both states run on the same inputs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/ir.h"
#include "mcompress/pipeline.h"
#include "mcompress/runtime.h"
#include "pass/changes.h"

namespace mcompress {

struct Verdict {
  std::int64_t sites = 0;    // that were to be looked at
  std::int64_t checked = 0;  // of these, run and compared
  std::string why_not;       // of the first that was not
  // Of the first output that is too far away; empty: all are near.
  std::string broken;
  bool holds() const { return broken.empty(); }
};

class NumericGuard {
 public:
  // `data` may be null: made-up inputs only. `threads` of the runtime.
  NumericGuard(Runtime& runtime, DataSource* data, std::uint64_t seed, double tolerance,
               int threads)
      : runtime_(runtime), data_(data), seed_(seed), tolerance_(tolerance), threads_(threads) {}

  // Runs the model as it is and keeps its outputs: what compare() compares with. A model that can
  // not be run gives verdicts of nothing checked.
  void remember(const Model& model);
  // Why the calibration data could not be read for that; empty: they could.
  const std::optional<Error>& unreadable() const { return unreadable_; }
  // `remembered`: where remember() runs at the same time, returns when it has ended.
  Verdict compare(const Model& candidate, const std::function<void()>& remembered = nullptr);

  // What changed between two states of one model (see changes_between).
  Verdict compare_sites(const Model& before, const Model& after);

 private:
  class Types;
  struct Run {
    std::vector<NamedTensor> feeds;
    std::vector<Tensor> results;
  };
  // What is too far away from one of the runs, or fails; empty: nothing.
  std::string broken_by(Session& candidate, const std::vector<Run>& runs) const;
  void remember_fused();
  static Result<Run> run_once(Session& session, std::span<const std::string> outputs,
                              std::vector<NamedTensor> feeds);
  Result<Run> run_made_up(Session& session, std::span<const std::string> outputs);
  Result<std::string> difference(Session& candidate, std::span<const std::string> fetch,
                                 std::span<const std::string> labels, const Run& run) const;
  Verdict compare_sites(const Model& before, const Model& after, std::size_t depth, Types& types);
  Result<std::string> compare_change(const Model& before, const Model& after, const Change& change,
                                     Types& types);
  // `fused`: with the runtime's own fusions, which compute quantized operators on integers.
  Result<std::unique_ptr<Session>> open(const Model& model, bool fused = false) const;
  Runtime& runtime_;
  DataSource* data_;
  std::uint64_t seed_;
  double tolerance_;
  int threads_;
  std::vector<std::string> outputs_;
  std::vector<Run> reference_;
  // The same by the runtime's own fusions; only of models that restore and quantize activations. A
  // code that is rounded the other way is no error of a pass that does what the runtime does. Found
  // when the first comparison needs it, from `fused_model_`.
  std::vector<Run> fused_reference_;
  std::unique_ptr<Model> fused_model_;
  std::string why_no_reference_;
  std::optional<Error> unreadable_;
  bool opens_ = false;  // the runtime takes the model to be compared with
};

// What is too far apart, "3.1e-02 at 7: 1.25 instead of 1.29"; empty: nothing. The tolerance is a
// share of the largest magnitude among the finite expected values, for float32; coarser types
// have coarser ones. Values that are no floats must be equal, non-finite ones the same.
Result<std::string> difference_between(const Tensor& expected, const TensorView& actual,
                                       double tolerance);

}  // namespace mcompress
