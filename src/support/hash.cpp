#include "support/hash.h"

#include <algorithm>
#include <array>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace mcompress {

std::uint64_t digest_bytes(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::uint64_t digest_bytes(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

std::string hex_digest(std::uint64_t digest) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text(16, '0');
  for (std::size_t i = 16; i-- > 0; digest >>= 4) text[i] = kDigits[digest & 15];
  return text;
}

struct Hasher::State {
  XXH3_state_t xxh;
};

Hasher::Hasher() {}  // NOLINT(modernize-use-equals-default): the bytes are left as they are
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

Hasher& Hasher::bytes(std::span<const std::byte> bytes) {
  if (bytes.empty()) return *this;
  if (state_ == nullptr && bytes.size() <= short_.size() - size_) {
    std::ranges::copy(bytes, short_.begin() + static_cast<std::ptrdiff_t>(size_));
    size_ += bytes.size();
    return *this;
  }
  if (state_ == nullptr) {
    state_ = std::make_unique<State>();
    XXH3_64bits_reset(&state_->xxh);
    XXH3_64bits_update(&state_->xxh, short_.data(), size_);
  }
  XXH3_64bits_update(&state_->xxh, bytes.data(), bytes.size());
  return *this;
}

Hasher& Hasher::integer(std::uint64_t value) {
  std::array<std::byte, 8> little;
  for (std::byte& part : little) {
    part = static_cast<std::byte>(value & 0xFF);
    value >>= 8;
  }
  return bytes(little);
}

Hasher& Hasher::text(std::string_view text) {
  integer(text.size());
  return bytes(std::as_bytes(std::span(text)));
}

std::uint64_t Hasher::digest() const {
  return state_ != nullptr ? XXH3_64bits_digest(&state_->xxh) : XXH3_64bits(short_.data(), size_);
}

}  // namespace mcompress
