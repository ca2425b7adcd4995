// Finds few layers that have to be restored, by running whole choices. Knows nothing of models.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "mcompress/status.h"

namespace mcompress {

struct ChoiceVerdict {
  bool holds = false;
  double score = 0;  // larger is better; compared where nothing holds
};

struct FoundChoice {
  std::vector<bool> restored;  // by place in the ranking
  ChoiceVerdict verdict;
  std::int64_t trials = 0;
};

// `judge` runs a choice (true: restored). `first_guess`: how many of the ranking are expected to be
// needed. The best choice seen where none holds; restoring nothing counts as seen with `nothing`.
// Fails as `judge` does.
Result<FoundChoice> search_choice(
    std::size_t count, const ChoiceVerdict& nothing, std::size_t first_guess,
    std::int64_t max_trials,
    const std::function<Result<ChoiceVerdict>(const std::vector<bool>& restored)>& judge);

}  // namespace mcompress
