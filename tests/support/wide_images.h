// A network whose values are large, and images for it: what tests of memory run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mcompress/data.h"
#include "mcompress/tensor.h"

namespace mcompress::testing {

// Six convolutions of 16 channels in a row, for images [n, 4, h, w]: each value takes 64 bytes a
// pixel.
inline std::string wide_model() {
  std::string text = R"(<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 4, h, w] x) => (float[n, 16, h, w] y5) <float[16, 4, 1, 1] w0 = {)";
  for (int i = 0; i < 64; ++i) {
    text += (i > 0 ? ", 0." : "0.") + std::to_string((i * 7 + i / 5) % 23 + 1);
  }
  text += "}, float[16, 16, 1, 1] w = {";
  for (int i = 0; i < 256; ++i) {
    text += (i > 0 ? ", " : "") + std::string((i * 11 + i / 7) % 3 == 0 ? "-0." : "0.") +
            std::to_string((i * 13 + i / 3) % 29 + 1);
  }
  text += "}> {\n";
  for (int i = 0; i < 6; ++i) {
    const std::string in = i == 0 ? "x, w0" : "y" + std::to_string(i - 1) + ", w";
    const std::string number = std::to_string(i);
    text += "c" + number + " = Conv (" + in + ")\ny" + number + " = Relu(c" + number + ")\n";
  }
  return text + "}";
}

// `count` images of side x side, all different.
class Waves final : public DataSource {
 public:
  Waves(std::int64_t side, std::int64_t count) : side_(side), count_(count) {}
  std::int64_t count() const override { return count_; }
  std::uint64_t digest() const override { return 1; }
  std::string description() const override { return "waves"; }
  bool can_batch() const override { return true; }
  const Labels& labels() const override { return labels_; }
  Result<std::vector<NamedTensor>> batch(std::int64_t first, std::int64_t count) override {
    std::vector<float> values(static_cast<std::size_t>(count * 4 * side_ * side_));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] =
          static_cast<float>((i * 37 + static_cast<std::size_t>(first) * 11) % 251) / 250.0F;
    }
    return std::vector<NamedTensor>{{"x", make_float_tensor(values, {count, 4, side_, side_})}};
  }

 private:
  std::int64_t side_, count_;
  Labels labels_;
};

}  // namespace mcompress::testing
