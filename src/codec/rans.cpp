#include "codec/rans.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "codec/kernels.h"

namespace mcompress::codec {
namespace {

constexpr unsigned kFirstBits = 12, kLastBits = 14;
constexpr std::uint32_t kMostFrequency = 4095;  // has to fit beside symbol and offset
constexpr std::uint32_t kStateEnd = kRansLow << 16;
// A table of twice the size decodes a tenth slower: it has to save one byte in so many.
constexpr std::uint64_t kFinerWorth = 2048;
constexpr std::size_t kMostTail = 63;  // rounds, in six bits

// Bits of a frequency below its leading one are written behind its class, their number.
unsigned class_of(std::uint32_t frequency) {
  return static_cast<unsigned>(std::bit_width(frequency));
}

// x -> (x / f) << bits | x % f + start, by multiplication with a rounded-up reciprocal (Alverson
// 1991): exact for x < 2^31.
struct Symbol {
  std::uint64_t reciprocal = 0;
  unsigned shift = 0;
  std::uint32_t start = 0, complement = 0;  // 2^bits - f
  std::uint32_t most = 0;                   // states from here on give a word first
};

// ln(1 + 1/f) in 2^-36, which one more of a frequency saves for each time its value occurs: by the
// series of atanh, so that every machine compares the same numbers.
const std::array<std::uint64_t, kMostFrequency + 1>& gains() {
  static const auto kGains = [] {
    std::array<std::uint64_t, kMostFrequency + 1> list{};
    for (std::uint64_t f = 1; f <= kMostFrequency; ++f) {
      const std::uint64_t odd = 2 * f + 1;
      std::uint64_t power = (std::uint64_t{1} << 60) / odd, sum = 0;
      for (std::uint64_t k = 1; power > 0; k += 2, power /= odd * odd) sum += power / k;
      list[f] = sum >> 23;  // twice the sum
    }
    return list;
  }();
  return kGains;
}

std::uint64_t total_of(const Counts& counts) {
  std::uint64_t total = 0;
  for (const std::uint32_t count : counts) total += count;
  return total;
}

// In 1/65536 bits: of the symbols, and of what the table has behind the classes.
std::uint64_t cost_of(const Counts& counts, const Frequencies& frequencies) {
  std::uint64_t cost = 0;
  for (std::size_t s = 0; s < 256; ++s) {
    if (counts[s] == 0) continue;
    const std::uint32_t scale = (frequencies.bits - kFirstBits) << 16;
    cost += std::uint64_t{counts[s]} * (cost_of_frequency()[frequencies[s]] + scale);
    cost += std::uint64_t{class_of(frequencies[s]) - 1} << 16;
  }
  return cost;
}

std::array<Symbol, 256> entries_of(const Frequencies& frequencies) {
  std::array<Symbol, 256> entries;
  const std::uint32_t scale = 1U << frequencies.bits;
  std::uint32_t start = 0;
  for (std::size_t s = 0; s < 256; ++s) {
    const std::uint32_t f = frequencies[s];
    if (f == 0) continue;
    Symbol& entry = entries[s];
    entry.complement = scale - f;
    entry.most = ((kRansLow >> frequencies.bits) << 16) * f;
    entry.start = start;
    if (f == 1) {
      // x / 1: the high half of x * (2^32 - 1) is x - 1; the start takes the difference back.
      entry.reciprocal = 0xffffffffU;
      entry.start = start + scale - 1;
    } else {
      const unsigned log = static_cast<unsigned>(std::bit_width(f - 1));
      entry.reciprocal = ((std::uint64_t{1} << (log + 31)) + f - 1) / f;
      entry.shift = log - 1;
    }
    start += f;
  }
  return entries;
}

// The last rounds of symbols, one for each state, which the states take in without giving words:
// 15 bits of a state that words would start from are used for them.
class Tail {
 public:
  Tail(Bytes symbols, const Frequencies& frequencies)
      : symbols_(symbols), frequencies_(frequencies) {
    std::uint32_t start = 0;
    for (std::size_t s = 0; s < 256; ++s) {
      starts_[s] = start;
      start += frequencies[s];
    }
    // As many rounds as fit a state even if nothing was in it before.
    const std::size_t most = std::min(symbols.size() / kRansStates, kMostTail);
    std::array<std::uint64_t, kRansStates> empty{};
    std::size_t fit = 0;
    for (bool all = true; all && fit < most;) {
      for (std::size_t k = 0; k < kRansStates; ++k) {
        empty[k] = put(empty[k], symbols[symbols.size() - kRansStates * fit - 1 - k]);
        all = all && empty[k] < kStateEnd;
      }
      if (all) ++fit;
    }
    for (rounds_ = fit; !fill(); --rounds_) {
    }
  }
  std::size_t rounds() const { return rounds_; }
  const std::array<std::uint32_t, kRansStates>& states() const { return states_; }

 private:
  std::uint64_t put(std::uint64_t x, std::uint8_t symbol) const {
    const std::uint64_t f = frequencies_[symbol];
    return (x / f << frequencies_.bits) + x % f + starts_[symbol];
  }
  // The state that begins with x, behind all rounds: no more than 2^46.
  std::uint64_t after(std::uint64_t x, std::size_t place) const {
    for (std::size_t round = 0; round < rounds_ && x < kStateEnd; ++round) {
      x = put(x, symbols_[symbols_.size() - kRansStates * round - 1 - place]);
    }
    return x;
  }
  // Each state begins with the least number that makes it large enough for words. False where one
  // becomes too large.
  bool fill() {
    for (std::size_t place = 0; place < kRansStates; ++place) {
      std::uint64_t low = 0, high = kRansLow;  // `high` is enough: no step makes a state smaller
      while (low < high) {
        const std::uint64_t middle = (low + high) / 2;
        if (after(middle, place) >= kRansLow) {
          high = middle;
        } else {
          low = middle + 1;
        }
      }
      const std::uint64_t x = after(low, place);
      if (x >= kStateEnd) return false;
      const std::size_t state = (symbols_.size() + 2 * kRansStates - 1 - place) % kRansStates;
      states_[state] = static_cast<std::uint32_t>(x);
    }
    return true;
  }

  Bytes symbols_;
  const Frequencies& frequencies_;
  std::array<std::uint32_t, 256> starts_{};
  std::size_t rounds_ = 0;
  std::array<std::uint32_t, kRansStates> states_{};
};

// Reads frequencies and lays out their slots. Empty where they are none.
std::vector<std::uint32_t> read_slots(std::uint8_t first, std::uint8_t last, unsigned bits,
                                      BitReader& in) {
  Classes classes;
  if (!read_classes(first, last, in, classes)) return {};
  const std::uint32_t scale = 1U << bits;
  std::vector<std::uint32_t> slots(scale);
  std::uint32_t start = 0;
  for (std::uint32_t s = 0; s < 256; ++s) {
    if (classes[s] == 0) continue;
    const std::uint32_t f = (1U << (classes[s] - 1)) | in.take(classes[s] - 1U);
    if (in.overrun() || f > kMostFrequency || f > scale - start) return {};
    for (std::uint32_t i = 0; i < f; ++i) slots[start + i] = s << 24 | f << 12 | i;
    start += f;
  }
  if (start != scale) return {};
  return slots;
}

// The words, and behind them the rounds that have none. False where words are too few or too many.
bool decode_words(std::span<const std::uint32_t> slots, unsigned bits, RansState& state,
                  Bytes words, std::size_t tail, std::span<std::uint8_t> out, bool plain) {
  if (words.size() % 2 != 0) return false;
  state.from = words.data();
  state.from_end = words.data() + words.size();
  state.to = out.data();
  state.to_end = out.data() + (out.size() - kRansStates * tail);
  plain ? rans_decode_groups_plain(slots.data(), bits, state)
        : rans_decode_groups(slots.data(), bits, state);
  const std::uint32_t slot = (1U << bits) - 1;
  std::size_t i = 0;
  const auto next = [&](std::uint32_t& x) {
    const std::uint32_t entry = slots[x & slot];
    x = (entry >> 12 & 4095) * (x >> bits) + (entry & 4095);
    *state.to++ = static_cast<std::uint8_t>(entry >> 24);
  };
  for (; state.to != state.to_end; ++i) {
    std::uint32_t& x = state.states[i % kRansStates];
    next(x);
    if (x >= kRansLow) continue;
    if (state.from == state.from_end) return false;
    x = x << 16 | state.from[0] | std::uint32_t{state.from[1]} << 8;
    state.from += 2;
  }
  if (state.from != state.from_end) return false;
  for (const std::uint8_t* end = out.data() + out.size(); state.to != end; ++i) {
    next(state.states[i % kRansStates]);
  }
  return std::ranges::all_of(
      state.states, [tail](std::uint32_t x) { return tail == 0 ? x == kRansLow : x <= kRansLow; });
}

}  // namespace

Frequencies rans_frequencies(const Counts& counts, unsigned bits) {
  const std::uint64_t total = total_of(counts);
  const std::uint32_t scale = 1U << bits;
  // Rare values get more than their share, 1 each, so that the others get less: below what any of
  // them will have in the end.
  const std::uint64_t certain = scale - 296;
  Frequencies frequencies;
  frequencies.bits = bits;
  std::uint32_t given = 0;
  std::vector<std::size_t> heap;
  for (std::size_t s = 0; s < 256; ++s) {
    if (counts[s] == 0) continue;
    const std::uint64_t share = std::uint64_t{counts[s]} * certain / total;
    frequencies.of[s] = static_cast<std::uint16_t>(share == 0 ? 1 : share);
    given += frequencies[s];
    heap.push_back(s);
  }
  // The size is convex in the frequencies, so that the best next step is always part of the best
  // solution.
  const auto less = [&](std::size_t a, std::size_t b) {
    const std::uint64_t left = counts[a] * gains()[frequencies[a]];
    const std::uint64_t right = counts[b] * gains()[frequencies[b]];
    return left != right ? left < right : a > b;
  };
  std::make_heap(heap.begin(), heap.end(), less);
  for (; given < scale; ++given) {
    std::pop_heap(heap.begin(), heap.end(), less);
    if (++frequencies.of[heap.back()] == kMostFrequency) {
      heap.pop_back();
    } else {
      std::push_heap(heap.begin(), heap.end(), less);
    }
  }
  return frequencies;
}

Frequencies rans_frequencies(const Counts& counts) {
  const std::uint64_t total = total_of(counts);
  const std::uint64_t most = *std::max_element(counts.begin(), counts.end());
  Frequencies best = rans_frequencies(counts, kFirstBits);
  std::uint64_t least = cost_of(counts, best);
  for (unsigned bits = kFirstBits + 1; bits <= kLastBits; ++bits) {
    if (most << bits >= total * kMostFrequency) break;
    const Frequencies finer = rans_frequencies(counts, bits);
    const std::uint64_t cost = cost_of(counts, finer);
    if (cost >= least - least / kFinerWorth) break;
    least = cost;
    best = finer;
  }
  return best;
}

std::uint64_t rans_bytes(const Counts& counts, const Frequencies& frequencies) {
  std::uint64_t cost = 0;
  const std::uint32_t scale = (frequencies.bits - kFirstBits) << 16;
  for (std::size_t s = 0; s < 256; ++s) {
    if (counts[s] != 0) {
      cost += std::uint64_t{counts[s]} * (cost_of_frequency()[frequencies[s]] + scale);
    }
  }
  return (cost >> 19) + 1;
}

void rans_encode(Bytes symbols, const Frequencies& frequencies, Buffer& out) {
  const Tail tail(symbols, frequencies);
  out.push_back(static_cast<std::uint8_t>(tail.rounds() << 2 | (frequencies.bits - kFirstBits)));
  Buffer table;
  BitWriter bits(table);
  Classes classes{};
  for (std::size_t s = 0; s < 256; ++s) {
    classes[s] = static_cast<std::uint8_t>(class_of(frequencies[s]));
  }
  write_classes(classes, bits, out);
  for (std::size_t s = 0; s < 256; ++s) {
    if (classes[s] > 1) bits.put(frequencies[s] - (1U << (classes[s] - 1)), classes[s] - 1U);
  }

  // From the last symbol to the first, so that the decoder goes forwards.
  const std::array<Symbol, 256> entries = entries_of(frequencies);
  Buffer words(2 * symbols.size());
  std::uint8_t* to = words.data() + words.size();
  std::array<std::uint32_t, kRansStates> states = tail.states();
  for (std::size_t i = symbols.size() - kRansStates * tail.rounds(); i-- > 0;) {
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
  for (const std::uint32_t x : states) {
    const auto below = static_cast<unsigned>(std::bit_width(x)) - 1;  // 15 to 30
    bits.put(below - 15, 4);
    bits.put(x - (1U << below), below);
  }
  bits.finish();
  out.insert(out.end(), table.begin(), table.end());
  out.insert(out.end(), to, words.data() + words.size());
}

bool rans_decode(Bytes coded, std::span<std::uint8_t> out, bool plain) {
  if (coded.size() < 3) return false;
  const unsigned scale = kFirstBits + (coded[0] & 3U);
  const std::size_t tail = coded[0] >> 2;
  if (scale > kLastBits || kRansStates * tail > out.size()) return false;
  BitReader bits(coded.subspan(3));
  const std::vector<std::uint32_t> slots = read_slots(coded[1], coded[2], scale, bits);
  if (slots.empty()) return false;
  RansState state;
  for (std::uint32_t& x : state.states) {
    const std::uint32_t more = bits.take(4);
    const std::uint32_t low = bits.take(15);
    x = 1U << (15 + more) | bits.take(more) << 15 | low;
  }
  if (bits.overrun() || !bits.padding_is_zero()) return false;
  return decode_words(slots, scale, state,
                      coded.subspan(static_cast<std::size_t>(bits.position() - coded.data())), tail,
                      out, plain);
}

bool rans_decode_full(Bytes coded, std::span<std::uint8_t> out, bool plain) {
  if (coded.size() < 2) return false;
  BitReader bits(coded.subspan(2));
  const std::vector<std::uint32_t> slots = read_slots(coded[0], coded[1], kFirstBits, bits);
  if (slots.empty() || !bits.padding_is_zero()) return false;
  ByteReader rest(coded.subspan(static_cast<std::size_t>(bits.position() - coded.data())));
  RansState state;
  for (std::uint32_t& x : state.states) {
    x = static_cast<std::uint32_t>(rest.le(4));
    if (x < kRansLow || x >= kStateEnd) return false;
  }
  if (rest.failed()) return false;
  return decode_words(slots, kFirstBits, state, rest.take(rest.left()), 0, out, plain);
}

}  // namespace mcompress::codec
