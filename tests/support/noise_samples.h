// Seeded inputs, and how far the outputs of two models are apart on others of the kind.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "mcompress/mcompress.h"

namespace mcompress::testing {

// Seeded inputs x of one shape, a sample each.
class NoiseSamples final : public DataSource {
 public:
  explicit NoiseSamples(std::vector<std::int64_t> dims) : dims_(std::move(dims)) {}
  std::int64_t count() const override { return 12; }
  std::uint64_t digest() const override { return 1; }
  std::string description() const override { return "noise"; }
  bool can_batch() const override { return false; }
  const Labels& labels() const override { return labels_; }
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t /*count*/) override {
    std::mt19937 random(static_cast<unsigned>(first + 1));
    std::int64_t elements = 1;
    for (const std::int64_t dim : dims_) elements *= dim;
    std::vector<float> values;
    for (std::int64_t i = 0; i < elements; ++i) {
      values.push_back(static_cast<float>(random() % 2000) / 1000.0F - 1.0F);
    }
    std::vector<NamedTensor> feeds;
    feeds.push_back({"x", make_float_tensor(values, dims_)});
    return feeds;
  }

 private:
  std::vector<std::int64_t> dims_;
  Labels labels_;
};

// Error of the outputs y on samples that NoiseSamples does not count, as a share of their energy.
inline double error_on_new_samples(const Model& before, const Model& after,
                                   std::vector<std::int64_t> dims) {
  const auto runtime = *find_runtime("onnxruntime");
  const auto old_session = *runtime->open(before, {}), new_session = *runtime->open(after, {});
  NoiseSamples data(std::move(dims));
  double lost = 0, all = 0;
  for (std::int64_t sample = 100; sample < 120; ++sample) {
    const auto feeds = *data.batch(sample, 1);
    const std::vector<std::string> fetch = {"y"};
    const auto was = read_floats((*old_session->run(feeds, fetch))[0]).value();
    const auto now = read_floats((*new_session->run(feeds, fetch))[0]).value();
    for (std::size_t i = 0; i < was.size(); ++i) {
      lost += (was[i] - now[i]) * (was[i] - now[i]), all += was[i] * was[i];
    }
  }
  return lost / all;
}

}  // namespace mcompress::testing
