#include "codec/adaptive.h"

#include <algorithm>
#include <array>
#include <bit>

namespace mcompress::codec {
namespace {

constexpr std::size_t kInputs = 3;
constexpr unsigned kMostCount = 255;
constexpr std::int32_t kFirstShare = 28672;  // of an input: 7/16
constexpr int kReach = 2047;                 // of a logarithm of odds, in 1/256

// 65536 / (1 + exp(-x)) for x = -8, -7.5, ... 8.
constexpr std::array<std::int32_t, 33> kLogistic{
    22,    36,    60,    98,    162,   267,   439,   720,   1179,  1921,  3108,
    4971,  7812,  11955, 17625, 24743, 32768, 40793, 47911, 53581, 57724, 60565,
    62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514};

// Odds as a probability in 1/65536.
std::int32_t squash(std::int32_t odds) {
  odds = std::clamp(odds, -kReach, kReach) + 2048;
  const auto at = static_cast<std::size_t>(odds) >> 7;
  const std::int32_t part = odds & 127;
  return (kLogistic[at] * (128 - part) + kLogistic[at + 1] * part + 64) >> 7;
}

// The least odds whose probability, in 1/4096, is at least that of the place.
const std::array<std::int16_t, 4096>& stretches() {
  static const auto kTable = [] {
    std::array<std::int16_t, 4096> table{};
    std::int32_t odds = -kReach;
    for (std::size_t p = 0; p < table.size(); ++p) {
      while (odds < kReach && squash(odds) < static_cast<std::int32_t>(p << 4)) ++odds;
      table[p] = static_cast<std::int16_t>(odds);
    }
    return table;
  }();
  return kTable;
}

// What a bit was so often in one place.
struct Slot {
  std::uint16_t one = 32768;  // probability of a 1, in 1/65536
  std::uint16_t seen = 0;
};

// The probability of the next bit, and what is learnt from it.
class BitModel {
 public:
  explicit BitModel(unsigned bits)
      : bits_(bits), slots_(std::size_t{19} << bits), stretch_(stretches()) {
    shares_.fill(kFirstShare);
    for (unsigned n = 0; n <= kMostCount; ++n) step_[n] = 131072U / (2 * n + 3);
  }

  // Contexts: none, the symbol before (its upper four bits), the place modulo 2.
  void begin_symbol() {
    const std::size_t near = bits_ > 4 ? before_ >> (bits_ - 4) : before_;
    from_ = {slots_.data(), slots_.data() + ((3 + near) << bits_),
             slots_.data() + ((1 + place_ % 2) << bits_)};
    node_ = 1;
  }
  void end_symbol() {
    before_ = node_ - (std::size_t{1} << bits_);
    ++place_;
  }
  std::uint8_t symbol() const { return static_cast<std::uint8_t>(before_); }

  // Of a 1, in 1/65536; `bit` counts from the lowest.
  std::uint32_t probability(unsigned bit) {
    std::int32_t* const shares = shares_.data() + bit * kInputs;
    std::int64_t odds = 0;
    for (std::size_t m = 0; m < kInputs; ++m) {
      odds_[m] = stretch_[from_[m][node_].one >> 4];
      odds += std::int64_t{odds_[m]} * shares[m];
    }
    mixed_ = squash(static_cast<std::int32_t>(std::clamp<std::int64_t>(odds >> 16, -4096, 4096)));
    return static_cast<std::uint32_t>(mixed_);
  }
  void learn(unsigned bit, unsigned value) {
    std::int32_t* const shares = shares_.data() + bit * kInputs;
    const std::int32_t error = static_cast<std::int32_t>(value << 16) - mixed_;
    for (std::size_t m = 0; m < kInputs; ++m) {
      shares[m] = std::clamp(shares[m] + ((odds_[m] * error + 8192) >> 14), -(1 << 20), 1 << 20);
      Slot& slot = from_[m][node_];
      const std::int32_t target = value != 0 ? 65535 : 0;
      const std::int64_t off = target - std::int32_t{slot.one};
      slot.one = static_cast<std::uint16_t>(slot.one + ((off * step_[slot.seen]) >> 16));
      slot.seen = static_cast<std::uint16_t>(std::min<unsigned>(kMostCount, slot.seen + 1U));
    }
    node_ = 2 * node_ + value;
  }

 private:
  unsigned bits_;
  std::vector<Slot> slots_;
  const std::array<std::int16_t, 4096>& stretch_;
  std::array<std::uint32_t, kMostCount + 1> step_{};
  std::array<std::int32_t, 8 * kInputs> shares_{};  // in 1/65536, by bit
  std::array<Slot*, kInputs> from_{};
  std::array<std::int32_t, kInputs> odds_{};
  std::int32_t mixed_ = 0;
  std::size_t node_ = 1, before_ = 0, place_ = 0;
};

// What is left of the numbers from 0 to 2^32 - 1.
struct Interval {
  std::uint32_t low = 0, high = 0xffffffffU;

  // The last number of the part for a 1, which is the lower one.
  std::uint32_t split(std::uint32_t probability) const {
    return low + static_cast<std::uint32_t>((std::uint64_t{high - low} * probability) >> 16);
  }
  void take(unsigned bit, std::uint32_t middle) {
    if (bit != 0) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  bool known() const { return ((low ^ high) >> 24) == 0; }
  void shift() { low <<= 8, high = high << 8 | 255; }
  // The number in it that has most bytes of 0 at its end, the least of those.
  std::uint32_t last() const {
    std::uint32_t value = low;
    for (unsigned bits = 8; bits < 32; bits += 8) {
      const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
      const std::uint64_t rounded = (std::uint64_t{low} + mask) & ~mask;
      if (rounded > high) break;
      value = static_cast<std::uint32_t>(rounded);
    }
    return value;
  }
};

}  // namespace

std::optional<Buffer> adaptive_encode(Bytes symbols, std::size_t most) {
  const unsigned bits = static_cast<unsigned>(std::bit_width(*std::ranges::max_element(symbols)));
  Buffer out{static_cast<std::uint8_t>(bits)};
  BitModel model(bits);
  Interval interval;
  for (const std::uint8_t symbol : symbols) {
    if (out.size() > most) return std::nullopt;
    model.begin_symbol();
    for (unsigned bit = bits; bit-- > 0;) {
      const unsigned value = symbol >> bit & 1U;
      interval.take(value, interval.split(model.probability(bit)));
      model.learn(bit, value);
      for (; interval.known(); interval.shift()) {
        out.push_back(static_cast<std::uint8_t>(interval.high >> 24));
      }
    }
    model.end_symbol();
  }
  for (std::uint32_t value = interval.last(); value != 0; value <<= 8) {
    out.push_back(static_cast<std::uint8_t>(value >> 24));
  }
  while (out.size() > 1 && out.back() == 0) out.pop_back();
  if (out.size() > most) return std::nullopt;
  return out;
}

bool adaptive_decode(Bytes coded, std::span<std::uint8_t> out) {
  if (coded.empty() || out.size() > kMostAdaptive) return false;
  const unsigned bits = coded[0];
  if (bits == 0 || bits > 8 || (coded.size() > 1 && coded.back() == 0)) return false;
  std::size_t at = 1;
  const auto next = [&] { return at < coded.size() ? coded[at++] : std::uint8_t{0}; };
  std::uint32_t number = 0;
  for (int i = 0; i < 4; ++i) number = number << 8 | next();
  BitModel model(bits);
  Interval interval;
  std::uint8_t seen = 0;
  for (std::uint8_t& symbol : out) {
    model.begin_symbol();
    for (unsigned bit = bits; bit-- > 0;) {
      const std::uint32_t middle = interval.split(model.probability(bit));
      const unsigned value = number <= middle ? 1 : 0;
      interval.take(value, middle);
      model.learn(bit, value);
      for (; interval.known(); interval.shift()) number = number << 8 | next();
    }
    model.end_symbol();
    symbol = model.symbol();
    seen |= symbol;
  }
  return at == coded.size() && number == interval.last() &&
         std::bit_width(seen) == static_cast<int>(bits);
}

}  // namespace mcompress::codec
