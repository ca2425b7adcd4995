#include "codec/rans.h"

#include <algorithm>
#include <bit>

#include "codec/kernels.h"

namespace mcompress::codec {
namespace {

constexpr unsigned kScaleBits = 12;
constexpr std::uint32_t kScale = 1U << kScaleBits;

// Bits of a frequency below its leading one are written behind its class, their number.
unsigned class_of(std::uint32_t frequency) {
  return static_cast<unsigned>(std::bit_width(frequency));
}

// x -> (x / f) << 12 | x % f + start, by multiplication with a rounded-up reciprocal (Alverson
// 1991): exact for x < 2^31.
struct Symbol {
  std::uint64_t reciprocal = 0;
  unsigned shift = 0;
  std::uint32_t start = 0, complement = 0;  // 4096 - f
  std::uint32_t most = 0;                   // states from here on give a word first
};

}  // namespace

Frequencies rans_frequencies(const Counts& counts) {
  std::uint64_t total = 0;
  for (const std::uint32_t count : counts) total += count;
  // Rare values get more than their share, 1 each, so that the others get less: below what any of
  // them will have in the end.
  constexpr std::uint64_t kCertain = 3800;
  Frequencies frequencies{};
  std::uint32_t given = 0;
  std::vector<std::size_t> heap;
  for (std::size_t s = 0; s < 256; ++s) {
    if (counts[s] == 0) continue;
    const std::uint64_t share = std::uint64_t{counts[s]} * kCertain / total;
    frequencies[s] = static_cast<std::uint16_t>(share == 0 ? 1 : share);
    given += frequencies[s];
    heap.push_back(s);
  }
  // The size is convex in the frequencies, so that the best next step is always part of the best
  // solution. One more of a frequency f saves count * ln(1 + 1/f), very nearly count / (f + 1/2):
  // compared as fractions, the same on every machine.
  const auto less = [&](std::size_t a, std::size_t b) {
    const std::uint64_t left = std::uint64_t{counts[a]} * (2U * frequencies[b] + 1);
    const std::uint64_t right = std::uint64_t{counts[b]} * (2U * frequencies[a] + 1);
    return left != right ? left < right : a > b;
  };
  std::make_heap(heap.begin(), heap.end(), less);
  for (; given < kScale; ++given) {
    std::pop_heap(heap.begin(), heap.end(), less);
    ++frequencies[heap.back()];
    std::push_heap(heap.begin(), heap.end(), less);
  }
  return frequencies;
}

std::uint64_t rans_bytes(const Counts& counts, const Frequencies& frequencies) {
  std::uint64_t cost = 0;
  for (std::size_t s = 0; s < 256; ++s) {
    if (counts[s] != 0) cost += std::uint64_t{counts[s]} * cost_of_frequency()[frequencies[s]];
  }
  return (cost >> 19) + 1;
}

void rans_encode(Bytes symbols, const Frequencies& frequencies, Buffer& out) {
  Buffer table;
  BitWriter bits(table);
  Classes classes{};
  for (std::size_t s = 0; s < 256; ++s) {
    classes[s] = static_cast<std::uint8_t>(class_of(frequencies[s]));
  }
  write_classes(classes, bits, out);
  std::array<Symbol, 256> entries;
  std::uint32_t start = 0;
  for (std::size_t s = 0; s < 256; ++s) {
    const std::uint32_t f = frequencies[s];
    if (f == 0) continue;
    if (classes[s] > 1) bits.put(f - (1U << (classes[s] - 1)), classes[s] - 1U);
    Symbol& entry = entries[s];
    entry.complement = kScale - f;
    entry.most = ((kRansLow >> kScaleBits) << 16) * f;
    entry.start = start;
    if (f == 1) {
      // x / 1: the high half of x * (2^32 - 1) is x - 1; the start takes the difference back.
      entry.reciprocal = 0xffffffffU;
      entry.start = start + kScale - 1;
    } else {
      const unsigned log = static_cast<unsigned>(std::bit_width(f - 1));
      entry.reciprocal = ((std::uint64_t{1} << (log + 31)) + f - 1) / f;
      entry.shift = log - 1;
    }
    start += f;
  }
  bits.finish();
  out.insert(out.end(), table.begin(), table.end());

  // From the last symbol to the first, so that the decoder goes forwards.
  Buffer words(2 * symbols.size());
  std::uint8_t* to = words.data() + words.size();
  std::array<std::uint32_t, kRansStates> states;
  states.fill(kRansLow);
  for (std::size_t i = symbols.size(); i-- > 0;) {
    std::uint32_t& x = states[i % kRansStates];
    const Symbol& entry = entries[symbols[i]];
    if (x >= entry.most) {
      to -= 2;
      to[0] = static_cast<std::uint8_t>(x);
      to[1] = static_cast<std::uint8_t>(x >> 8);
      x >>= 16;
    }
    const auto quotient = static_cast<std::uint32_t>((x * entry.reciprocal) >> 32) >> entry.shift;
    x += entry.start + quotient * entry.complement;
  }
  for (const std::uint32_t x : states) put_le(out, x, 4);
  out.insert(out.end(), to, words.data() + words.size());
}

bool rans_decode(Bytes coded, std::span<std::uint8_t> out, bool plain) {
  if (coded.size() < 2) return false;
  BitReader bits(coded.subspan(2));
  Classes classes;
  if (!read_classes(coded[0], coded[1], bits, classes)) return false;
  std::vector<std::uint32_t> slots(kScale);
  std::uint32_t start = 0;
  for (std::uint32_t s = 0; s < 256; ++s) {
    if (classes[s] == 0) continue;
    if (classes[s] > kScaleBits) return false;
    const std::uint32_t f = (1U << (classes[s] - 1)) | bits.take(classes[s] - 1U);
    if (bits.overrun() || f > kScale - start) return false;
    for (std::uint32_t i = 0; i < f; ++i) slots[start + i] = s << 24 | f << 12 | i;
    start += f;
  }
  if (start != kScale || !bits.padding_is_zero()) return false;
  ByteReader rest(coded.subspan(static_cast<std::size_t>(bits.position() - coded.data())));
  RansState state;
  for (std::uint32_t& x : state.states) {
    x = static_cast<std::uint32_t>(rest.le(4));
    if (x < kRansLow || x >= kRansLow << 16) return false;
  }
  if (rest.failed() || rest.left() % 2 != 0) return false;
  const Bytes words = rest.take(rest.left());
  state.from = words.data();
  state.from_end = words.data() + words.size();
  state.to = out.data();
  state.to_end = out.data() + out.size();
  plain ? rans_decode_groups_plain(slots.data(), state) : rans_decode_groups(slots.data(), state);
  for (std::size_t i = 0; state.to != state.to_end; ++i) {
    std::uint32_t& x = state.states[i % kRansStates];
    const std::uint32_t entry = slots[x & (kScale - 1)];
    x = (entry >> 12 & (kScale - 1)) * (x >> kScaleBits) + (entry & (kScale - 1));
    if (x < kRansLow) {
      if (state.from == state.from_end) return false;
      x = x << 16 | state.from[0] | std::uint32_t{state.from[1]} << 8;
      state.from += 2;
    }
    *state.to++ = static_cast<std::uint8_t>(entry >> 24);
  }
  if (state.from != state.from_end) return false;
  for (const std::uint32_t x : state.states) {
    if (x != kRansLow) return false;
  }
  return true;
}

}  // namespace mcompress::codec
