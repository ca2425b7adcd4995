// Calibration data that remember what passes have seen of the inputs of weights: for runs over many
// copies of one model.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "mcompress/forwarding_data.h"

namespace mcompress {

// By digests of all that it depends on. Of one thread at a time.
struct SeenInputs {
  struct Squares {
    std::vector<std::vector<double>> sums;  // of x^2, by input and column
    std::vector<std::int64_t> rows;         // of each input
  };
  std::map<std::uint64_t, Squares> known;
};

// The way of SeenInputs, which outlive this, to a pass.
class RememberingData final : public ForwardingData {
 public:
  RememberingData(DataSource& data, SeenInputs& seen) : ForwardingData(data), seen_(seen) {}
  SeenInputs& seen() const { return seen_; }

 private:
  SeenInputs& seen_;
};

}  // namespace mcompress
