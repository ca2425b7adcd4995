// The base of calibration data that lie around other data and add something of their own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mcompress/calibration.h"

namespace mcompress {

// Asks the data inside, which outlive this, everything.
class ForwardingData : public DataSource {
 public:
  explicit ForwardingData(DataSource& data) : data_(data) {}

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
};

}  // namespace mcompress
