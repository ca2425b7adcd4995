#include "passes/common/sample_split.h"

#include <algorithm>

namespace mcompress {

SampleSplit::SampleSplit(const DataSource& data, std::int64_t samples)
    : step_(std::max<std::int64_t>(data.fixed_batch(), 1)),
      total_(data.count() / step_),
      count_(std::min(samples, total_)) {}

std::vector<std::int64_t> SampleSplit::judging(std::int64_t most) const {
  std::vector<std::int64_t> places;
  for (std::int64_t place = 0; place < count_; ++place) {
    if (count_ < kEach || judges(place)) places.push_back(place);
  }
  const auto all = static_cast<std::int64_t>(places.size());
  const std::int64_t taken = std::min(most, all);
  std::vector<std::int64_t> samples;
  for (std::int64_t i = 0; i < taken; ++i) {
    samples.push_back(sample(places[static_cast<std::size_t>(i * all / taken)]));
  }
  return samples;
}

}  // namespace mcompress
