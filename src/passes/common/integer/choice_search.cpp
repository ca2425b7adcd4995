#include "passes/common/integer/choice_search.h"

#include <algorithm>

#include "support/try.h"

namespace mcompress {
namespace {

class ChoiceSearch {
 public:
  using Judge = std::function<Result<ChoiceVerdict>(const std::vector<bool>&)>;
  ChoiceSearch(std::size_t count, const ChoiceVerdict& nothing, std::int64_t max_trials,
               const Judge& judge)
      : count_(count), max_trials_(max_trials), judge_(judge) {
    best_.restored.assign(count, false);
    best_.verdict = nothing;
  }

  Result<FoundChoice> run(std::size_t first_guess) {
    if (count_ == 0 || best_.verdict.holds) return best_;
    std::size_t failing = 0;
    std::size_t holding = std::clamp<std::size_t>(first_guess, 1, count_);
    for (;;) {
      MCOMPRESS_ASSIGN(const bool holds, try_first(holding));
      if (holds) break;
      failing = holding;
      if (holding == count_) return best_;
      // The last trial that is left goes to the choice that restores everything.
      holding = left() <= 1 ? count_ : std::min(holding * 2, count_);
    }
    while (holding - failing > 1 && left() > 0) {
      const std::size_t middle = failing + (holding - failing) / 2;
      MCOMPRESS_ASSIGN(const bool holds, try_first(middle));
      (holds ? holding : failing) = middle;
    }
    // The last one is needed with all those in front of it; from the one before it down to the
    // worst, parts are given up as long as the rest holds.
    if (holding > 1) MCOMPRESS_TRY(give_up(0, holding - 1));
    return best_;
  }

 private:
  std::int64_t left() const { return max_trials_ - best_.trials; }

  Result<bool> try_choice(const std::vector<bool>& restored) {
    ++best_.trials;
    MCOMPRESS_ASSIGN(const ChoiceVerdict verdict, judge_(restored));
    const bool better = verdict.holds
                            ? !best_.verdict.holds || ones(restored) < ones(best_.restored)
                            : !best_.verdict.holds && verdict.score > best_.verdict.score;
    if (better) {
      best_.restored = restored;
      best_.verdict = verdict;
    }
    return verdict.holds;
  }

  Result<bool> try_first(std::size_t number) {
    std::vector<bool> restored(count_, false);
    std::fill_n(restored.begin(), number, true);
    return try_choice(restored);
  }

  Status give_up(std::size_t begin, std::size_t end) {
    if (begin >= end || left() <= 0) return ok_status();
    std::vector<bool> fewer = best_.restored;
    std::fill(fewer.begin() + static_cast<std::ptrdiff_t>(begin),
              fewer.begin() + static_cast<std::ptrdiff_t>(end), false);
    MCOMPRESS_ASSIGN(const bool holds, try_choice(fewer));
    if (holds || end - begin == 1) return ok_status();
    const std::size_t middle = begin + (end - begin) / 2;
    MCOMPRESS_TRY(give_up(middle, end));
    return give_up(begin, middle);
  }

  static std::ptrdiff_t ones(const std::vector<bool>& restored) {
    return std::count(restored.begin(), restored.end(), true);
  }

  std::size_t count_;
  std::int64_t max_trials_;
  const Judge& judge_;
  FoundChoice best_;
};

}  // namespace

Result<FoundChoice> search_choice(
    std::size_t count, const ChoiceVerdict& nothing, std::size_t first_guess,
    std::int64_t max_trials,
    const std::function<Result<ChoiceVerdict>(const std::vector<bool>& restored)>& judge) {
  return ChoiceSearch(count, nothing, max_trials, judge).run(first_guess);
}

}  // namespace mcompress
