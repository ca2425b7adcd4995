// What quantize-static holds under a memory budget: calibration, the choice of ranges, comparisons
// of outputs, the ranking of layers. The same work on samples of 8 x 8 shows what models, sessions
// and code take.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "mcompress/mcompress.h"
#include "mcompress/memory.h"
#include "passes/common/memory_share.h"
#include "support/models.h"
#include "support/process_peak.h"
#include "support/wide_images.h"

namespace mcompress::testing {
namespace {

constexpr const char* kSide = "MCOMPRESS_TEST_SIDE";
constexpr const char* kThreads = "MCOMPRESS_TEST_THREADS";
constexpr const char* kBudget = "MCOMPRESS_TEST_BUDGET";
constexpr const char* kLeastDb = "MCOMPRESS_TEST_DB";

// The digest of the result. Every range is judged; with `least_db` layers are ranked and choices
// tried, too.
Result<std::uint64_t> quantize(std::int64_t side, int threads, std::uint64_t budget,
                               double least_db, Diagnostics& diagnostics) {
  const auto model = model_from_text(wide_model());
  Waves data(side, 40);
  Services services;
  services.runtime = find_runtime("onnxruntime").value();
  services.calibration_data = &data;
  services.diagnostics = &diagnostics;
  services.threads = threads;
  services.memory_budget = budget;
  Datum options = Datum::map();
  if (least_db > 0) options.set("min-sqnr", Datum::real(least_db));
  Recipe recipe;
  recipe.target = "generic-qdq";
  recipe.steps = {{"infer-shapes", Datum::map()}, {"quantize-static", options}};
  Explain explain;
  Report report;
  Status status = run_pipeline(*model, recipe, builtin_passes(), services, {}, explain, report);
  if (!status.ok()) return std::move(status).error();
  return fingerprint(*model);
}

// Does the work in the process that a test below starts.
TEST(StaticMemory, DISABLED_Worker) {
  const auto number = [](const char* name) {
    const char* text = std::getenv(name);
    return text == nullptr ? 0ULL : std::strtoull(text, nullptr, 10);
  };
  give_memory_back_at_once();
  Diagnostics diagnostics;
  const auto done =
      quantize(static_cast<std::int64_t>(number(kSide)), static_cast<int>(number(kThreads)),
               number(kBudget), static_cast<double>(number(kLeastDb)), diagnostics);
  ASSERT_TRUE(done.ok()) << to_string(done.error().diagnostic);
  for (const Diagnostic& said : diagnostics.all()) std::cout << to_string(said) << "\n";
}

std::uint64_t peak_of(std::int64_t side, std::uint64_t budget, int least_db) {
  constexpr int kMany = 8;
  return peak_of_test("StaticMemory.DISABLED_Worker",
                      {std::string(kSide) + "=" + std::to_string(side),
                       std::string(kThreads) + "=" + std::to_string(kMany),
                       std::string(kBudget) + "=" + std::to_string(budget),
                       std::string(kLeastDb) + "=" + std::to_string(least_db)});
}

constexpr std::uint64_t kMiB = 1 << 20;

void check_peaks(int least_db, const std::vector<std::uint64_t>& budgets) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer has memory of its own";
#endif
  constexpr std::int64_t kSmall = 8, kLarge = 192;  // values of 4 KiB and of 2.25 MiB
  constexpr std::uint64_t kSlack = 4 * kMiB;        // stacks, and pages that free() keeps
  const std::uint64_t small = peak_of(kSmall, 64 * kMiB, least_db);
  const std::uint64_t roomy = peak_of(kLarge, 4096 * kMiB, least_db);
  ASSERT_TRUE(small > 0 && roomy > small);
  for (const std::uint64_t budget : budgets) {
    const std::uint64_t peak = peak_of(kLarge, budget, least_db);
    ASSERT_GT(peak, 0u);
    EXPECT_LE(peak, small + kSlack + budget)
        << "budget " << budget / kMiB << " MiB, growth " << (peak - small) / kMiB << " MiB";
    ::testing::Test::RecordProperty("growth_of_" + std::to_string(budget / kMiB),
                                    std::to_string((peak - small) / kMiB));
  }
  // Where nothing limits it, it takes more than either.
  EXPECT_GT(roomy, small + 60 * kMiB);
}

TEST(StaticMemory, ThePeakOfChoosingRangesIsWhatTheBudgetSays) {
  check_peaks(0, {24 * kMiB, 44 * kMiB});
}

// No choice reaches that ratio: all are tried.
TEST(StaticMemory, ThePeakOfRankingLayersIsWhatTheBudgetSays) { check_peaks(150, {32 * kMiB}); }

TEST(StaticMemory, ABudgetChangesNoBit) {
  Diagnostics free, tight;
  const auto without = quantize(64, 2, 0, 0, free);
  const auto with = quantize(64, 2, 4 * kMiB, 0, tight);
  ASSERT_TRUE(without.ok() && with.ok());
  EXPECT_EQ(*without, *with);
}

TEST(StaticMemory, ThePlansAreSaidAndTooLittleWithBothFigures) {
  const auto said = [](const Diagnostics& diagnostics, std::string_view id) {
    std::vector<std::string> texts;
    for (const Diagnostic& one : diagnostics.all()) {
      if (one.id == id) texts.push_back(one.message);
    }
    return texts;
  };
  Diagnostics none, enough, little;
  ASSERT_TRUE(quantize(64, 2, 0, 150, none).ok());
  EXPECT_TRUE(said(none, "memory-plan").empty());

  ASSERT_TRUE(quantize(64, 2, 64 * kMiB, 150, enough).ok());
  const auto plans = said(enough, "memory-plan");
  ASSERT_GE(plans.size(), 3u);
  EXPECT_TRUE(plans[0].starts_with("the choice of ranges within 64.00 MiB: ")) << plans[0];
  EXPECT_TRUE(plans[1].starts_with("comparing outputs within 64.00 MiB: ")) << plans[1];
  EXPECT_TRUE(said(enough, "memory-over-budget").empty());

  ASSERT_TRUE(quantize(64, 2, 100'000, 150, little).ok());
  const auto warnings = said(little, "memory-over-budget");
  ASSERT_GE(warnings.size(), 3u);
  EXPECT_TRUE(warnings[0].starts_with("the choice of ranges needs at least ")) << warnings[0];
  EXPECT_TRUE(warnings[0].ends_with(", the budget is 0.10 MiB")) << warnings[0];
}

TEST(MemoryGate, LetsInWhatFitsAndOneInAnyCase) {
  MemoryGate gate(10);
  const MemoryGate::Entry large(gate, 4), other(gate, 6);
  MemoryGate small(1);
  const MemoryGate::Entry alone(small, 100);
}

}  // namespace
}  // namespace mcompress::testing
