// 64-bit content digests (XXH3). Good against accidents, not against forgery.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace mcompress {

// XXH3-64 of the bytes, seed 0: equals `xxhsum -H3`.
std::uint64_t digest_bytes(std::span<const std::byte> bytes);
std::uint64_t digest_bytes(std::string_view text);

// Sixteen lower-case hexadecimal digits.
std::string hex_digest(std::uint64_t digest);

// Digest of a sequence. `bytes` called in pieces gives the digest of the pieces joined; `text`
// puts the length in front, so that ("ab", "c") and ("a", "bc") differ. Short sequences, which are
// many, take no memory.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  Hasher& bytes(std::span<const std::byte> bytes);
  Hasher& integer(std::uint64_t value);  // eight bytes, little-endian
  Hasher& text(std::string_view text);
  // The digest of everything so far; more may follow.
  std::uint64_t digest() const;

 private:
  struct State;
  std::array<std::byte, 240> short_;  // all bytes, while there is no state
  std::size_t size_ = 0;              // of `short_`, in use
  std::unique_ptr<State> state_;
};

}  // namespace mcompress
