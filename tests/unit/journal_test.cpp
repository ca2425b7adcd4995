// What a batch writes down, how it shares work, and what runs beside what.
#include "batch/journal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>

namespace mcompress::tools {
namespace {

JournalEntry entry(const std::string& job, std::int64_t status) {
  JournalEntry one;
  one.job = job;
  one.key = "0123456789abcdef";
  one.status = status;
  one.bytes_before = 4096;
  one.bytes_after = 1024;
  one.output_digest = status == 0 ? "fedcba9876543210" : "";
  one.message = status == 0 ? "" : "not a \"model\"\n: truncated";
  one.recipe = "server-int8";
  one.peak_bytes = 1 << 20;
  one.metric = "top1";
  one.quality_before = 1;
  one.quality = 0.985;
  one.drop = 1.5;
  one.sqnr_db = std::numeric_limits<double>::infinity();
  one.latency_ms = 0.25;
  return one;
}

TEST(Journal, EntriesComeBackAsTheyWere) {
  const JournalEntry done = entry("deep/a.onnx", 0), failed = entry("b c'd\\e.onnx", 137);
  const auto read = parse_journal(journal_line(done) + journal_line(failed), "j");
  ASSERT_TRUE(read.ok());
  ASSERT_EQ(read->size(), 2U);
  for (const JournalEntry* one : {&done, &failed}) {
    const JournalEntry& back = read->at(one->job);
    EXPECT_EQ(journal_line(back), journal_line(*one));
    EXPECT_EQ(back.message, one->message);
    EXPECT_EQ(back.peak_bytes, one->peak_bytes);
    EXPECT_EQ(back.metric, "top1");
    EXPECT_EQ(back.quality_before, 1.0);
    EXPECT_EQ(back.drop, 1.5);
    EXPECT_EQ(back.sqnr_db, std::numeric_limits<double>::infinity());
    EXPECT_EQ(back.latency_ms, 0.25);
    EXPECT_FALSE(back.latency_before_ms);
  }
}

TEST(Journal, OneEntryIsOneLine) {
  const std::string line = journal_line(entry("a\nb", 2));
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  EXPECT_TRUE(line.ends_with('\n'));
}

TEST(Journal, TheLastEntryOfAJobHolds) {
  const auto read = parse_journal(
      journal_line(entry("a", 2)) + journal_line(entry("b", 0)) + journal_line(entry("a", 0)), "j");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->at("a").status, 0);
  EXPECT_EQ(read->at("a").message, "");
}

// The program may die at any byte of the last line.
TEST(Journal, WhatWasBeingWrittenIsLeftOut) {
  const std::string first = journal_line(entry("a", 0)), second = journal_line(entry("b", 0));
  for (std::size_t length = 0; length < second.size(); ++length) {
    const auto read = parse_journal(first + second.substr(0, length), "j");
    ASSERT_TRUE(read.ok()) << length;
    EXPECT_EQ(read->size(), 1U) << length;
    EXPECT_TRUE(read->contains("a"));
  }
}

TEST(Journal, AWholeLineThatIsNoEntryIsAnError) {
  const std::string good = journal_line(entry("a", 0));
  for (const std::string bad :
       {"{}\n", "[]\n", "\n", "{\"job\": 3}\n", "{\"job\": \"a\"\n", "null\n"}) {
    const auto read = parse_journal(good + bad + good, "folder/j");
    ASSERT_FALSE(read.ok()) << bad;
    EXPECT_EQ(read.error().code, Code::kInput);
    EXPECT_EQ(read.error().diagnostic.where.file, "folder/j:2");
  }
  std::string negative = good;
  negative.replace(negative.find("4096"), 4, "-409");
  EXPECT_FALSE(parse_journal(negative, "j").ok());
}

TEST(Journal, LinesOfOlderProgramsAreRead) {
  JournalEntry old = entry("a", 0);
  old.recipe.clear();
  old.peak_bytes = 0;
  const std::string line = journal_line(old);
  EXPECT_EQ(line.find("recipe"), std::string::npos);
  EXPECT_EQ(line.find("peak_bytes"), std::string::npos);
  EXPECT_TRUE(parse_journal(line, "j").ok());
}

TEST(Journal, ResultsAreEntriesWithAVersion) {
  const std::string line = result_line(entry("a", 0));
  EXPECT_TRUE(line.starts_with("{\"schema_version\": 1, \"job\": \"a\""));
  EXPECT_TRUE(parse_journal(line, "j").ok());
}

TEST(Shares, TheDearestGoesWhereThereIsLeast) {
  // 9 -> 0; 7 -> 1; 6 -> 1 has 7, 0 has 9: 1 (13); 5 -> 0 (14); 3 -> 1 (16); 1 -> 0 (15).
  EXPECT_EQ(share_jobs({5, 9, 1, 7, 3, 6}, 2), (std::vector<std::size_t>{0, 0, 0, 1, 1, 1}));
  // Equal costs by position.
  EXPECT_EQ(share_jobs({4, 4, 4, 4}, 3), (std::vector<std::size_t>{0, 1, 2, 0}));
  EXPECT_EQ(share_jobs({}, 5), (std::vector<std::size_t>{}));
}

TEST(Shares, NoneHasMoreThanItsPartAndOneJob) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::uint64_t> costs(1 + random() % 200);
    for (auto& cost : costs) cost = 1 + random() % 1000000;
    const std::size_t count = 1 + random() % 12;
    const auto shares = share_jobs(costs, count);
    ASSERT_EQ(shares.size(), costs.size());
    std::vector<std::uint64_t> sums(count, 0);
    for (std::size_t i = 0; i < costs.size(); ++i) sums.at(shares[i]) += costs[i];
    const std::uint64_t all = std::accumulate(costs.begin(), costs.end(), std::uint64_t{0});
    const std::uint64_t dearest = *std::max_element(costs.begin(), costs.end());
    for (const std::uint64_t sum : sums) EXPECT_LE(sum, all / count + dearest);
    EXPECT_EQ(share_jobs(costs, count), shares);
  }
}

TEST(Shares, AreWrittenIOfN) {
  const auto second = parse_shard("2/4");
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->index, 1U);
  EXPECT_EQ(second->count, 4U);
  for (const char* bad : {"", "0/4", "5/4", "2", "2/", "/4", "2/4x", "a/b", "-1/4", "1/0", "2/4/6",
                          "1/100001", "18446744073709551617/4"}) {
    const auto read = parse_shard(bad);
    ASSERT_FALSE(read.ok()) << bad;
    EXPECT_EQ(read.error().code, Code::kUsage);
  }
}

// Any order of ends: together, jobs never need more than the budget, but for one that does alone.
TEST(Budget, IsNeverExceededByJobsTogether) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 200; ++round) {
    const std::uint64_t budget = 1000;
    std::vector<std::uint64_t> waiting(1 + random() % 40);
    for (auto& need : waiting) need = 1 + random() % 1200;
    std::sort(waiting.rbegin(), waiting.rend());
    const std::size_t jobs = waiting.size();
    std::vector<std::uint64_t> running;
    std::size_t started = 0;
    while (!waiting.empty() || !running.empty()) {
      const std::uint64_t used = std::accumulate(running.begin(), running.end(), std::uint64_t{0});
      const std::size_t next = pick_job(waiting, used, budget, running.empty());
      if (next < waiting.size()) {
        running.push_back(waiting[next]);
        waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(next));
        ++started;
        ASSERT_TRUE(used + running.back() <= budget || running.size() == 1) << round;
        continue;
      }
      ASSERT_FALSE(running.empty()) << "nothing runs and nothing starts";
      running.erase(running.begin() + static_cast<std::ptrdiff_t>(random() % running.size()));
    }
    EXPECT_EQ(started, jobs);
  }
}

TEST(Budget, TheFirstThatFitsStarts) {
  EXPECT_EQ(pick_job({700, 400, 300}, 0, 1000, true), 0U);
  EXPECT_EQ(pick_job({400, 300}, 700, 1000, false), 1U);
  EXPECT_EQ(pick_job({400}, 700, 1000, false), 1U);
  EXPECT_EQ(pick_job({2000, 10}, 0, 1000, true), 0U);  // alone
  EXPECT_EQ(pick_job({10}, 2000, 1000, false), 1U);    // nothing beside it
  EXPECT_EQ(pick_job({}, 0, 1000, true), 0U);
}

}  // namespace
}  // namespace mcompress::tools
