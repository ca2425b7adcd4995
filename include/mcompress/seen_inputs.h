// Calibration data that remember what passes have seen of the inputs of weights: for runs over many
// copies of one model.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "mcompress/calibration.h"

namespace mcompress {

// By digests of all that it depends on. Of one thread at a time.
struct SeenInputs {
  struct Squares {
    std::vector<std::vector<double>> sums;  // of x^2, by input and column
    std::vector<std::int64_t> rows;         // of each input
  };
  std::map<std::uint64_t, Squares> known;
};

// The way of SeenInputs to a pass; everything else is asked of the data inside. Both outlive this.
class RememberingData final : public DataSource {
 public:
  RememberingData(DataSource& data, SeenInputs& seen) : data_(data), seen_(seen) {}
  SeenInputs& seen() const { return seen_; }

  std::int64_t count() const override { return data_.count(); }
  std::uint64_t digest() const override { return data_.digest(); }
  std::string description() const override { return data_.description(); }
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    return data_.batch(first, count);
  }
  bool can_batch() const override { return data_.can_batch(); }
  std::int64_t fixed_batch() const override { return data_.fixed_batch(); }
  const Labels& labels() const override { return data_.labels(); }

 private:
  DataSource& data_;
  SeenInputs& seen_;
};

}  // namespace mcompress
