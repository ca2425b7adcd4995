// The order of a recipe's steps, and the fixed point.
#include "pass/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "mcompress/io.h"
#include "support/models.h"

namespace mcompress {
namespace {

PassRegistry registry_of(const std::vector<PassInfo>& infos) {
  PassRegistry registry;
  for (const PassInfo& info : infos) EXPECT_TRUE(registry.add(info).ok());
  return registry;
}

PassInfo info(std::string_view name, std::vector<std::string_view> runs_after = {},
              bool keeps_results = true) {
  PassInfo result;
  result.name = name;
  result.summary = "of this test";
  result.runs_after = std::move(runs_after);
  result.keeps_results = keeps_results;
  return result;
}

std::string scheduled(const PassRegistry& registry, const std::vector<std::string>& steps,
                      bool converge = true) {
  Recipe recipe;
  recipe.converge = converge;
  for (const std::string& step : steps) recipe.steps.push_back({step, Datum::map()});
  std::string text;
  for (const StepGroup& group : schedule(recipe, registry)) {
    text += group.repeat ? "(" : "[";
    for (const std::size_t step : group.steps) text += " " + recipe.steps[step].pass;
    text += group.repeat ? " )" : " ]";
  }
  return text;
}

TEST(Schedule, WithoutConvergingStepsStandAsTheyAre) {
  const PassRegistry registry = registry_of({info("a"), info("b", {"a"}), info("q", {}, false)});
  EXPECT_EQ(scheduled(registry, {"b", "a", "q", "a"}, false), "[ b a q a ]");
}

TEST(Schedule, PassesThatKeepResultsAreGroupedInTheOrderOfTheRegistry) {
  const PassRegistry registry =
      registry_of({info("a", {"c"}), info("b"), info("c"), info("d", {"a"}), info("q", {}, false)});
  EXPECT_EQ(scheduled(registry, {"c", "b", "a", "d"}), "( b c a d )");
  EXPECT_EQ(scheduled(registry, {"d", "a", "q", "b", "q", "q"}), "( a d )[ q ]( b )[ q q ]");
}

TEST(Schedule, PassesAfterAllOthersRunOnceInTheirPlace) {
  const PassRegistry registry = registry_of({info("a", {"b"}), info("b"), info("c", {"*"})});
  EXPECT_EQ(scheduled(registry, {"a", "b", "c"}), "( b a )[ c ]");
  EXPECT_EQ(scheduled(registry, {"a", "c", "b"}), "( a )[ c ]( b )");
}

TEST(Schedule, WhatPinsInputsGoesBeforeTheGroupItStandsIn) {
  const PassRegistry registry =
      registry_of({info("a"), info("b"), info("pin-x", {}, false), info("q", {}, false)});
  for (const std::vector<std::string>& order : std::vector<std::vector<std::string>>{
           {"pin-x", "a", "b"}, {"a", "pin-x", "b"}, {"b", "a", "pin-x"}}) {
    EXPECT_EQ(scheduled(registry, order), "[ pin-x ]( a b )");
  }
  EXPECT_EQ(scheduled(registry, {"a", "q", "b", "pin-x"}), "( a )[ q pin-x ]( b )");
  EXPECT_EQ(scheduled(registry, {"a", "pin-x", "b"}, false), "[ a pin-x b ]");
}

TEST(Schedule, PassesThatWaitForEachOtherDoNotHang) {
  const PassRegistry registry = registry_of({info("a", {"b"}), info("b", {"a"})});
  EXPECT_EQ(scheduled(registry, {"b", "a"}), "( a b )");
}

TEST(Schedule, TheOrderOfTheRecipeDoesNotMatter) {
  const PassRegistry registry =
      registry_of({info("a", {"c"}), info("b"), info("c"), info("d", {"a"})});
  std::vector<std::string> steps = {"a", "b", "c", "d"};
  const std::string first = scheduled(registry, steps);
  while (std::next_permutation(steps.begin(), steps.end()))
    EXPECT_EQ(scheduled(registry, steps), first);
}

// Runs until the list is empty; `changes(step, turn)` tells what a step does.
std::string turns(std::size_t steps, const std::function<bool(std::size_t, int)>& changes,
                  bool idempotent = true) {
  Worklist worklist(steps);
  std::string text;
  for (std::size_t step = 0; worklist.next(step);) {
    const int turn = worklist.turns(step) + 1;
    text += static_cast<char>('a' + step);
    worklist.ran(step, changes(step, turn), idempotent);
  }
  return text;
}

TEST(Worklist, StopsWhenEveryStepHasSeenTheModelAsItIs) {
  EXPECT_EQ(turns(3, [](auto, auto) { return false; }), "abc");
  // b changes the model: a and c look again, b does not.
  EXPECT_EQ(turns(3, [](std::size_t step, int turn) { return step == 1 && turn == 1; }), "abca");
  EXPECT_EQ(turns(3, [](std::size_t step, int turn) { return step == 2 && turn == 1; }), "abcab");
  // ... unless it does not claim to be done.
  EXPECT_EQ(turns(
                3, [](std::size_t step, int turn) { return step == 1 && turn == 1; }, false),
            "abcab");
}

TEST(Worklist, WhatCleansComesToAnEndFirst) {
  Worklist worklist(std::vector<bool>{true, false, true});
  std::string text;
  for (std::size_t step = 0; worklist.next(step);) {
    text += static_cast<char>('a' + step);
    // c changes the model once, then b does.
    worklist.ran(step, step != 0 && worklist.turns(step) == 0, true);
  }
  EXPECT_EQ(text, "acabca");
}

TEST(Schedule, PassesCleanOrMerge) {
  int cleaning = 0;
  for (const PassInfo* pass : builtin_passes().all()) cleaning += cleans(pass->name) ? 1 : 0;
  EXPECT_GT(cleaning, 12);
  EXPECT_TRUE(cleans("eliminate-dead") && cleans("merge-reshapes") && cleans("infer-shapes"));
  EXPECT_FALSE(cleans("fuse-gelu") || cleans("push-transposes") || cleans("simplify-arithmetic"));
}

TEST(Worklist, StepsThatUndoEachOtherAreStopped) {
  const std::string text = turns(2, [](auto, auto) { return true; });
  EXPECT_EQ(text.size(), 2u * Worklist::kMostTurns);
}

TEST(Worklist, ABannedStepNeverRunsAgain) {
  Worklist worklist(2);
  std::size_t step = 0;
  ASSERT_TRUE(worklist.next(step));
  worklist.ran(step, false, true);
  worklist.ban(step);
  ASSERT_TRUE(worklist.next(step));
  EXPECT_EQ(step, 1u);
  worklist.ran(step, true, true);
  EXPECT_FALSE(worklist.next(step));
}

// Real passes, real models: any order of the recipe gives the same file.
TEST(Schedule, TheOrderOfRealPassesDoesNotChangeTheBytes) {
  std::vector<std::string> names = {"dedup-initializers", "eliminate-dead",  "eliminate-identity",
                                    "fold-constants",     "fuse-activation", "fuse-affine",
                                    "fuse-batchnorm",     "infer-shapes",    "lift-constants"};
  for (const testing::Fixture& fixture : testing::fixtures()) {
    std::string first;
    for (int turn = 0; turn < 3; ++turn) {
      Recipe recipe;
      recipe.converge = true;
      for (const std::string& name : names) recipe.steps.push_back({name, Datum::map()});
      auto model = testing::model_from_bytes(fixture.bytes);
      Diagnostics diagnostics;
      Services services;
      services.runtime = find_runtime("onnxruntime").value();
      services.diagnostics = &diagnostics;
      Explain explain;
      Report report;
      const Status status =
          run_pipeline(*model, recipe, builtin_passes(), services, {}, explain, report);
      ASSERT_TRUE(status.ok()) << to_string(status.error().diagnostic);
      const std::string bytes = save_model_bytes(*model).value();
      if (turn == 0) first = bytes;
      EXPECT_EQ(bytes, first) << fixture.name;
      std::rotate(names.begin(), names.begin() + 4, names.end());
    }
  }
}

}  // namespace
}  // namespace mcompress
