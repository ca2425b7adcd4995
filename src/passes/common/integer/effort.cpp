#include "passes/common/integer/effort.h"

namespace mcompress {

Effort effort_of(std::string_view name) {
  if (name == "fast") return Effort::kFast;
  return name == "best" ? Effort::kBest : Effort::kDefault;
}

StepCost::StepCost(ReportScope& report, std::string_view name)
    : report_(report), name_(name), start_(std::chrono::steady_clock::now()) {}

StepCost::~StepCost() {
  ReportScope& step = report_.item("steps", name_);
  step.count("runs", runs_);
  if (before_) step.number("sqnr_db_before", *before_);
  if (after_) step.number("sqnr_db_after", *after_);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start_;
  step.seconds("took", took.count());
}

}  // namespace mcompress
