// Bounded readers and writers: bits from the least significant on, little-endian numbers, and
// variable-length numbers of seven bits a byte. Readers never pass their end: they return zeros
// and remember it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace mcompress::codec {

using Bytes = std::span<const std::uint8_t>;
using Buffer = std::vector<std::uint8_t>;

// Loads and stores as on a little-endian machine; compilers turn them into one instruction.
inline std::uint64_t load_le(const std::uint8_t* from, std::size_t bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i) value |= std::uint64_t{from[i]} << (8 * i);
  return value;
}
inline std::uint64_t load_le64(const std::uint8_t* p) {
  return std::uint64_t{p[0]} | std::uint64_t{p[1]} << 8 | std::uint64_t{p[2]} << 16 |
         std::uint64_t{p[3]} << 24 | std::uint64_t{p[4]} << 32 | std::uint64_t{p[5]} << 40 |
         std::uint64_t{p[6]} << 48 | std::uint64_t{p[7]} << 56;
}
inline void store_le64(std::uint8_t* to, std::uint64_t v) {
  if constexpr (std::endian::native == std::endian::little) {
    std::memcpy(to, &v, sizeof v);
    return;
  }
  for (int i = 0; i < 8; ++i) to[i] = static_cast<std::uint8_t>(v >> (8 * i));
}

class BitWriter {
 public:
  explicit BitWriter(Buffer& out) : out_(out) {}
  // `count` <= 32; bits of `value` above it must be 0.
  void put(std::uint32_t value, unsigned count) {
    bits_ |= std::uint64_t{value} << filled_;
    filled_ += count;
    while (filled_ >= 8) {
      out_.push_back(static_cast<std::uint8_t>(bits_));
      bits_ >>= 8;
      filled_ -= 8;
    }
  }
  // Fills the last byte with zeros.
  void finish() {
    if (filled_ > 0) out_.push_back(static_cast<std::uint8_t>(bits_));
    bits_ = 0;
    filled_ = 0;
  }

 private:
  Buffer& out_;
  std::uint64_t bits_ = 0;
  unsigned filled_ = 0;
};

class BitReader {
 public:
  explicit BitReader(Bytes bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}
  // The next `count` <= 16 bits without taking them; zeros behind the end.
  std::uint32_t peek(unsigned count) {
    while (filled_ < count && at_ != end_) {
      bits_ |= std::uint32_t{*at_++} << filled_;
      filled_ += 8;
    }
    return bits_ & ((1U << count) - 1);
  }
  void skip(unsigned count) {
    if (count > filled_) {
      overrun_ = true;
      count = filled_;
    }
    bits_ >>= count;
    filled_ -= count;
  }
  std::uint32_t take(unsigned count) {
    const std::uint32_t value = peek(count);
    skip(count);
    return value;
  }
  bool overrun() const { return overrun_; }
  // What is left of the last byte read is zeros.
  bool padding_is_zero() const { return filled_ < 8 && bits_ == 0; }
  // The first byte of which no bit was taken. Only while fewer than 8 bits are held.
  const std::uint8_t* position() const { return at_; }
  bool at_end() const { return at_ == end_; }

 private:
  const std::uint8_t* at_;
  const std::uint8_t* end_;
  std::uint32_t bits_ = 0;
  unsigned filled_ = 0;
  bool overrun_ = false;
};

inline void put_number(Buffer& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<std::uint8_t>(value | 0x80));
  out.push_back(static_cast<std::uint8_t>(value));
}
inline void put_le(Buffer& out, std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i)
    out.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

class ByteReader {
 public:
  explicit ByteReader(Bytes bytes) : rest_(bytes) {}
  bool failed() const { return failed_; }
  std::size_t left() const { return rest_.size(); }
  Bytes take(std::uint64_t count) {
    if (count > rest_.size()) {
      failed_ = true;
      rest_ = {};
      return {};
    }
    const Bytes taken = rest_.first(static_cast<std::size_t>(count));
    rest_ = rest_.subspan(static_cast<std::size_t>(count));
    return taken;
  }
  std::uint64_t le(std::size_t bytes) {
    const Bytes taken = take(bytes);
    return taken.empty() ? 0 : load_le(taken.data(), bytes);
  }
  std::uint8_t byte() { return static_cast<std::uint8_t>(le(1)); }
  // At most ten bytes, in the shortest form: a second way to write a number is refused.
  std::uint64_t number() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const std::uint8_t next = byte();
      if (failed_ || (shift == 63 && next > 1) || (shift > 0 && next == 0)) break;
      value |= std::uint64_t{next & 0x7fU} << shift;
      if ((next & 0x80) == 0) return value;
    }
    failed_ = true;
    rest_ = {};
    return 0;
  }

 private:
  Bytes rest_;
  bool failed_ = false;
};

}  // namespace mcompress::codec
