// How much work quantization may do, and what each step of it cost and brought.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "mcompress/report.h"

namespace mcompress {

// kFast: nothing beyond one pass over the data: ranges from histograms, biases corrected by means.
// kDefault: ranges judged by what they do to the layers that read them.
// kBest: all that improves the result: rounding and biases found on the quantized model too.
enum class Effort : std::uint8_t { kFast, kDefault, kBest };

// The help of the option "effort", whose choices are "fast", "default" and "best".
inline constexpr std::string_view kEffortHelp =
    "how much to try: fast: one pass over the data; default: ranges by their effect on layers; "
    "best: "
    "weights and biases corrected on the quantized model too";
// kDefault for a name that is none of the choices.
Effort effort_of(std::string_view name);

// Reports one step of a pass when it ends: an item of the list "steps" with the runs of the model
// (or of parts of it that add up to one), the signal to noise ratio of the model's outputs before
// and after, and, apart from the facts, the seconds it took.
class StepCost {
 public:
  StepCost(ReportScope& report, std::string_view name);
  ~StepCost();
  StepCost(const StepCost&) = delete;
  StepCost& operator=(const StepCost&) = delete;

  void add_runs(std::int64_t runs) { runs_ += runs; }
  void before_db(double sqnr_db) { before_ = sqnr_db; }
  void after_db(double sqnr_db) { after_ = sqnr_db; }

 private:
  ReportScope& report_;
  std::string_view name_;
  std::chrono::steady_clock::time_point start_;
  std::int64_t runs_ = 0;
  std::optional<double> before_, after_;
};

}  // namespace mcompress
