#include "support/hash.h"

#include <gtest/gtest.h>

#include <vector>

namespace mcompress {
namespace {

// Values of the reference implementation (`xxhsum -H3`).
TEST(Hash, KnownDigests) {
  EXPECT_EQ(hex_digest(digest_bytes(std::string_view())), "2d06800538d394c2");
  EXPECT_EQ(hex_digest(digest_bytes("a")), "e6c632b61e964e1f");
  EXPECT_EQ(hex_digest(digest_bytes("abc")), "78af5f94892f3950");
  EXPECT_EQ(hex_digest(0x1F), "000000000000001f");
}

TEST(Hash, PiecesGiveTheDigestOfTheWhole) {
  std::vector<std::byte> bytes(100'000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 37 + i / 99);
  const std::uint64_t whole = digest_bytes(bytes);
  for (const std::size_t step : {1U, 7U, 256U, 1024U, 65536U}) {
    Hasher hasher;
    for (std::size_t at = 0; at < bytes.size(); at += step) {
      hasher.bytes(std::span(bytes).subspan(at, std::min(step, bytes.size() - at)));
    }
    EXPECT_EQ(hasher.digest(), whole) << step;
  }
}

TEST(Hash, BordersOfTextsCount) {
  EXPECT_NE(Hasher().text("ab").text("c").digest(), Hasher().text("a").text("bc").digest());
  EXPECT_EQ(Hasher().text("ab").integer(3).digest(), Hasher().text("ab").integer(3).digest());
  EXPECT_NE(Hasher().integer(1).digest(), Hasher().integer(256).digest());
}

TEST(Hash, IntegersAreLittleEndian) {
  EXPECT_EQ(Hasher().integer(0x61).digest(), digest_bytes(std::string_view("a\0\0\0\0\0\0\0", 8)));
}

TEST(Hasher, GivesTheDigestOfThePiecesJoinedHoweverLongTheyAre) {
  std::string whole;
  for (int i = 0; i < 700; ++i) whole += static_cast<char>('a' + i * 7 % 26);
  for (const std::size_t length : {1U, 239U, 240U, 241U, 480U, 700U}) {
    for (const std::size_t piece : {1U, 7U, 240U, 241U, 700U}) {
      Hasher hasher;
      for (std::size_t at = 0; at < length; at += piece) {
        const std::string_view part = std::string_view(whole).substr(0, length).substr(at, piece);
        hasher.bytes(std::as_bytes(std::span(part)));
      }
      EXPECT_EQ(hasher.digest(), digest_bytes(std::string_view(whole).substr(0, length)))
          << length << " in pieces of " << piece;
      Hasher moved = std::move(hasher);
      EXPECT_EQ(moved.digest(), digest_bytes(std::string_view(whole).substr(0, length)));
    }
  }
}

}  // namespace
}  // namespace mcompress
