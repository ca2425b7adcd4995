#include "calibration/npz.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "calibration/npy_array.h"
#include "support/arrays.h"
#include "support/models.h"

namespace mcompress {
namespace {

using namespace std::string_view_literals;
using testing::npy;
using testing::NpyForm;
using testing::Packing;
using testing::TempFolder;

constexpr std::uint64_t kLimit = std::uint64_t{1} << 40;

Result<NpyHeader> parse(std::string_view bytes, std::uint64_t limit = kLimit) {
  return parse_npy_header(std::as_bytes(std::span(bytes)), limit);
}

std::string header_error(std::string_view bytes, std::uint64_t limit = kLimit) {
  auto header = parse(bytes, limit);
  return header.ok() ? "ok" : to_string(header.error().diagnostic);
}

std::string dict_error(std::string_view dict) {
  return header_error(testing::npy_with_header(1, dict, ""));
}

TEST(NpyHeader, ReadsAllVersionsAndTypes) {
  for (const int version : {1, 2, 3}) {
    const std::string bytes = npy<float>("<f4", {2, 3}, std::vector<float>(6), {version, false});
    auto header = parse(bytes);
    ASSERT_TRUE(header.ok()) << to_string(header.error().diagnostic);
    EXPECT_EQ(header->dtype, DataType::kFloat);
    EXPECT_EQ(header->shape, (std::vector<std::int64_t>{2, 3}));
    EXPECT_EQ(header->data_bytes, 24u);
    EXPECT_EQ(header->data_offset, bytes.size() - 24);
    EXPECT_EQ(header->row_elements(), 3);
  }
  const std::pair<const char*, DataType> kTypes[] = {
      {"<f2", DataType::kFloat16}, {">f8", DataType::kDouble}, {"|i1", DataType::kInt8},
      {"<i2", DataType::kInt16},   {"<i4", DataType::kInt32},  {"i8", DataType::kInt64},
      {"|u1", DataType::kUint8},   {"<u2", DataType::kUint16}, {"=u4", DataType::kUint32},
      {"<u8", DataType::kUint64},  {"|b1", DataType::kBool}};
  for (const auto& [descr, type] : kTypes) {
    auto header = parse(testing::npy_bytes(descr, std::vector<std::int64_t>{}, ""));
    ASSERT_TRUE(header.ok()) << descr;
    EXPECT_EQ(header->dtype, type);
    EXPECT_EQ(header->swapped, descr[0] == '>');
    EXPECT_EQ(header->row_elements(), 1);
  }
}

TEST(NpyHeader, AcceptsWhatOldWritersWrote) {
  EXPECT_EQ(dict_error("{\"shape\": (3L,), \"descr\": \"<f4\",\"fortran_order\":False}"), "ok");
  // One long axis has no order.
  EXPECT_EQ(dict_error("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 3, 1)}"), "ok");
  EXPECT_EQ(dict_error("{'descr': '<U3', 'fortran_order': False, 'shape': (2,)}"), "ok");
}

TEST(NpyHeader, RefusesWithReason) {
  const auto dict = [](std::string_view descr, std::string_view order, std::string_view shape) {
    return dict_error("{'descr': " + std::string(descr) + ", 'fortran_order': " +
                      std::string(order) + ", 'shape': " + std::string(shape) + "}");
  };
  const auto expect = [](const std::string& error, std::string_view part) {
    EXPECT_NE(error.find(part), std::string::npos) << error << "\nwanted: " << part;
  };
  expect(dict("'|O'", "False", "(1,)"), "pickle");
  expect(dict("[('a', '<f4')]", "False", "(1,)"), "structured");
  expect(dict("'<c8'", "False", "(1,)"), "'<c8' is not supported");
  expect(dict("'<M8[s]'", "False", "(1,)"), "not known");
  expect(dict("'<f3'", "False", "(1,)"), "not supported");
  expect(dict("''", "False", "(1,)"), "not known");
  expect(dict("'<U99999999'", "False", "(1,)"), "99999999 characters");
  expect(dict("'<f4'", "True", "(2, 3)"), "ascontiguousarray");
  expect(dict("'<f4'", "Maybe", "(2, 3)"), "True or False");
  expect(dict("'<f4'", "False", "(-1,)"), "a size");
  expect(dict("'<f4'", "False", "(99999999999999999999,)"), "a size");
  expect(dict("'<f4'", "False", "(4294967296, 4294967296, 4294967296)"), "overflows");
  expect(dict("'<f4'", "False", "(2147483648, 2147483648)"), "passes the limit");
  expect(dict("'<f4'", "False", "3"), "'('");
  expect(dict("'<f4'", "False", "(1, 2"), "',' or ')'");
  expect(dict("'<f4', 'descr': '<f4'", "False", "(1,)"), "repeated key 'descr'");
  expect(dict("'<f4', 'x': '<f4'", "False", "(1,)"), "unexpected or repeated key 'x'");
  expect(dict("'<f4", "False", "(1,)"), "malformed");
  expect(dict_error("{'descr': '<f4', 'fortran_order': False}"), "lacks");
  expect(dict_error("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x"), "the end");
  expect(dict_error("  "), "'{'");
  std::string many = "(";
  for (int i = 0; i < 33; ++i) many += "1,";
  expect(dict("'<f4'", "False", many + ")"), "32 axes");
  const std::string good = npy<float>("<f4", {5}, std::vector<float>(5));
  expect(header_error(good, 19), "passes the limit of 19 B");
  expect(header_error("hello, this is no array"), "no NPY array");
  expect(header_error(testing::npy_with_header(4, "{}", "")), "version 4");
  expect(header_error(testing::npy_with_header(2, std::string(70'000, ' '), "")), "70000 bytes");
  for (std::size_t n = 0; n < good.size() - 20; ++n) {
    EXPECT_NE(header_error(good.substr(0, n)), "ok") << n;
  }
}

Result<NpyArray> open_array(const std::filesystem::path& path) {
  auto bytes = open_bytes(path.string());
  if (!bytes.ok()) return std::move(bytes).error();
  return NpyArray::open(std::move(bytes).value(), kLimit);
}

TEST(NpyArray, SizeMustBeWhatTheHeaderSays) {
  const TempFolder folder;
  const std::string good = npy<float>("<f4", {5}, {1, 2, 3, 4, 5});
  for (const std::string& bytes : {good + "x", good.substr(0, good.size() - 1)}) {
    testing::write_file(folder / "a.npy", bytes);
    auto array = open_array(folder / "a.npy");
    ASSERT_FALSE(array.ok());
    EXPECT_EQ(array.error().diagnostic.id, "npy-size");
  }
}

TEST(NpyArray, BigEndianIsTurned) {
  const TempFolder folder;
  testing::write_file(folder / "a.npy",
                      npy<unsigned char>(">i4", {2}, {0, 0, 1, 2, 0xff, 0xff, 0xff, 0xfe}));
  auto array = open_array(folder / "a.npy");
  ASSERT_TRUE(array.ok());
  auto rows = read_rows(*array, 2);
  ASSERT_TRUE(rows.ok());
  EXPECT_EQ(*read_ints(*rows), (std::vector<std::int64_t>{258, -2}));
}

TEST(NpyArray, TextsBecomeUtf8) {
  const TempFolder folder;
  const std::u32string_view chars = U"ab\0é€\0😀\0\0"sv;
  std::vector<char32_t> wide(chars.begin(), chars.end());
  testing::write_file(folder / "u.npy", npy("<U3", {3}, wide));
  auto array = open_array(folder / "u.npy");
  ASSERT_TRUE(array.ok());
  EXPECT_EQ(*read_texts(*array, 3), (std::vector<std::string>{"ab", "é€", "😀"}));
  EXPECT_EQ(*read_texts(*array, 2), (std::vector<std::string>{"ab", "é€"}));
  testing::write_file(folder / "s.npy", testing::npy_bytes("|S2", std::vector<std::int64_t>{2},
                                                           std::string_view("x\0yz", 4)));
  array = open_array(folder / "s.npy");
  ASSERT_TRUE(array.ok());
  EXPECT_EQ(*read_texts(*array, 2), (std::vector<std::string>{"x", "yz"}));
  testing::write_file(folder / "bad.npy", npy<std::uint32_t>("<U1", {1}, {0xD800}));
  array = open_array(folder / "bad.npy");
  ASSERT_TRUE(array.ok());
  EXPECT_FALSE(read_texts(*array, 1).ok());
  testing::write_file(folder / "none.npy",
                      testing::npy_bytes("<U0", std::vector<std::int64_t>{2}, ""));
  array = open_array(folder / "none.npy");
  ASSERT_TRUE(array.ok());
  EXPECT_EQ(*read_texts(*array, 2), (std::vector<std::string>{"", ""}));
}

TEST(NpyArray, DigestDependsOnContentOnly) {
  const TempFolder folder;
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  testing::write_file(folder / "a.npy", npy("<f4", {3, 2}, values));
  testing::write_file(folder / "b.npy", npy("<f4", {3, 2}, values, NpyForm{2, false}));
  testing::write_file(folder / "c.npy", npy("<f4", {2, 3}, values));
  testing::write_file(folder / "d.npy", npy("<f4", {3, 2}, std::vector<float>{1, 2, 3, 4, 5, 7}));
  std::vector<std::uint64_t> digests;
  for (const char* name : {"a.npy", "b.npy", "c.npy", "d.npy"}) {
    auto array = open_array(folder / name);
    ASSERT_TRUE(array.ok());
    digests.push_back(*array->digest(24));
    // After reads in order, out of order, and beyond what is digested.
    std::vector<std::byte> some(8);
    EXPECT_TRUE(array->read(0, some).ok());
    EXPECT_TRUE(array->read(16, some).ok());
    EXPECT_EQ(*array->digest(24), digests.back());
    EXPECT_EQ(*array->digest(8), *open_array(folder / name)->digest(8));
  }
  EXPECT_EQ(digests[0], digests[1]);
  EXPECT_NE(digests[0], digests[2]);
  EXPECT_NE(digests[0], digests[3]);
}

std::vector<float> ramp(std::size_t n) {
  std::vector<float> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<float>(i % 1000);
  return values;
}

TEST(Npz, RandomAccessInBothPackings) {
  const TempFolder folder;
  const std::vector<float> values = ramp(200'000);
  for (const Packing packing : {Packing::kStored, Packing::kDeflated}) {
    testing::write_npz(folder / "a.npz",
                       {{"x", npy("<f4", {200'000}, values)}, {"y", npy("<f4", {3}, ramp(3))}},
                       packing);
    auto archive = NpzArchive::open(folder / "a.npz");
    ASSERT_TRUE(archive.ok()) << to_string(archive.error().diagnostic);
    ASSERT_EQ((*archive)->entries().size(), 2u);
    EXPECT_EQ((*archive)->entries()[0].name, "x");
    auto bytes = (*archive)->open_entry((*archive)->entries()[0]);
    ASSERT_TRUE(bytes.ok());
    auto array = NpyArray::open(std::move(bytes).value(), kLimit);
    ASSERT_TRUE(array.ok()) << to_string(array.error().diagnostic);
    std::vector<float> got(1000);
    for (const std::size_t first : {0u, 1000u, 199'000u, 5000u, 5000u, 100'000u, 0u}) {
      ASSERT_TRUE(array->read(first * 4, std::as_writable_bytes(std::span(got))).ok());
      EXPECT_TRUE(std::equal(got.begin(), got.end(), values.begin() + static_cast<long>(first)));
    }
    EXPECT_FALSE(array->read(799'999, std::as_writable_bytes(std::span(got))).ok());
  }
}

// As threads that each read a part of the samples do.
TEST(Npz, SeveralPlacesInTurn) {
  const TempFolder folder;
  constexpr std::size_t kCount = 1'500'000;  // more than is kept unpacked
  const std::vector<float> values = ramp(kCount);
  for (const Packing packing : {Packing::kStored, Packing::kDeflated}) {
    testing::write_npz(folder / "a.npz", {{"x", npy("<f4", {kCount}, values)}}, packing);
    auto archive = NpzArchive::open(folder / "a.npz");
    ASSERT_TRUE(archive.ok()) << to_string(archive.error().diagnostic);
    auto bytes = (*archive)->open_entry((*archive)->entries()[0]);
    ASSERT_TRUE(bytes.ok());
    auto array = NpyArray::open(std::move(bytes).value(), kLimit);
    ASSERT_TRUE(array.ok()) << to_string(array.error().diagnostic);
    std::vector<float> got(1000);
    const auto check = [&](std::size_t first) {
      ASSERT_TRUE(array->read(first * 4, std::as_writable_bytes(std::span(got))).ok()) << first;
      EXPECT_TRUE(std::equal(got.begin(), got.end(), values.begin() + static_cast<long>(first)))
          << first;
    };
    for (std::size_t step = 0; step < 5; ++step) {
      for (std::size_t place = 0; place < 6; ++place) check(place * 240'000 + step * 7000);
    }
    check(kCount - 1000);  // to the end, and back
    check(kCount - 9000);
    check(kCount - 1000);
    check(0);
  }
}

TEST(Npz, DamageIsFoundByTheChecksum) {
  const TempFolder folder;
  const std::string content = npy("<f4", {5000}, ramp(5000));
  for (const Packing packing : {Packing::kStored, Packing::kDeflated}) {
    testing::write_npz(folder / "a.npz", {{"x", content}}, packing);
    std::string bytes = testing::read_file(folder / "a.npz");
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 0x40);
    testing::write_file(folder / "b.npz", bytes);
    auto archive = NpzArchive::open(folder / "b.npz");
    ASSERT_TRUE(archive.ok());
    auto source = (*archive)->open_entry((*archive)->entries()[0]);
    ASSERT_TRUE(source.ok());
    std::vector<std::byte> all(content.size());
    Status status = (*source)->read(0, all);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, Code::kInput);
  }
}

TEST(Npz, EveryTruncationIsRefused) {
  const TempFolder folder;
  testing::write_npz(folder / "a.npz", {{"x", npy("<f4", {30}, ramp(30))}});
  const std::string bytes = testing::read_file(folder / "a.npz");
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    testing::write_file(folder / "b.npz", bytes.substr(0, n));
    auto archive = NpzArchive::open(folder / "b.npz");
    EXPECT_TRUE(!archive.ok() || (*archive)->entries().empty()) << n;
  }
}

TEST(Npz, RefusesNamesTwiceAndOtherCompressions) {
  const TempFolder folder;
  const std::string array = npy("<f4", {3}, ramp(3));
  testing::write_zip(folder / "a.npz", {{"x.npy", array}, {"y.npy", array}, {"note.txt", "hi"}},
                     Packing::kStored);
  std::string bytes = testing::read_file(folder / "a.npz");
  {
    auto archive = NpzArchive::open(folder / "a.npz");
    ASSERT_TRUE(archive.ok());
    EXPECT_EQ((*archive)->entries().size(), 2u);
  }
  for (std::size_t at = bytes.find("y.npy"); at != std::string::npos;
       at = bytes.find("y.npy", at + 1)) {
    bytes[at] = 'x';
  }
  testing::write_file(folder / "b.npz", bytes);
  auto twice = NpzArchive::open(folder / "b.npz");
  ASSERT_FALSE(twice.ok());
  EXPECT_EQ(twice.error().diagnostic.id, "zip-name-twice");
  // Compression method 12 (bzip2) in the central directory.
  bytes = testing::read_file(folder / "a.npz");
  const std::size_t central = bytes.find("PK\x01\x02");
  ASSERT_NE(central, std::string::npos);
  bytes[central + 10] = 12;
  testing::write_file(folder / "c.npz", bytes);
  auto method = NpzArchive::open(folder / "c.npz");
  ASSERT_FALSE(method.ok());
  EXPECT_EQ(method.error().diagnostic.id, "zip-compression");
}

}  // namespace
}  // namespace mcompress
