#include "onnx/wire.h"

#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <chrono>
#include <random>

#include "onnx/proto.h"
#include "support/models.h"

namespace mcompress::wire {
namespace {

std::span<const std::byte> span_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

DeflateOptions threshold(std::uint64_t bytes) {
  DeflateOptions options;
  options.threshold = bytes;
  return options;
}

std::vector<StoragePtr> storages(std::string_view message, const Skeleton& skeleton) {
  std::vector<StoragePtr> list;
  for (const Slice& slice : skeleton.payloads) {
    list.push_back(make_storage(nullptr, span_of(message).subspan(slice.offset, slice.length)));
  }
  return list;
}

void append_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

std::string field(std::uint32_t number, std::string_view body) {
  std::string text;
  append_varint(text, (number << 3) | 2U);
  append_varint(text, body.size());
  return text += body;
}

// graph.initializer with nothing but data
std::string with_raw_data(std::string_view data) { return field(7, field(5, field(9, data))); }

TEST(Wire, ComesBackAsItWas) {
  for (const auto& fixture : testing::fixtures()) {
    for (const std::uint64_t bytes : {24, 100, 1024, 1 << 20}) {
      const auto skeleton = deflate(span_of(fixture.bytes), Root::kModel, threshold(bytes));
      ASSERT_TRUE(skeleton.ok()) << fixture.name;
      const auto rope = inflate(skeleton->bytes, Root::kModel, storages(fixture.bytes, *skeleton));
      ASSERT_TRUE(rope.ok()) << fixture.name;
      EXPECT_EQ(rope->size, fixture.bytes.size());
      const auto flat = flatten(*rope);
      ASSERT_TRUE(flat.ok());
      EXPECT_EQ(*flat, fixture.bytes) << fixture.name << " " << bytes;
    }
  }
}

TEST(Wire, TakesTensorsOutWhereverTheyAre) {
  const std::string& bytes = testing::fixture("large_anywhere");
  const auto skeleton = deflate(span_of(bytes), Root::kModel, threshold(1024));
  ASSERT_TRUE(skeleton.ok());
  EXPECT_EQ(skeleton->payloads.size(), 3U);
  EXPECT_LT(skeleton->bytes.size(), bytes.size() - 3 * 2000);
  onnx::ModelProto proto;
  ASSERT_TRUE(proto.ParseFromString(skeleton->bytes));
  const auto payload = placeholder_payload(proto.graph().node(0).attribute(0).t().raw_data());
  ASSERT_TRUE(payload);
  EXPECT_EQ(skeleton->payloads[*payload].length, 2048U);
}

TEST(Wire, DataThatLooksLikeAPlaceholderIsData) {
  const std::string data = make_placeholder(12345);
  const std::string message = with_raw_data(data);
  const auto skeleton = deflate(span_of(message), Root::kModel, threshold(1 << 20));
  ASSERT_TRUE(skeleton.ok());
  ASSERT_EQ(skeleton->payloads.size(), 1U);
  EXPECT_NE(skeleton->bytes, message);
  const auto rope = inflate(skeleton->bytes, Root::kModel, storages(message, *skeleton));
  ASSERT_TRUE(rope.ok());
  EXPECT_EQ(flatten(*rope).value(), message);
}

TEST(Wire, PlaceholderOfAnUnknownPayloadIsAnError) {
  const auto rope = inflate(with_raw_data(make_placeholder(0)), Root::kModel, {});
  ASSERT_FALSE(rope.ok());
  EXPECT_EQ(rope.error().code, Code::kInternal);
}

TEST(Wire, PlaceholdersAreTheirNumbers) {
  for (const std::uint64_t number : {0ULL, 1ULL, 255ULL, 256ULL, ~0ULL}) {
    const std::string text = make_placeholder(number);
    EXPECT_EQ(text.size(), kPlaceholderSize);
    EXPECT_EQ(placeholder_payload(text), number);
  }
  EXPECT_EQ(placeholder_payload(std::string(24, 'x')), std::nullopt);
  EXPECT_EQ(placeholder_payload(""), std::nullopt);
}

TEST(Wire, LengthsGrowAndShrinkAcrossVarintSizes) {
  for (const std::size_t size : {100UL, 127UL, 128UL, 16383UL, 16384UL, 3000000UL}) {
    const std::string message = with_raw_data(std::string(size, 'z'));
    const auto skeleton = deflate(span_of(message), Root::kModel, threshold(50));
    ASSERT_TRUE(skeleton.ok());
    EXPECT_LT(skeleton->bytes.size(), 40U);
    const auto rope = inflate(skeleton->bytes, Root::kModel, storages(message, *skeleton));
    ASSERT_TRUE(rope.ok());
    EXPECT_EQ(flatten(*rope).value(), message);
  }
}

void expect_refused(const std::string& message, std::string_view text) {
  const auto skeleton = deflate(span_of(message), Root::kModel, {});
  ASSERT_FALSE(skeleton.ok());
  EXPECT_EQ(skeleton.error().code, Code::kInput);
  EXPECT_NE(to_string(skeleton.error().diagnostic).find(text), std::string::npos)
      << to_string(skeleton.error().diagnostic);
}

TEST(Wire, RefusesWhatIsNoMessage) {
  std::string lying = field(7, "abc");
  lying[1] = 100;
  expect_refused(lying, "field 7 claims 100 bytes, but only 3 are left");
  std::string huge("\x3a", 1);
  append_varint(huge, ~0ULL);
  expect_refused(huge, "claims 18446744073709551615 bytes");
  expect_refused(std::string("\x3a\xff\xff", 3), "ends inside a number");
  expect_refused(std::string("\x00\x01", 2), "field number 0");
  expect_refused(std::string("\x0f", 1), "wire type 7");
  expect_refused(std::string("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12), "ten bytes");
  expect_refused(std::string("\x0c", 1), "a group ends");
  expect_refused(std::string("\x0b", 1), "ends inside a number");
  expect_refused(std::string(500, '\x0b'), "groups are nested too deep");
  expect_refused(std::string("\x09\x01\x02", 3), "ends inside a number");
}

TEST(Wire, SkipsGroups) {
  const std::string group("\x0b\x08\x01\x13\x14\x0c", 6);
  const std::string message = group + with_raw_data(std::string(100, 'a')) + group;
  const auto skeleton = deflate(span_of(message), Root::kModel, threshold(50));
  ASSERT_TRUE(skeleton.ok());
  const auto rope = inflate(skeleton->bytes, Root::kModel, storages(message, *skeleton));
  EXPECT_EQ(flatten(*rope).value(), message);
}

TEST(Wire, BoundsTheDepthOfGraphs) {
  const auto nested = [](int depth) {
    std::string body;
    for (int i = 1; i < depth; ++i) body = field(1, field(5, field(6, body)));
    return field(7, body);
  };
  EXPECT_TRUE(deflate(span_of(nested(64)), Root::kModel, {}).ok());
  expect_refused(nested(65), "nested more than 64 deep");
  expect_refused(nested(5000), "nested more than 64 deep");
}

TEST(Wire, EveryTruncationIsRefusedOrAMessage) {
  for (const auto& fixture : testing::fixtures()) {
    for (std::size_t size = 0; size < fixture.bytes.size(); ++size) {
      const std::string cut = fixture.bytes.substr(0, size);
      const auto skeleton = deflate(span_of(cut), Root::kModel, threshold(64));
      if (skeleton.ok()) continue;
      EXPECT_EQ(skeleton.error().code, Code::kInput);
    }
  }
}

TEST(Wire, RandomBytesAreRefusedOrComeBack) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    const std::size_t size = random() % 60;
    // Mostly tags of the tree, so that something is descended into.
    static constexpr unsigned char kLikely[] = {0x3a, 0x2a, 0x4a, 0x0a, 0x32, 0x5a, 0x08, 0x0b};
    while (bytes.size() < size) {
      bytes.push_back(static_cast<char>(random() % 3 != 0 ? kLikely[random() % 8] : random() % 32));
    }
    const auto skeleton = deflate(span_of(bytes), Root::kModel, threshold(24));
    if (!skeleton.ok()) continue;
    const auto rope = inflate(skeleton->bytes, Root::kModel, storages(bytes, *skeleton));
    ASSERT_TRUE(rope.ok());
    onnx::ModelProto before;
    onnx::ModelProto after;
    const bool valid = before.ParsePartialFromString(bytes);
    ASSERT_EQ(after.ParsePartialFromString(flatten(*rope).value()), valid);
    if (!valid) continue;
    ASSERT_EQ(before.SerializePartialAsString(), after.SerializePartialAsString());
  }
}

TEST(Wire, IsLinear) {
  const auto seconds = [](std::int64_t nodes) {
    const std::string bytes = testing::chain_bytes(nodes);
    const auto start = std::chrono::steady_clock::now();
    EXPECT_TRUE(deflate(span_of(bytes), Root::kModel, {}).ok());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  (void)seconds(1000);
  EXPECT_LT(seconds(50000), 100 * seconds(5000) + 0.1);
}

}  // namespace
}  // namespace mcompress::wire
