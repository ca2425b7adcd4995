// Which range each quantized activation gets.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "mcompress/calibration.h"
#include "mcompress/pass.h"
#include "passes/common/guard.h"
#include "passes/common/integer/effort.h"
#include "passes/common/integer/range_judge.h"
#include "passes/common/integer/static_emit.h"
#include "passes/common/integer/static_plan.h"

namespace mcompress {

// "minmax", "moving-average", "percentile", "entropy", "mse"; empty for other names.
std::optional<RangeMethod> range_method_of(std::string_view name);

// Numbers of up to `wanted` samples, evenly spread: of those that calibration did not see, or of
// all where it has seen nearly all. On samples that were seen, min-max ranges never clip and look
// better than they are.
std::vector<std::int64_t> held_out_samples(const CalibrationTable& table, const DataSource& data,
                                           std::int64_t wanted);

struct RangeChoiceOptions {
  RangeMethod method = RangeMethod::kMse;  // of tensors that are not judged
  bool judge = false;                      // each tensor's range by its effect
  double percentile = 99.99;
  std::vector<double> percentiles = {99.9, 99.99, 99.999};  // among what is judged
  bool symmetric = false;                                   // zero point 0
};

// The ranges of the tensors of a plan, from one calibration table. Every range contains 0; that of
// a tensor without negative values starts at the smallest code.
class RangeChoice {
 public:
  RangeChoice(QuantType type, const CalibrationTable& table, RangeChoiceOptions options)
      : type_(type), table_(table), options_(std::move(options)) {}

  // Judges the candidates of each tensor (see range_judge.h) on samples of the context's data, on
  // those that calibration did not see where there are such. The best is taken; of those within
  // 0.1 dB of it the widest. Does nothing without data. Fails as the runtime does.
  Status judge(const Model& model, const StaticPlan& plan, PassContext& context);

  // One method for the whole model can still be better than the best of each tensor: `emit` gives
  // the model under the present ranges, for the judged ones and then for others, and `guard` the
  // signal to noise ratio of its outputs. Judged ones stay unless another method is 1 dB better.
  // Small models are open side by side unless memory is limited. Returns the session of the one
  // that stays, null where there is none to keep. Fails as `emit` and the runtime do.
  using Emit = std::function<Result<std::unique_ptr<Model>>()>;  // null: all of it is float32
  Result<std::unique_ptr<Session>> keep_best(const Emit& emit, Guard& guard, PassContext& context);

  // By value id, for every tensor of the plan. The tensors of `whole` get their minimum and
  // maximum, whatever was judged.
  std::map<std::uint32_t, ActivationScale> scales(const StaticPlan& plan,
                                                  const std::set<std::uint32_t>& whole = {});

 private:
  struct Trial {
    std::optional<RangeMethod> method;  // none: the judged ranges
    std::unique_ptr<Model> model;
    std::unique_ptr<Session> session;
    double reached = 0;
  };
  Status emit_trial(const Emit& emit, Trial& trial);
  static Status open_trial(const Guard& guard, Trial& trial);
  static Status measure_trial(Guard& guard, Trial& trial);
  QuantParams params_of(const Value& root, bool whole);
  QuantParams params_of(const ValueRange& range) const;
  // Widest first, no two alike.
  std::vector<RangeCandidate> candidates(const ValueStats& stats) const;

  QuantType type_;
  const CalibrationTable& table_;
  RangeChoiceOptions options_;
  std::map<std::string, QuantParams, std::less<>> judged_;  // by name
  std::optional<RangeMethod> forced_;                       // in place of the judged ranges
  std::map<std::pair<std::string, RangeMethod>, QuantParams> plain_;
};

}  // namespace mcompress
