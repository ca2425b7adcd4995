// Passes over the bodies of model-local functions.
#pragma once

#include <cstddef>
#include <vector>

#include "mcompress/pass.h"
#include "mcompress/pipeline.h"
#include "pass/schedule.h"

namespace mcompress {

// Runs the steps of a group on the body of every function of a domain of its own, as the model's
// graph, where the types of the inputs are what all calls have in common: once, or until nothing
// changes. Left out are passes that look at the top graph only and those that are about the model
// as a whole. Nothing is compared. Decisions are recorded with "function/" before the subject.
// Fails as the passes do.
class FunctionRun {
 public:
  FunctionRun(Model& model, Editor& editor, const Recipe& recipe, const PassRegistry& registry,
              const Services& services, Explain& explain, TensorFactory& tensors,
              const Executor& executor);

  // Whether there is something to run, and something to run it on.
  bool concerns(const StepGroup& group) const;
  Status run(const StepGroup& group);

 private:
  struct Calls;
  Status run_body(const StepGroup& group, std::size_t position, const Calls& calls);
  std::vector<std::size_t> steps_of(const StepGroup& group) const;
  Status run_steps(const StepGroup& group, Explain& explain);

  Model& model_;
  Editor& editor_;
  const Recipe& recipe_;
  const PassRegistry& registry_;
  Explain& explain_;
  TensorFactory& tensors_;
  const Executor& executor_;
  Target target_;
  Diagnostics unheard_;  // what inference complains about here, nobody can help
  Services services_;
};

}  // namespace mcompress
