#include "passes/common/symbols/gap_symbols.h"

#include <array>

namespace mcompress {

Gaps gaps_of(std::span<const std::uint8_t> symbols, std::uint8_t zero) {
  Gaps gaps;
  std::size_t next = 0;
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    if (symbols[i] == zero && i - next < kLongestGap) continue;
    gaps.skipped.push_back(static_cast<std::uint8_t>(i - next));
    gaps.symbols.push_back(symbols[i]);
    next = i + 1;
  }
  return gaps;
}

std::optional<JointGaps> joint_gaps_of(std::span<const std::uint8_t> symbols, std::uint8_t zero) {
  constexpr std::size_t kShortest = 4, kAlphabet = 256;
  std::array<bool, kAlphabet> seen{};
  for (const std::uint8_t s : symbols) seen[s] = true;
  JointGaps joint;
  std::array<std::uint8_t, kAlphabet> value{};
  for (std::size_t s = 0; s < kAlphabet; ++s) {
    if (!seen[s] || s == zero) continue;
    value[s] = static_cast<std::uint8_t>(joint.values.size());
    joint.values.push_back(static_cast<std::uint8_t>(s));
  }
  value[zero] = static_cast<std::uint8_t>(joint.values.size());
  joint.values.push_back(zero);
  joint.longest = kAlphabet / joint.values.size();
  if (joint.longest < kShortest) return std::nullopt;
  std::size_t step = 0;
  for (const std::uint8_t s : symbols) {
    ++step;
    if (s == zero && step < joint.longest) continue;
    joint.symbols.push_back(static_cast<std::uint8_t>(value[s] * joint.longest + step - 1));
    step = 0;
  }
  return joint;
}

}  // namespace mcompress
