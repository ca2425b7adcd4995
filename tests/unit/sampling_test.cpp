// Data that can not be real, and how many samples are enough.
#include "mcompress/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <set>

#include "calibration/chosen_samples.h"
#include "calibration/observers.h"

namespace mcompress {
namespace {

PortInfo port_of(std::string name, const std::vector<std::int64_t>& dims) {
  PortInfo port;
  port.name = std::move(name);
  port.type.element = DataType::kFloat;
  port.type.shape.emplace();
  for (const std::int64_t size : dims) port.type.shape->push_back(Dim{size, {}});
  return port;
}

// Float samples by number.
class MadeSamples final : public DataSource {
 public:
  using Fill = std::function<void(std::int64_t, std::vector<float>&)>;
  MadeSamples(std::int64_t count, std::vector<std::int64_t> dims, Fill fill, std::int64_t fixed = 0)
      : count_(count), dims_(std::move(dims)), fill_(std::move(fill)), fixed_(fixed) {}
  std::int64_t count() const override { return count_; }
  std::uint64_t digest() const override { return 77; }
  std::string description() const override { return "made"; }
  bool can_batch() const override { return true; }
  std::int64_t fixed_batch() const override { return fixed_; }
  const Labels& labels() const override { return labels_; }
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    std::vector<std::int64_t> dims = dims_;
    std::size_t size = 1;
    for (const std::int64_t d : dims) size *= static_cast<std::size_t>(d);
    std::vector<float> all;
    for (std::int64_t i = 0; i < count; ++i) {
      std::vector<float> values(size);
      fill_(first + i, values);
      all.insert(all.end(), values.begin(), values.end());
      seen.push_back(first + i);
    }
    dims[0] = count;
    std::vector<std::byte> bytes(all.size() * sizeof(float));
    std::memcpy(bytes.data(), all.data(), bytes.size());
    std::vector<NamedTensor> feeds;
    feeds.push_back({"x", make_bytes_tensor(DataType::kFloat, dims, std::move(bytes))});
    return feeds;
  }

  std::vector<std::int64_t> seen;

 private:
  std::int64_t count_;
  std::vector<std::int64_t> dims_;
  Fill fill_;
  std::int64_t fixed_;
  Labels labels_;
};

std::vector<std::string> findings(MadeSamples& data, const std::vector<std::int64_t>& dims) {
  Diagnostics diagnostics;
  const std::vector<PortInfo> ports = {port_of("x", dims)};
  EXPECT_TRUE(check_samples(data, ports, diagnostics).ok());
  std::vector<std::string> ids;
  for (const Diagnostic& one : diagnostics.all()) {
    EXPECT_EQ(one.level, Diagnostic::Level::kWarning);
    ids.push_back(one.id + (one.id == "data-noise" ? ": " + one.message : ""));
  }
  return ids;
}

using Ids = std::vector<std::string>;
const std::vector<std::int64_t> kImage = {1, 3, 16, 16};

TEST(SampleChecks, NoiseIsNoImage) {
  std::mt19937 random(5);
  MadeSamples uniform(8, kImage, [&](std::int64_t, std::vector<float>& values) {
    std::uniform_real_distribution<float> draw(0, 1);
    for (float& value : values) value = draw(random);
  });
  Ids ids = findings(uniform, kImage);
  ASSERT_EQ(ids.size(), 1U);
  EXPECT_NE(ids[0].find("uniform random numbers"), std::string::npos) << ids[0];
  MadeSamples normal(8, {1, 16, 16, 3}, [&](std::int64_t, std::vector<float>& values) {
    std::normal_distribution<float> draw(0, 1);
    for (float& value : values) value = draw(random);
  });
  ids = findings(normal, {1, 16, 16, 3});
  ASSERT_EQ(ids.size(), 1U);
  EXPECT_NE(ids[0].find("normal random numbers"), std::string::npos) << ids[0];
  // Vectors of random numbers are nothing to wonder about.
  MadeSamples vectors(8, {1, 768}, [&](std::int64_t, std::vector<float>& values) {
    std::normal_distribution<float> draw(0, 1);
    for (float& value : values) value = draw(random);
  });
  EXPECT_EQ(findings(vectors, {1, 768}), Ids());
}

TEST(SampleChecks, ImagesPass) {
  std::mt19937 random(6);
  // Blurred noise: texture with correlated neighbours.
  MadeSamples textures(8, kImage, [&](std::int64_t, std::vector<float>& values) {
    std::uniform_real_distribution<float> draw(0, 1);
    for (float& value : values) value = draw(random);
    for (std::size_t i = values.size() - 1; i > 0; --i)
      values[i] = 0.5F * (values[i] + values[i - 1]);
  });
  EXPECT_EQ(findings(textures, kImage), Ids());
  // Black lines on white, and one empty page among them.
  MadeSamples pages(8, kImage, [&](std::int64_t sample, std::vector<float>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = sample > 0 && i / 16 % 8 == static_cast<std::size_t>(sample) ? 0.0F : 1.0F;
    }
  });
  EXPECT_EQ(findings(pages, kImage), Ids());
}

TEST(SampleChecks, SameAndConstantSamplesAreNamed) {
  MadeSamples zeros(8, kImage, [](std::int64_t, std::vector<float>&) {});
  EXPECT_EQ(findings(zeros, kImage), (Ids{"data-duplicates", "data-constant"}));
  MadeSamples levels(8, kImage, [](std::int64_t sample, std::vector<float>& values) {
    values.assign(values.size(), static_cast<float>(sample) / 8);
  });
  EXPECT_EQ(findings(levels, kImage), Ids{"data-constant"});
  MadeSamples twice(20, {1, 4}, [](std::int64_t sample, std::vector<float>& values) {
    const std::int64_t pair = sample / 2;
    values[0] = static_cast<float>(pair);
  });
  EXPECT_EQ(findings(twice, {1, 4}), Ids{"data-duplicates"});
  MadeSamples broken(4, {1, 4}, [](std::int64_t sample, std::vector<float>& values) {
    values[0] = static_cast<float>(sample);
    values[1] = NAN;
  });
  EXPECT_EQ(findings(broken, {1, 4}), Ids{"data-not-finite"});
  // One sample can not differ from others.
  MadeSamples one(1, {1, 4}, [](std::int64_t, std::vector<float>& values) { values[0] = 1; });
  EXPECT_EQ(findings(one, {1, 4}), Ids());
}

TEST(SampleChecks, TwoScalesAreNamed) {
  MadeSamples mixed(8, kImage, [](std::int64_t sample, std::vector<float>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::size_t step = i / 4;
      values[i] = static_cast<float>(step + static_cast<std::size_t>(sample)) / 200.0F *
                  (sample % 2 == 0 ? 1.0F : 200.0F);
    }
  });
  EXPECT_EQ(findings(mixed, kImage), Ids{"data-scale"});
}

// ----------------------------------------------------------------------------------- enough

// A table of the first element of each sample.
Result<CalibrationTable> observe(DataSource& part) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < part.count(); ++i) {
    auto feeds = part.sample(i);
    if (!feeds.ok()) return std::move(feeds).error();
    const std::vector<float> own = read_floats((*feeds)[0].tensor).value();
    values.insert(values.end(), own.begin(), own.end());
  }
  Histogram histogram;
  histogram.add(values);
  CalibrationTable table;
  table.samples = part.count();
  table.data_digests = {part.digest()};
  table.set("x", to_value_stats(histogram));
  return table;
}

TEST(StableRanges, StopsWhereRangesStop) {
  // Always 0 .. 1: the first doubling shows it.
  MadeSamples steady(500, {1, 64}, [](std::int64_t, std::vector<float>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) / 63.0F;
  });
  auto found = calibrate_until_stable(steady, observe, {});
  ASSERT_TRUE(found.ok());
  EXPECT_TRUE(found->stable);
  EXPECT_EQ(found->table.samples, 32);
  ASSERT_EQ(found->steps.size(), 1U);
  EXPECT_EQ(found->steps[0].samples, 32);
  EXPECT_LT(found->steps[0].largest, 1e-5);
  EXPECT_EQ(found->table.data_digests, std::vector<std::uint64_t>{77});
  // Spread evenly: of 512 places, multiples of 16.
  const std::set<std::int64_t> taken(steady.seen.begin(), steady.seen.end());
  EXPECT_EQ(taken.size(), 32U);
  for (const std::int64_t sample : taken) EXPECT_EQ(sample % 16, 0) << sample;
}

TEST(StableRanges, TakesAllWhenRangesGrow) {
  // Every sample reaches further than those before.
  MadeSamples growing(100, {1, 64}, [](std::int64_t sample, std::vector<float>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(i * static_cast<std::size_t>(sample * sample));
    }
  });
  auto found = calibrate_until_stable(growing, observe, {.first = 8, .change = -1});
  ASSERT_TRUE(found.ok());
  EXPECT_FALSE(found->stable);
  EXPECT_EQ(found->table.samples, 100);
  ASSERT_EQ(found->steps.size(), 4U);  // 16, 32, 64, 100
  EXPECT_EQ(found->steps[3].samples, 100);
  EXPECT_EQ(found->steps[3].value, "x");
  const std::set<std::int64_t> taken(growing.seen.begin(), growing.seen.end());
  EXPECT_EQ(taken.size(), 100U);
  // The table is that of all samples at once.
  const auto whole = observe(growing);
  EXPECT_EQ(found->table.find("x")->bins, whole->find("x")->bins);
  EXPECT_EQ(found->table.find("x")->maximum, whole->find("x")->maximum);
}

TEST(StableRanges, KeepsToTheBatchOfTheModel) {
  MadeSamples fixed(
      50, {1, 4},
      [](std::int64_t sample, std::vector<float>& values) {
        values[0] = static_cast<float>(sample);
      },
      6);
  auto found = calibrate_until_stable(fixed, observe, {.first = 16, .change = -1});
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->table.samples, 48);  // 18, 36, 48; two left over
}

TEST(StableRanges, StepsAreSharesOfTheNewWidth) {
  const auto table_of = [](float a, float b) {
    CalibrationTable table;
    for (const auto& [name, top] : {std::pair("a", a), std::pair("b", b)}) {
      Histogram histogram;
      std::vector<float> values(1000);
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = top * static_cast<float>(i) / 999.0F;
      }
      histogram.add(values);
      table.set(name, to_value_stats(histogram));
    }
    return table;
  };
  const RangeStep step = range_step(table_of(1, 4), table_of(2, 4));
  EXPECT_NEAR(step.largest, 0.5, 0.01);
  EXPECT_EQ(step.value, "a");
  EXPECT_EQ(step.median, 0);
  EXPECT_EQ(step.p95, step.largest);
}

}  // namespace
}  // namespace mcompress
