#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "calibration/observers.h"
#include "mcompress/calibration.h"
#include "support/models.h"

namespace mcompress {
namespace {

ValueStats stats_of(std::span<const float> values) {
  Histogram histogram;
  histogram.add(values);
  return to_value_stats(histogram);
}

std::vector<float> normal_data(std::uint32_t seed, std::size_t n, float scale) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(n);
  for (float& x : values) x = normal(random);
  return values;
}

CalibrationTable table_of(std::uint64_t data, std::span<const float> values) {
  CalibrationTable table;
  table.model_digest = 0x0123456789abcdef;
  table.data_digests = {data};
  table.samples = 3;
  table.runtime = "test 1.0";
  table.set("x/y:0", stats_of(values));
  return table;
}

std::string json_of(const CalibrationTable& table) {
  auto text = table.to_json();
  EXPECT_TRUE(text.ok());
  return text.ok() ? *text : std::string();
}

std::string error_of(std::string_view text) {
  auto table = CalibrationTable::from_json(text, "t.json");
  return table.ok() ? "ok" : to_string(table.error().diagnostic);
}

TEST(Table, AveragesAreKeptMergedAndOptional) {
  CalibrationTable table = table_of(7, std::vector<float>{-1.0f, 4.0f});
  ValueStats stats = *table.find("x/y:0");
  stats.average_minimum = -0.5;
  stats.average_maximum = 2.0;
  table.set("x/y:0", stats);
  std::string text = json_of(table);
  const auto read = CalibrationTable::from_json(text, "t.json");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->find("x/y:0")->average_minimum, -0.5);
  EXPECT_EQ(read->find("x/y:0")->average_maximum, 2.0);

  CalibrationTable other = table_of(8, std::vector<float>{-3.0f, 4.0f});  // averages -3 and 4
  other.samples = 1;
  ASSERT_TRUE(table.merge(other).ok());
  EXPECT_DOUBLE_EQ(table.find("x/y:0")->average_minimum, (3 * -0.5 + 1 * -3.0) / 4);
  EXPECT_DOUBLE_EQ(table.find("x/y:0")->average_maximum, (3 * 2.0 + 1 * 4.0) / 4);

  // A table of an earlier release: the averages are the extremes.
  for (const char* key : {"\"average-min\"", "\"average-max\""}) {
    const std::size_t at = text.find(key);
    ASSERT_NE(at, std::string::npos);
    text.erase(at, text.find(',', at) + 1 - at);
  }
  const auto old = CalibrationTable::from_json(text, "t.json");
  ASSERT_TRUE(old.ok()) << to_string(old.error().diagnostic);
  EXPECT_EQ(old->find("x/y:0")->average_minimum, -1.0);
  EXPECT_EQ(old->find("x/y:0")->average_maximum, 4.0);

  std::string wrong = json_of(*read);
  wrong.replace(wrong.find("-0.5"), 4, "-1.5");
  EXPECT_NE(error_of(wrong).find("'average-min' to 'average-max' is no part of 'min' to 'max'"),
            std::string::npos)
      << error_of(wrong);
}

TEST(Table, ReadsBackWhatItWrote) {
  std::vector<float> values = normal_data(1, 5000, 3.0f);
  values.push_back(std::numeric_limits<float>::quiet_NaN());
  values.push_back(std::numeric_limits<float>::infinity());
  CalibrationTable table = table_of(7, values);
  ValueStats channels = stats_of(normal_data(2, 100, 1e-20f));
  channels.channel_means = {0.1, -2.5, 1e300};
  table.set("übung", channels);
  table.set("empty", stats_of({}));
  const std::string text = json_of(table);
  auto read = CalibrationTable::from_json(text, "t.json");
  ASSERT_TRUE(read.ok()) << to_string(read.error().diagnostic);
  EXPECT_EQ(json_of(*read), text);
  EXPECT_EQ(read->model_digest, table.model_digest);
  EXPECT_EQ(read->data_digests, table.data_digests);
  EXPECT_EQ(read->samples, 3);
  const ValueStats* stats = read->find("x/y:0");
  ASSERT_NE(stats, nullptr);
  EXPECT_EQ(stats->count, 5000);
  EXPECT_EQ(stats->nan_count, 1);
  EXPECT_EQ(stats->infinity_count, 1);
  EXPECT_EQ(stats->bins, table.find("x/y:0")->bins);
  EXPECT_EQ(read->find("übung")->channel_means, channels.channel_means);
  EXPECT_EQ(read->find("nobody"), nullptr);
}

TEST(Table, SavesAndLoadsAFile) {
  const testing::TempFolder folder;
  const CalibrationTable table = table_of(7, normal_data(1, 100, 1.0f));
  ASSERT_TRUE(table.save(folder / "t.json").ok());
  EXPECT_EQ(folder.list(), std::vector<std::string>{"t.json"});
  auto read = CalibrationTable::load(folder / "t.json");
  ASSERT_TRUE(read.ok()) << to_string(read.error().diagnostic);
  EXPECT_EQ(json_of(*read), json_of(table));
  auto missing = CalibrationTable::load(folder / "none.json");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, Code::kInput);
  EXPECT_EQ(table.save(folder / "no/such/folder.json").error().code, Code::kOutput);
}

TEST(Table, MergingEqualsOneCalibrationOverBoth) {
  const std::vector<float> left = normal_data(1, 4000, 1.0f), right = normal_data(2, 1000, 50.0f);
  std::vector<float> both = left;
  both.insert(both.end(), right.begin(), right.end());
  CalibrationTable table = table_of(1, left);
  ASSERT_TRUE(table.merge(table_of(2, right)).ok());
  const ValueStats& merged = *table.find("x/y:0");
  const ValueStats whole = stats_of(both);
  EXPECT_EQ(merged.bins, whole.bins);
  EXPECT_EQ(merged.exponent, whole.exponent);
  EXPECT_EQ(merged.first_bin, whole.first_bin);
  EXPECT_EQ(merged.minimum, whole.minimum);
  EXPECT_EQ(merged.maximum, whole.maximum);
  EXPECT_EQ(merged.count, 5000);
  EXPECT_NEAR(merged.mean, whole.mean, 1e-9);
  EXPECT_NEAR(merged.mean_square, whole.mean_square, 1e-9 * whole.mean_square);
  EXPECT_EQ(table.samples, 6);
  EXPECT_EQ(table.data_digests, (std::vector<std::uint64_t>{1, 2}));
}

TEST(Table, MergeWeighsChannelMeansAndDropsUnequalOnes) {
  CalibrationTable left = table_of(1, normal_data(1, 300, 1.0f));
  CalibrationTable right = table_of(2, normal_data(2, 100, 1.0f));
  ValueStats stats = *left.find("x/y:0");
  stats.channel_means = {1.0, 2.0};
  left.set("x/y:0", stats);
  stats = *right.find("x/y:0");
  stats.channel_means = {5.0, 2.0};
  right.set("x/y:0", stats);
  CalibrationTable sum = left;
  ASSERT_TRUE(sum.merge(right).ok());
  EXPECT_EQ(sum.find("x/y:0")->channel_means, (std::vector<double>{2.0, 2.0}));
  stats.channel_means = {5.0};
  right.set("x/y:0", stats);
  ASSERT_TRUE(left.merge(right).ok());
  EXPECT_TRUE(left.find("x/y:0")->channel_means.empty());
}

TEST(Table, MergeRefusesWhatDoesNotBelongTogether) {
  const std::vector<float> values = normal_data(1, 10, 1.0f);
  CalibrationTable table = table_of(1, values);
  CalibrationTable other = table_of(1, values);
  EXPECT_EQ(table.merge(other).error().diagnostic.id, "table-same-data");
  other = table_of(2, values);
  other.model_digest = 5;
  EXPECT_EQ(table.merge(other).error().diagnostic.id, "table-of-another-model");
  other = table_of(2, values);
  other.set("more", stats_of(values));
  EXPECT_EQ(table.merge(other).error().diagnostic.where.subject, "more");
  EXPECT_EQ(other.merge(table).error().diagnostic.where.subject, "more");
  EXPECT_EQ(table.samples, 3);
}

TEST(Table, NamesThatAreNoUtf8AreRefused) {
  for (const char* name : {"\xff", "a\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80"}) {
    CalibrationTable table;
    table.set(name, stats_of({}));
    auto text = table.to_json();
    ASSERT_FALSE(text.ok()) << name;
    EXPECT_EQ(text.error().code, Code::kUnsupported);
  }
}

// One good table; each case changes one thing.
constexpr std::string_view kGood = R"({
  "format": "mcompress-calibration-table",
  "version": 1,
  "model": "0123456789abcdef",
  "data": ["0123456789abcdef"],
  "samples": 2,
  "values": {
    "v": {"min": -1.0, "max": 2.0, "mean": 0.5, "mean-square": 2.5, "count": 2, "nan": 0,
          "infinite": 0, "zeros": 0, "bin-exponent": -9, "first-bin": -513,
          "bins": "1 0*1536 1"}
  }
})";

std::string with(std::string_view from, std::string_view to) {
  std::string text(kGood);
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(Table, GoodSampleIsGood) {
  Histogram histogram;
  histogram.add(std::vector<float>{-1.0f, 2.0f});
  EXPECT_EQ(histogram.exponent(), -9);
  EXPECT_EQ(error_of(kGood), "ok");
}

TEST(Table, HostileFilesGetPreciseErrors) {
  const auto expect = [](const std::string& text, std::string_view message) {
    const std::string error = error_of(text);
    EXPECT_NE(error.find(message), std::string::npos) << error << "\nwanted: " << message;
    EXPECT_TRUE(error.starts_with("t.json")) << error;
  };
  expect("", "");
  expect("[]", "no calibration table");
  expect(with("mcompress-calibration-table", "x"), "no calibration table");
  expect(with("\"version\": 1", "\"version\": 2"), "t.json:3:14: version: version 2");
  expect(with("\"model\": \"0123456789abcdef\"", "\"model\": \"0123\""), "16 hexadecimal");
  expect(with("[\"0123456789abcdef\"]", "[\"0123456789abcdeg\"]"), "data[0]");
  expect(with("\"samples\": 2", "\"samples\": -2"), "from 0 to 2^53");
  expect(with("\"count\": 2", "\"count\": 1e300"), "from 0 to 2^53");
  expect(with("\"count\": 2", "\"count\": 99999999999999999"), "from 0 to 2^53");
  expect(with("\"count\": 2", "\"count\": 1"), "more than 'count' 1");
  expect(with("\"count\": 2", "\"count\": 3"), "hold 2, 'count' is 3");
  expect(with("\"nan\": 0", "\"nan\": -1"), "from 0 to 2^53");
  expect(with("\"max\": 2.0", "\"max\": \"nan\""), "finite number");
  expect(with("\"max\": 2.0", "\"max\": -2.0"), "'min' is above 'max'");
  expect(with("\"max\": 2.0", "\"max\": 4.0"), "do not fit");
  expect(with("\"max\": 2.0,", ""), "'max' is missing");
  expect(with("-9", "-8"), "do not fit");
  expect(with("-9", "-8000000000"), "between -1024 and 1024");
  expect(with("-513", "-512"), "do not fit");
  expect(with("0*1536", "0*1536000000000"), "more than 2048 bins");
  expect(with("0*1536", "0*0"), "counts separated by spaces");
  expect(with("0*1536", "0*"), "counts separated by spaces");
  expect(with("0*1536", "-1"), "counts separated by spaces");
  expect(with("0*1536", "x"), "counts separated by spaces");
  expect(with("1 0*1536 1", "18446744073709551615 0*1536 3"), "more than 'count'");
  expect(with("\"zeros\": 0", "\"zeros\": 3"), "do not fit");
  expect(with("\"bins\": \"1 0*1536 1\"", "\"bins\": [1, 2]"), "a text is wanted");
  expect(with("\"bins\"", "\"channel-means\": 3, \"bins\""), "a list of numbers");
  expect(with("\"bins\"", "\"channel-means\": [\"inf\"], \"bins\""), "finite number");
  expect(with("{\"min\"", "[{\"min\""), "");
  expect(with("\"v\":", "\"v\": 1, \"v\":"), "");
}

TEST(Table, EveryTruncationIsRefused) {
  const std::string text(kGood);
  for (std::size_t n = 0; n < text.size(); ++n) {
    EXPECT_NE(error_of(text.substr(0, n)), "ok") << n;
  }
}

}  // namespace
}  // namespace mcompress
