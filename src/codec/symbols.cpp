#include "codec/symbols.h"

#include <algorithm>

namespace mcompress::codec {
namespace {

// The difference of two classes as a number from 0: 0, 1, -1, 2, -2, ...
unsigned folded(int difference) {
  return difference > 0 ? static_cast<unsigned>(2 * difference - 1)
                        : static_cast<unsigned>(-2 * difference);
}
int unfolded(unsigned number) {
  return number % 2 != 0 ? static_cast<int>(number / 2 + 1) : -static_cast<int>(number / 2);
}

// Classes begin here: the middle of what occurs.
constexpr int kFirstClass = 6;

}  // namespace

Counts count_bytes(Bytes bytes) {
  // Runs of one value would wait for each other in one table.
  std::array<Counts, 4> parts{};
  std::size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    const std::uint64_t eight = load_le64(bytes.data() + i);
    ++parts[0][eight & 255];
    ++parts[1][(eight >> 8) & 255];
    ++parts[2][(eight >> 16) & 255];
    ++parts[3][(eight >> 24) & 255];
    ++parts[0][(eight >> 32) & 255];
    ++parts[1][(eight >> 40) & 255];
    ++parts[2][(eight >> 48) & 255];
    ++parts[3][eight >> 56];
  }
  for (; i < bytes.size(); ++i) ++parts[0][bytes[i]];
  for (std::size_t s = 0; s < 256; ++s) {
    parts[0][s] += parts[1][s] + parts[2][s] + parts[3][s];
  }
  return parts[0];
}

void write_classes(const Classes& classes, BitWriter& bits, Buffer& head) {
  const auto present = [](std::uint8_t value) { return value != 0; };
  const auto first = std::find_if(classes.begin(), classes.end(), present);
  const auto last = std::find_if(classes.rbegin(), classes.rend(), present).base();
  head.push_back(static_cast<std::uint8_t>(first - classes.begin()));
  head.push_back(static_cast<std::uint8_t>(last - classes.begin() - 1));
  const bool dense = std::all_of(first, last, present);
  bits.put(dense ? 1 : 0, 1);
  if (!dense) {
    for (auto at = first; at != last; ++at) bits.put(*at != 0 ? 1 : 0, 1);
  }
  int before = kFirstClass;
  for (auto at = first; at != last; ++at) {
    if (*at == 0) continue;
    const unsigned number = folded(*at - before);
    bits.put((1U << number) - 1, number + 1);  // as many ones, then a zero
    before = *at;
  }
}

bool read_classes(std::uint8_t first, std::uint8_t last, BitReader& bits, Classes& classes) {
  classes.fill(0);
  if (first > last) return false;
  const bool dense = bits.take(1) != 0;
  for (unsigned s = first; s <= last; ++s) classes[s] = dense || bits.take(1) != 0 ? 1 : 0;
  if (classes[first] == 0 || classes[last] == 0) return false;
  int before = kFirstClass;
  for (unsigned s = first; s <= last; ++s) {
    if (classes[s] == 0) continue;
    unsigned number = 0;
    while (bits.take(1) != 0) {
      if (++number > 2 * kMostClass) return false;
    }
    before += unfolded(number);
    if (before < 1 || before > static_cast<int>(kMostClass)) return false;
    classes[s] = static_cast<std::uint8_t>(before);
  }
  return !bits.overrun();
}

const std::array<std::uint32_t, 4097>& cost_of_frequency() {
  static const auto kCosts = [] {
    std::array<std::uint32_t, 4097> costs{};
    for (std::uint32_t f = 1; f <= 4096; ++f) {
      // Bits of log2 f by squaring: mantissa in [1, 2) with 31 bits behind the point.
      unsigned whole = 0;
      while ((f >> (whole + 1)) != 0) ++whole;
      std::uint64_t mantissa = (std::uint64_t{f} << 31) >> whole;
      std::uint32_t fraction = 0;
      for (int bit = 0; bit < 16; ++bit) {
        mantissa = (mantissa * mantissa) >> 31;
        fraction <<= 1;
        if (mantissa >= (std::uint64_t{1} << 32)) {
          fraction |= 1;
          mantissa >>= 1;
        }
      }
      costs[f] = (std::uint32_t{12} << 16) - ((std::uint32_t{whole} << 16) | fraction);
    }
    return costs;
  }();
  return kCosts;
}

}  // namespace mcompress::codec
