// Linear prediction of bytes from a few before them, which may stand a row or more back.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "codec/bits.h"

namespace mcompress::codec {

inline constexpr std::size_t kMostTaps = 4;
inline constexpr std::size_t kMostLag = 65535;
inline constexpr int kTapBits = 6;  // coefficients are multiples of 1/64

struct Tap {
  std::uint32_t lag = 1;        // 1 to kMostLag
  std::int8_t coefficient = 0;  // times 1/64, not 0
};
// Byte i stands for the number s[i] = (byte - centre) taken as signed; predicted as
// floor((sum of coefficient * s[i - lag] + 32) / 64), numbers in front of the first one being 0.
struct Predictor {
  std::uint8_t centre = 0;
  std::vector<Tap> taps;
};

// The taps that leave least variance, one after the other, among the lags with the strongest
// correlation; empty when none of them gains a tenth of a percent of a byte.
std::optional<Predictor> find_predictor(Bytes bytes);

// s[i] less what is predicted, modulo 256.
Buffer predicted_away(Bytes bytes, const Predictor& predictor);
// Back, in place.
void predict_back(std::span<std::uint8_t> bytes, const Predictor& predictor);

}  // namespace mcompress::codec
