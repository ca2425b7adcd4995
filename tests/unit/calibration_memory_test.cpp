// What calibration holds, and that a budget is kept.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "calibration/observers.h"
#include "calibration/run_memory.h"
#include "mcompress/calibration.h"
#include "support/models.h"
#include "support/process_peak.h"
#include "support/wide_images.h"

namespace mcompress {
namespace {

using testing::model_from_text;

TEST(RunMemory, ScalesWithTheSamples) {
  const RunMemory measured{4000, 1000, 9000};
  EXPECT_EQ(measured.total(), 6000u);  // the input twice
  EXPECT_EQ(measured.per_input_byte(), 6.0);
  const RunMemory larger = measured.of(6, 2);
  EXPECT_EQ(larger.work, 12000u);
  EXPECT_EQ(larger.input, 3000u);
  EXPECT_EQ(larger.shown, 27000u);
  EXPECT_EQ(RunMemory{}.per_input_byte(), 0.0);
}

TEST(MemoryShares, FewestPassesFirstThenAsManyRunsAsFit) {
  const RunMemory run{800'000, 100'000, 0};
  const std::uint64_t one = 1'000'000 + (128 << 10);  // with what every run takes beside
  const std::uint64_t observer = bytes_per_observer(), table = 100 * bytes_per_entry();
  EXPECT_GE(observer, 32u << 10);
  EXPECT_GE(bytes_per_entry(), 16u << 10);

  const MemoryShares roomy = share_memory(3 * one + table + 100 * observer, 100, run);
  EXPECT_EQ(roomy.values, 100u);
  EXPECT_EQ(roomy.passes, 1u);
  EXPECT_EQ(roomy.run, one);
  EXPECT_EQ(roomy.statistics, table + 100 * observer);
  EXPECT_EQ(roomy.for_runs, 3 * one);
  EXPECT_EQ(roomy.at_once, 3u);

  // One byte less than three runs and all statistics need: two runs.
  EXPECT_EQ(share_memory(3 * one + table + 100 * observer - 1, 100, run).at_once, 2u);

  // Room for 40 values beside one run: three passes of about the same size.
  const MemoryShares tight = share_memory(one + table + 40 * observer, 100, run);
  EXPECT_EQ(tight.passes, 3u);
  EXPECT_EQ(tight.values, 34u);
  EXPECT_EQ(tight.at_once, 1u);
  EXPECT_LT(tight.least, one + table + 40 * observer);

  // The least that works takes the most passes; with less it is exceeded, and more passes would not
  // help.
  const MemoryShares least = share_memory(tight.least, 100, run);
  EXPECT_EQ(least.least, one + table + 13 * observer);
  EXPECT_EQ(least.passes, kMostPasses);
  EXPECT_EQ(least.values, 13u);
  EXPECT_EQ(least.at_once, 1u);
  EXPECT_EQ(least.run + least.statistics, least.least);
  const MemoryShares none = share_memory(least.least - 1, 100, run);
  EXPECT_EQ(none.passes, 1u);
  EXPECT_EQ(none.values, 100u);
  EXPECT_EQ(none.at_once, 1u);
  EXPECT_EQ(none.least, least.least);

  EXPECT_EQ(share_memory(1, 1, run).passes, 1u);
  EXPECT_EQ(share_memory(1, 0, run).values, 0u);
}

// ---- The peak of a process. Each measurement is a process of its own, since peaks never go down.

constexpr const char* kThreads = "MCOMPRESS_TEST_THREADS";
constexpr const char* kBudget = "MCOMPRESS_TEST_BUDGET";
constexpr std::int64_t kSide = 256;  // values of 4 MiB each

// Does the work in the process that the test below starts; without threads it only opens the model.
TEST(CalibrationMemory, DISABLED_Worker) {
  const char* threads = std::getenv(kThreads);
  const char* budget = std::getenv(kBudget);
  ASSERT_TRUE(threads != nullptr && budget != nullptr);
  const auto model = model_from_text(testing::wide_model());
  const auto runtime = find_runtime("onnxruntime").value();
  CalibrationRequest request;
  for (int i = 0; i < 6; ++i) request.values.push_back("y" + std::to_string(i));
  CalibratorOptions options;
  options.threads = std::atoi(threads);
  options.memory_budget = std::strtoull(budget, nullptr, 10);
  if (options.threads == 0) {
    SessionOptions session;
    session.observed = request.values;
    ASSERT_TRUE(runtime->open(*model, session).ok());
    return;
  }
  testing::Waves data(kSide, 24);
  Diagnostics diagnostics;
  const auto table =
      calibrate(*runtime, *model, data, request, options, diagnostics, silent_progress());
  ASSERT_TRUE(table.ok());
  EXPECT_EQ(table->samples, 24);
  for (const Diagnostic& said : diagnostics.all()) std::cout << to_string(said) << "\n";
}

// Peak bytes of a process that does that; 0 where it failed.
std::uint64_t peak_of(int threads, std::uint64_t budget) {
  return testing::peak_of_test("CalibrationMemory.DISABLED_Worker",
                               {std::string(kThreads) + "=" + std::to_string(threads),
                                std::string(kBudget) + "=" + std::to_string(budget)});
}

TEST(CalibrationMemory, ThePeakIsWhatTheBudgetSays) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer has memory of its own";
#endif
  constexpr int kMany = 8;
  constexpr std::uint64_t kMiB = 1 << 20;
  // Opening runs no kernel: their code is loaded later.
  constexpr std::uint64_t kCode = 3 * kMiB;
  const std::uint64_t opened = peak_of(0, 0), roomy = peak_of(kMany, 1024 * kMiB);
  ASSERT_TRUE(opened > 0 && roomy > opened);
  for (const std::uint64_t budget : {20 * kMiB, 32 * kMiB, 48 * kMiB}) {
    const std::uint64_t peak = peak_of(kMany, budget);
    ASSERT_GT(peak, 0u);
    EXPECT_LE(peak, opened + kCode + budget) << "budget " << budget / kMiB << " MiB";
    RecordProperty("peak_of_" + std::to_string(budget / kMiB),
                   std::to_string((peak - opened) / kMiB));
  }
  // Without a limit that counts, runs take more than any of these budgets.
  EXPECT_GT(roomy, opened + 48 * kMiB);
}

}  // namespace
}  // namespace mcompress
