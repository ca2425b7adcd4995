// A batch as work for a scheduler: the shares as tasks of a Slurm array, of GNU parallel, or of a
// Kubernetes Job.
#pragma once

#include <cstdint>
#include <string>

#include "mcompress/status.h"

namespace mcompress::tools {

// Paths are absolute; names of built-in recipes are as they are.
struct BatchPlan {
  std::string program;
  std::string models, recipe, output;
  std::int64_t shares = 1;
  std::int64_t jobs = 0;           // models at a time within a share; 0: not said
  std::int64_t memory_budget = 0;  // bytes of a share; 0: not said
  bool recipe_is_file = false;
};

// `kind`: slurm, parallel or kubernetes. Fails with kUsage for paths that the form can not hold.
Result<std::string> print_batch_job(const std::string& kind, const BatchPlan& plan);

// As one word of a POSIX shell.
std::string shell_word(const std::string& text);

}  // namespace mcompress::tools
