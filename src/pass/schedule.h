// The order in which the steps of a recipe run, and when to stop repeating them.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "mcompress/pass.h"
#include "mcompress/pipeline.h"

namespace mcompress {

// Steps that run together: each once, or all until nothing changes.
struct StepGroup {
  std::vector<std::size_t> steps;  // places in the recipe, in the order of running
  bool repeat = false;
  std::vector<bool> cleans;  // of each step of a repeated group, see cleans()
};

// Whether a pass only takes away and makes plain, so that what merges operators sees the same graph
// however it was spelt: by its name, which begins with what it does.
bool cleans(std::string_view pass);

// Whether a pass narrows what a model may be given, by its name as above. It runs before the
// neighbours that are repeated, wherever among them it stands: what they do does not depend on it.
bool prepares(std::string_view pass);

// Without Recipe::converge one group of all steps as they stand. With it neighbours that keep
// results are a group, in an order that depends on the passes alone: after what they name in
// runs_after, then by name. Those that run after "*" are in no such group: they run once, in their
// place, and others do not look behind them.
std::vector<StepGroup> schedule(const Recipe& recipe, const PassRegistry& registry);

// The steps of a repeated group that still have to look at the model: each that has not seen it
// as it is now. Those that clean come to an end among themselves before the others begin. Ends
// because every pass only simplifies; a pair that undoes each other's work is stopped after so many
// turns.
class Worklist {
 public:
  static constexpr int kMostTurns = 16;
  explicit Worklist(std::size_t steps) : Worklist(std::vector<bool>(steps, true)) {}
  // `first`: the steps that begin.
  explicit Worklist(std::vector<bool> first)
      : turns_(first.size(), 0), done_(first.size(), false), first_(std::move(first)) {}

  // The next step in turn that is not done; false: none.
  bool next(std::size_t& step);
  // What a step did. Others have to look again at a model that changed.
  void ran(std::size_t step, bool changed, bool idempotent);
  // Never again.
  void ban(std::size_t step) { turns_[step] = kMostTurns; }
  int turns(std::size_t step) const { return turns_[step]; }

 private:
  std::vector<int> turns_;
  std::vector<bool> done_;
  std::vector<bool> first_;
  bool beginning_ = true;
  std::size_t place_ = 0;
};

}  // namespace mcompress
