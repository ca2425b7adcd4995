#include "pass/schedule.h"

#include <algorithm>
#include <array>

namespace mcompress {
namespace {

// After all others, when those have nothing left to do.
bool runs_last(const PassInfo& info) {
  return std::ranges::find(info.runs_after, "*") != info.runs_after.end();
}

// A topological order of the steps by runs_after; of those that may run, the one whose name comes
// first; of one name, the one that stands first in the recipe.
std::vector<std::size_t> ordered(std::vector<std::size_t> steps, const Recipe& recipe,
                                 const PassRegistry& registry) {
  std::ranges::stable_sort(steps, {}, [&](std::size_t step) { return recipe.steps[step].pass; });
  std::vector<std::size_t> order;
  const auto waits = [&](std::size_t step) {
    const PassInfo* info = registry.find(recipe.steps[step].pass);
    return std::ranges::any_of(steps, [&](std::size_t other) {
      const std::string& name = recipe.steps[other].pass;
      return name != recipe.steps[step].pass &&
             std::ranges::find(info->runs_after, name) != info->runs_after.end();
    });
  };
  while (!steps.empty()) {
    auto first = std::ranges::find_if(steps, [&](std::size_t step) { return !waits(step); });
    if (first == steps.end()) first = steps.begin();  // passes that wait for each other
    order.push_back(*first);
    steps.erase(first);
  }
  return order;
}

}  // namespace

std::vector<StepGroup> schedule(const Recipe& recipe, const PassRegistry& registry) {
  std::vector<StepGroup> groups;
  const auto keeps = [&](std::size_t step) {
    const PassInfo* info = registry.find(recipe.steps[step].pass);
    return recipe.converge && info != nullptr && info->keeps_results && !runs_last(*info);
  };
  for (std::size_t i = 0; i < recipe.steps.size(); ++i) {
    if (recipe.converge && prepares(recipe.steps[i].pass)) {
      const bool behind = !groups.empty() && groups.back().repeat;
      const auto at = groups.end() - (behind ? 1 : 0);
      if (at != groups.begin() && !std::prev(at)->repeat) {
        std::prev(at)->steps.push_back(i);
      } else {
        groups.insert(at, StepGroup{{i}, false, {}});
      }
      continue;
    }
    const bool joins = !groups.empty() && groups.back().repeat == keeps(i);
    if (!joins) groups.push_back({{}, keeps(i), {}});
    groups.back().steps.push_back(i);
  }
  for (StepGroup& group : groups) {
    if (!group.repeat) continue;
    group.steps = ordered(std::move(group.steps), recipe, registry);
    for (const std::size_t step : group.steps) {
      group.cleans.push_back(cleans(recipe.steps[step].pass));
    }
  }
  return groups;
}

bool cleans(std::string_view pass) {
  static constexpr std::array<std::string_view, 8> kVerbs = {
      "dedup-", "eliminate-", "fold-", "infer-", "inline-", "lift-", "merge-", "pin-"};
  return std::ranges::any_of(kVerbs, [&](std::string_view verb) { return pass.starts_with(verb); });
}

bool prepares(std::string_view pass) { return pass.starts_with("pin-"); }

bool Worklist::next(std::size_t& step) {
  for (std::size_t i = 0; i < done_.size(); ++i) {
    const std::size_t candidate = (place_ + i) % done_.size();
    if (done_[candidate] || turns_[candidate] >= kMostTurns) continue;
    if (beginning_ && !first_[candidate]) continue;
    step = candidate;
    return true;
  }
  if (!beginning_) return false;
  beginning_ = false;
  place_ = 0;
  return next(step);
}

void Worklist::ran(std::size_t step, bool changed, bool idempotent) {
  ++turns_[step];
  place_ = (step + 1) % done_.size();
  if (changed) std::fill(done_.begin(), done_.end(), false);
  done_[step] = !changed || idempotent;
}

}  // namespace mcompress
