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

}  // namespace
}  // namespace mcompress
