// Sparse symbols as what is not zero and how far it stands from the last one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace mcompress {

// The symbols other than `zero`, and how many zeros stand before each: one after 254 zeros is
// coded even where it is zero itself.
inline constexpr std::size_t kLongestGap = 254;
struct Gaps {
  std::vector<std::uint8_t> skipped, symbols;
};
Gaps gaps_of(std::span<const std::uint8_t> symbols, std::uint8_t zero);

// Both in one symbol, so that a code of whole bits loses less:
//   symbol = value * longest + (step - 1), step 1 ... longest from one place to the next.
// `values` holds the symbols other than zero, and zero last: a value of its own for the end of
// `longest` zeros.
struct JointGaps {
  std::vector<std::uint8_t> symbols;
  std::vector<std::uint8_t> values;
  std::size_t longest = 0;
};
// Empty: there are so many values that steps would be shorter than 4.
std::optional<JointGaps> joint_gaps_of(std::span<const std::uint8_t> symbols, std::uint8_t zero);

}  // namespace mcompress
