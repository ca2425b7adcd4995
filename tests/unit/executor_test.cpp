#include "support/executor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>

namespace mcompress {
namespace {

TEST(Executor, EveryIndexOnceInFixedChunks) {
  for (const int threads : {1, 2, 4, 8}) {
    const Executor executor(threads);
    EXPECT_EQ(executor.threads(), threads);
    std::vector<std::atomic<int>> hits(1003);
    std::mutex mutex;
    std::set<std::pair<std::size_t, std::size_t>> chunks;
    executor.parallel_for(hits.size(), 100, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) ++hits[i];
      const std::lock_guard<std::mutex> lock(mutex);
      chunks.emplace(begin, end);
    });
    for (const auto& hit : hits) EXPECT_EQ(hit.load(), 1);
    EXPECT_EQ(chunks.size(), 11U);
    EXPECT_TRUE(chunks.contains({0, 100}));
    EXPECT_TRUE(chunks.contains({1000, 1003}));
  }
}

TEST(Executor, Borders) {
  const Executor executor(0);
  EXPECT_GE(executor.threads(), 1);
  int calls = 0;
  executor.parallel_for(0, 10, [&](std::size_t, std::size_t) { ++calls; });
  EXPECT_EQ(calls, 0);
  executor.parallel_for(5, 10, [&](std::size_t begin, std::size_t end) {
    EXPECT_EQ(begin, 0U);
    EXPECT_EQ(end, 5U);
    ++calls;
  });
  EXPECT_EQ(calls, 1);
  std::atomic<int> single{0};
  executor.parallel_for(3, 0, [&](std::size_t begin, std::size_t end) {
    EXPECT_EQ(end, begin + 1);
    ++single;
  });
  EXPECT_EQ(single.load(), 3);
}

TEST(Executor, ReductionDoesNotDependOnThreads) {
  std::vector<float> values(1'000'003);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(std::sin(static_cast<double>(i)) * 1e3);
  }
  const auto sum = [&](int threads) {
    return Executor(threads).ordered_reduce(
        values.size(), 1024, 0.0F,
        [&](std::size_t begin, std::size_t end) {
          float part = 0;
          for (std::size_t i = begin; i < end; ++i) part += values[i];
          return part;
        },
        [](float left, float right) { return left + right; });
  };
  const float one = sum(1);
  for (const int threads : {2, 3, 8}) EXPECT_EQ(sum(threads), one);
  const std::string order = Executor(4).ordered_reduce(
      10, 3, std::string("<"), [](std::size_t begin, std::size_t) { return std::to_string(begin); },
      [](std::string left, const std::string& right) { return left + right; });
  EXPECT_EQ(order, "<0369");
}

TEST(Executor, TheFirstFailureWins) {
  for (const int threads : {1, 4}) {
    const Executor executor(threads);
    for (int round = 0; round < 20; ++round) {
      const Status status =
          executor.try_parallel_for(1000, 1, [](std::size_t begin, std::size_t) -> Status {
            if (begin % 100 == 37) {
              return Error(Code::kInput, "x", std::to_string(begin));
            }
            return ok_status();
          });
      ASSERT_FALSE(status.ok());
      EXPECT_EQ(status.error().diagnostic.message, "37");
    }
    EXPECT_TRUE(
        executor.try_parallel_for(10, 1, [](std::size_t, std::size_t) { return ok_status(); })
            .ok());
  }
}

TEST(Executor, ExceptionsReachTheCaller) {
  for (const int threads : {1, 4}) {
    EXPECT_THROW(Executor(threads).parallel_for(100, 1,
                                                [](std::size_t begin, std::size_t) {
                                                  if (begin == 50) throw std::runtime_error("x");
                                                }),
                 std::runtime_error);
  }
}

TEST(Executor, Nests) {
  const Executor executor(4);
  std::atomic<int> count{0};
  executor.parallel_for(8, 1, [&](std::size_t, std::size_t) {
    executor.parallel_for(8, 1, [&](std::size_t, std::size_t) { ++count; });
  });
  EXPECT_EQ(count.load(), 64);
}

}  // namespace
}  // namespace mcompress
