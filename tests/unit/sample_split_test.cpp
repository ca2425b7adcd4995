#include "passes/common/sample_split.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace mcompress::testing {
namespace {

class Numbers : public DataSource {
 public:
  Numbers(std::int64_t count, std::int64_t fixed) : count_(count), fixed_(fixed) {}
  std::int64_t count() const override { return count_; }
  bool can_batch() const override { return true; }
  std::int64_t fixed_batch() const override { return fixed_; }
  std::uint64_t digest() const override { return 1; }
  std::string description() const override { return "numbers"; }
  const Labels& labels() const override { return labels_; }
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    read.emplace_back(first, count);
    return std::vector<NamedTensor>();
  }
  std::vector<std::pair<std::int64_t, std::int64_t>> read;

 private:
  std::int64_t count_, fixed_;
  Labels labels_;
};

std::vector<std::int64_t> fitting(const SampleSplit& split) {
  std::vector<std::int64_t> samples;
  for (std::int64_t i = 0; i < split.count(); ++i) {
    if (!split.judges(i)) samples.push_back(split.sample(i));
  }
  return samples;
}

using Samples = std::vector<std::int64_t>;

TEST(SampleSplit, TheLastOfEachFiveJudges) {
  const Numbers data(12, 0);
  const SampleSplit split(data, 100);
  EXPECT_EQ(split.count(), 12);
  EXPECT_EQ(fitting(split), Samples({0, 1, 2, 3, 5, 6, 7, 8, 10, 11}));
  EXPECT_EQ(split.judging(10), Samples({4, 9}));
  EXPECT_EQ(split.judging(1), Samples({4}));
}

TEST(SampleSplit, FewerSamplesThanThereAreLieEvenly) {
  const Numbers data(100, 0);
  const SampleSplit split(data, 10);
  EXPECT_EQ(fitting(split), Samples({0, 10, 20, 30, 50, 60, 70, 80}));
  EXPECT_EQ(split.judging(64), Samples({40, 90}));
  EXPECT_EQ(SampleSplit(data, 100).judging(4), Samples({4, 29, 54, 79}));
}

TEST(SampleSplit, OfFewerThanFiveAllFitAndAllJudge) {
  const Numbers data(4, 0);
  const SampleSplit split(data, 64);
  EXPECT_EQ(fitting(split), Samples({0, 1, 2, 3}));
  EXPECT_EQ(split.judging(64), Samples({0, 1, 2, 3}));
  const Numbers none(0, 0);
  EXPECT_EQ(SampleSplit(none, 64).count(), 0);
  EXPECT_TRUE(SampleSplit(none, 64).judging(8).empty());
}

TEST(SampleSplit, ModelsOfAFixedBatchGetWholeBatches) {
  Numbers data(23, 2);
  const SampleSplit split(data, 100);
  EXPECT_EQ(split.count(), 11) << "the last sample fills no batch";
  EXPECT_EQ(split.judging(10), Samples({8, 18}));
  ASSERT_TRUE(split.read(data, 5).ok());
  ASSERT_EQ(data.read.size(), 1U);
  EXPECT_EQ(data.read[0], std::pair(std::int64_t{10}, std::int64_t{2}));
}

}  // namespace
}  // namespace mcompress::testing
