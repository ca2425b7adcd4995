#include "codec/huffman.h"

#include <algorithm>
#include <bit>

#include "codec/code_lengths.h"
#include "codec/kernels.h"

namespace mcompress::codec {
namespace {

constexpr std::size_t kStreams = 4;

std::size_t begin_of(std::size_t stream, std::size_t count) {
  return std::min(count, stream * ((count + kStreams - 1) / kStreams));
}

std::uint32_t reversed(std::uint32_t code, unsigned bits) {
  std::uint32_t out = 0;
  for (unsigned i = 0; i < bits; ++i) out |= ((code >> i) & 1) << (bits - 1 - i);
  return out;
}

// Codes as they stand in a stream, the first bit lowest: shorter codes first, then smaller values.
std::array<std::uint16_t, 256> codes_of(const Classes& lengths) {
  std::array<std::uint32_t, kMostHuffmanBits + 2> next{}, used{};
  for (const std::uint8_t length : lengths) ++used[length];
  used[0] = 0;
  for (unsigned length = 1; length <= kMostHuffmanBits; ++length) {
    next[length + 1] = (next[length] + used[length]) << 1;
  }
  std::array<std::uint16_t, 256> codes{};
  for (std::size_t s = 0; s < 256; ++s) {
    if (lengths[s] == 0) continue;
    codes[s] = static_cast<std::uint16_t>(reversed(next[lengths[s]]++, lengths[s]));
  }
  return codes;
}

bool is_complete(const Classes& lengths) {
  std::uint32_t sum = 0;
  for (const std::uint8_t length : lengths) {
    if (length != 0) sum += 1U << (kMostHuffmanBits - length);
  }
  return sum == 1U << kMostHuffmanBits;
}

// One stream behind the fast loop, or from its start: bounded, one symbol a step.
bool finish_stream(const std::uint16_t* table, unsigned table_bits, BitReader& bits,
                   std::uint8_t* out, const std::uint8_t* end) {
  while (out != end) {
    const std::uint16_t entry = table[bits.peek(table_bits)];
    bits.skip(entry >> 8);
    *out++ = static_cast<std::uint8_t>(entry);
  }
  return !bits.overrun() && bits.at_end() && bits.padding_is_zero();
}

// A stream that is being written: bits that do not fill a byte yet wait.
struct StreamWriter {
  const std::uint8_t* from = nullptr;
  const std::uint8_t* end = nullptr;
  std::uint8_t* start = nullptr;
  std::uint8_t* to = nullptr;
  std::uint64_t bits = 0;
  unsigned filled = 0;

  void add(std::uint32_t entry) {
    bits |= std::uint64_t{entry >> 8} << filled;
    filled += entry & 255;
  }
  void flush() {
    store_le64(to, bits);
    to += filled >> 3;
    bits >>= filled & ~7U;
    filled &= 7;
  }
  std::size_t size() const { return static_cast<std::size_t>(to - start); }
};

// `steps` times as many symbols of each stream.
template <int kSymbols>
void write_side_by_side(std::array<StreamWriter, kStreams>& streams, std::size_t steps,
                        const std::array<std::uint32_t, 256>& entries) {
  StreamWriter a = streams[0], b = streams[1], c = streams[2], d = streams[3];
  for (std::size_t step = 0; step < steps; ++step) {
    for (int i = 0; i < kSymbols; ++i) {
      a.add(entries[*a.from++]);
      b.add(entries[*b.from++]);
      c.add(entries[*c.from++]);
      d.add(entries[*d.from++]);
    }
    a.flush(), b.flush(), c.flush(), d.flush();
  }
  streams = {a, b, c, d};
}

}  // namespace

Classes huffman_lengths(const Counts& counts, unsigned limit) {
  const std::array<std::uint64_t, 256> wide = [&] {
    std::array<std::uint64_t, 256> out{};
    std::copy(counts.begin(), counts.end(), out.begin());
    return out;
  }();
  const std::vector<std::uint8_t> found = code_lengths(wide, limit);
  Classes lengths{};
  std::copy(found.begin(), found.end(), lengths.begin());
  return lengths;
}

std::uint64_t huffman_bits(const Counts& counts, const Classes& lengths) {
  std::uint64_t bits = 0;
  for (std::size_t s = 0; s < 256; ++s) bits += std::uint64_t{counts[s]} * lengths[s];
  return bits;
}

void huffman_encode(Bytes symbols, const Classes& lengths, Buffer& out) {
  {
    Buffer table;
    BitWriter bits(table);
    write_classes(lengths, bits, out);
    bits.finish();
    out.insert(out.end(), table.begin(), table.end());
  }
  const std::array<std::uint16_t, 256> codes = codes_of(lengths);
  std::array<std::uint32_t, 256> entries{};
  for (std::size_t s = 0; s < 256; ++s) {
    entries[s] = std::uint32_t{codes[s]} << 8 | lengths[s];
  }
  const bool short_codes = *std::max_element(lengths.begin(), lengths.end()) <= kFastHuffmanBits;
  // Codes have 15 bits at most, and a store writes 8 bytes.
  const std::size_t most = (symbols.size() + kStreams - 1) / kStreams * 2 + 16;
  // Kept by the thread: fresh pages cost more than the code itself.
  thread_local Buffer room;
  if (room.size() < kStreams * most) room.resize(kStreams * most);
  std::array<StreamWriter, kStreams> streams;
  std::size_t shortest = symbols.size();
  for (std::size_t k = 0; k < kStreams; ++k) {
    const std::size_t begin = begin_of(k, symbols.size()), end = begin_of(k + 1, symbols.size());
    streams[k].from = symbols.data() + begin;
    streams[k].end = symbols.data() + end;
    streams[k].start = streams[k].to = room.data() + k * most;
    shortest = std::min(shortest, end - begin);
  }
  // Side by side: no stream waits for its own last step. Four codes of 12 bits, or three of 15, and
  // up to 7 bits that wait fit into 64.
  if (short_codes) {
    write_side_by_side<4>(streams, shortest / 4, entries);
  } else {
    write_side_by_side<3>(streams, shortest / 3, entries);
  }
  for (StreamWriter& stream : streams) {
    while (stream.from != stream.end) {
      stream.add(entries[*stream.from++]);
      stream.flush();
    }
    if (stream.filled > 0) *stream.to++ = static_cast<std::uint8_t>(stream.bits);
  }
  std::size_t total = 0;
  for (const StreamWriter& stream : streams) total += stream.size() + 4;
  out.reserve(out.size() + total);
  for (std::size_t k = 0; k + 1 < kStreams; ++k) put_number(out, streams[k].size());
  for (const StreamWriter& stream : streams) {
    out.insert(out.end(), stream.start, stream.to);
  }
}

bool huffman_decode(Bytes coded, std::span<std::uint8_t> out) {
  if (coded.size() < 2) return false;
  BitReader table_bits_reader(coded.subspan(2));
  Classes lengths;
  if (!read_classes(coded[0], coded[1], table_bits_reader, lengths)) return false;
  if (!table_bits_reader.padding_is_zero() || !is_complete(lengths)) return false;
  const unsigned longest = *std::max_element(lengths.begin(), lengths.end());
  ByteReader rest(
      coded.subspan(static_cast<std::size_t>(table_bits_reader.position() - coded.data())));
  std::array<std::uint64_t, kStreams> sizes{};
  for (std::size_t k = 0; k + 1 < kStreams; ++k) sizes[k] = rest.number();
  std::array<Bytes, kStreams> streams;
  for (std::size_t k = 0; k + 1 < kStreams; ++k) streams[k] = rest.take(sizes[k]);
  if (rest.failed()) return false;
  streams[kStreams - 1] = rest.take(rest.left());

  // A lookup of as many bits as the longest code, but for the fast loop's least: the symbol below,
  // its length above.
  const unsigned looked_up = std::max(longest, 8U);
  std::vector<std::uint16_t> table(std::size_t{1} << looked_up);
  const std::array<std::uint16_t, 256> codes = codes_of(lengths);
  for (std::size_t s = 0; s < 256; ++s) {
    const unsigned length = lengths[s];
    if (length == 0) continue;
    const auto entry = static_cast<std::uint16_t>(length << 8 | s);
    for (std::size_t at = codes[s]; at < table.size(); at += std::size_t{1} << length) {
      table[at] = entry;
    }
  }
  HuffmanLanes lanes;
  for (std::size_t k = 0; k < kStreams; ++k) {
    lanes.from[k] = streams[k].data();
    lanes.from_end[k] = streams[k].data() + streams[k].size();
    lanes.to[k] = out.data() + begin_of(k, out.size());
    lanes.to_end[k] = out.data() + begin_of(k + 1, out.size());
  }
  constexpr std::size_t kWorthTwo = 4096;
  if (longest <= kFastHuffmanBits && out.size() >= kWorthTwo) {
    // Two symbols where both fit into a lookup: its upper bits are zeros after a shift, so that the
    // second one counts only if all of its bits were there.
    std::vector<std::uint32_t> pairs(table.size());
    for (std::size_t at = 0; at < table.size(); ++at) {
      const unsigned first = table[at] >> 8;
      const std::uint16_t second = table[at >> first];
      const unsigned both = first + (second >> 8);
      const bool two = both <= looked_up;
      pairs[at] = (table[at] & 255U) | (two ? (second & 255U) << 8 : 0U) |
                  (two ? both : first) << 16 | (two ? 2U : 1U) << 24;
    }
    huffman_decode_pairs(pairs.data(), looked_up, lanes);
  }
  for (std::size_t k = 0; k < kStreams; ++k) {
    const auto left = static_cast<std::size_t>(lanes.from_end[k] - lanes.from[k]);
    BitReader bits(Bytes(lanes.from[k], left));
    if (lanes.taken[k] > 0) (void)bits.take(lanes.taken[k]);
    if (!finish_stream(table.data(), looked_up, bits, lanes.to[k], lanes.to_end[k])) return false;
  }
  return true;
}

}  // namespace mcompress::codec
