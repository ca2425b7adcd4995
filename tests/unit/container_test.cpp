#include "codec/container.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>

#include "codec/bits.h"
#include "mcompress/archive.h"
#include "support/hash.h"

namespace mcompress::codec {
namespace {

namespace fs = std::filesystem;

class ArchiveTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / (std::string("mcompress_archive_") + info->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path path(const std::string& name) const { return folder_ / name; }
  static std::vector<std::byte> read(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
  }

  // A file of 3,700 bytes: text around a tensor of 750 floats; written in blocks of 1,000 bytes.
  std::vector<std::byte> small_archive(int threads = 1) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 1);
    std::vector<float> values(750);
    for (float& value : values) value = normal(random);
    file_.assign(400, std::byte{'a'});
    for (std::size_t i = 0; i < 400; ++i) file_[i] = static_cast<std::byte>('a' + i * i % 23);
    const auto weights = std::as_bytes(std::span(values));
    file_.insert(file_.end(), weights.begin(), weights.end());
    for (std::size_t i = 0; i < 300; ++i) file_.push_back(static_cast<std::byte>(i * i % 251));

    AtomicOutput output(real_files(), AtomicOutput::Durability::kRelaxed);
    auto out = output.add(path("small.mca").string());
    EXPECT_TRUE(out.ok());
    const Executor executor(threads);
    ArchiveWriter writer(**out, executor, CodingEffort::kThorough);
    ArchivedStream residue;
    residue.file = 0;
    residue.residue = true;
    residue.length = 700;
    residue.block_bytes = 1000;
    EXPECT_TRUE(
        writer
            .add(
                residue, {},
                [this](std::uint64_t offset, std::size_t length,
                       std::vector<std::byte>& scratch) -> Result<std::span<const std::byte>> {
                  scratch.assign(file_.begin(), file_.begin() + 400);
                  scratch.insert(scratch.end(), file_.begin() + 3400, file_.end());
                  return std::span<const std::byte>(scratch).subspan(offset, length);
                },
                silent_progress())
            .ok());
    ArchivedStream tensor;
    tensor.file = 0;
    tensor.offset = 400;
    tensor.length = 3000;
    tensor.block_bytes = 1000;
    EXPECT_TRUE(writer
                    .add(
                        tensor, {4, true, false},
                        [this](std::uint64_t offset, std::size_t length,
                               std::vector<std::byte>&) -> Result<std::span<const std::byte>> {
                          return std::span<const std::byte>(file_).subspan(400 + offset, length);
                        },
                        silent_progress())
                    .ok());
    ArchiveIndex index;
    index.files.push_back({"model.onnx", 3700, digest_bytes(file_)});
    index.tensors.push_back({"w", 1, {750}, 1, true});
    EXPECT_TRUE(writer.finish(index).ok());
    EXPECT_TRUE(output.commit().ok());
    return read(path("small.mca"));
  }

  // A file of tensors that each ask for another kind of block.
  std::vector<std::byte> archive_of_all_kinds() {
    std::mt19937 random(5);
    std::normal_distribution<float> normal(0, 1);
    struct Part {
      Elements elements;
      std::vector<std::byte> bytes;
    };
    std::vector<Part> parts;
    const auto add_floats = [&](auto next) {
      std::vector<float> values(3000);
      for (float& value : values) value = next();
      const auto view = std::as_bytes(std::span(values));
      parts.push_back({{4, true, false}, {view.begin(), view.end()}});
    };
    const auto add_bytes = [&](Elements elements, std::size_t count, auto next) {
      std::vector<std::byte> values(count);
      for (std::byte& value : values) value = static_cast<std::byte>(next());
      parts.push_back({elements, std::move(values)});
    };
    add_floats([&] { return normal(random); });                              // planes
    add_floats([&] { return random() % 10 == 0 ? normal(random) : 0.0F; });  // sparse
    add_floats([&] { return static_cast<float>(random() % 7) - 3; });        // codebook
    add_bytes({1, false, true}, 24000, [&] {                                 // nibbles
      const auto half = [&] { return std::clamp(8 + std::lround(normal(random) * 1.5F), 0L, 15L); };
      return half() | half() << 4;
    });
    add_bytes({1, false, false}, 30000, [&] {  // rANS
      return random() % 100 < 58 ? 0 : 1 + random() % 3;
    });
    add_bytes({1, false, false}, 6000,
              [&] { return std::lround(12 * normal(random)); });  // Huffman
    float before = 0;
    add_bytes({1, false, false}, 9000, [&] {  // predicted
      before = 0.8F * before + 10 * normal(random);
      return std::lround(std::clamp(before, -120.0F, 120.0F));
    });

    add_bytes({1, false, true}, 6000, [&] {  // predicted nibbles
      const auto half = [&] {
        before = 0.9F * before + normal(random);
        return std::clamp(8 + std::lround(before), 0L, 15L);
      };
      const long low = half();
      return low | half() << 4;
    });

    file_.clear();
    AtomicOutput output(real_files(), AtomicOutput::Durability::kRelaxed);
    auto out = output.add(path("kinds.mca").string());
    EXPECT_TRUE(out.ok());
    const Executor executor(1);
    ArchiveWriter writer(**out, executor, CodingEffort::kThorough);
    ArchiveIndex index;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      ArchivedStream stream;
      stream.file = 0;
      stream.offset = file_.size();
      stream.length = parts[i].bytes.size();
      stream.block_bytes = 1 << 16;
      EXPECT_TRUE(
          writer
              .add(
                  stream, parts[i].elements,
                  [&parts, i](std::uint64_t offset, std::size_t length,
                              std::vector<std::byte>&) -> Result<std::span<const std::byte>> {
                    return std::span<const std::byte>(parts[i].bytes).subspan(offset, length);
                  },
                  silent_progress())
              .ok());
      file_.insert(file_.end(), parts[i].bytes.begin(), parts[i].bytes.end());
    }
    index.files.push_back({"model.onnx", file_.size(), digest_bytes(file_)});
    EXPECT_TRUE(writer.finish(index).ok());
    EXPECT_TRUE(output.commit().ok());
    return read(path("kinds.mca"));
  }

  // Everything an archive promises was read and is right.
  static bool reads_well(std::span<const std::byte> bytes) {
    const auto archive = Archive::open(bytes);
    if (!archive.ok()) return false;
    for (std::size_t s = 0; s < archive->index().streams.size(); ++s) {
      std::vector<std::byte> out(archive->index().streams[s].length);
      if (!archive->read(s, 0, out).ok()) return false;
      if (digest_bytes(out) != archive->index().streams[s].digest) return false;
    }
    return true;
  }

  // Of planes that stand first in a block.
  static std::multiset<int> plane_methods(std::span<const std::byte> bytes) {
    const auto archive = Archive::open(bytes);
    std::multiset<int> methods;
    if (!archive.ok()) return methods;
    for (const ArchivedStream& stream : archive->index().streams) {
      for (const ArchivedBlock& block : stream.blocks) {
        const int mode = std::to_integer<int>(bytes[block.offset]);
        const std::size_t front = mode == 2 ? 3 : mode == 5 ? 1 : 0;
        if (front > 0) methods.insert(std::to_integer<int>(bytes[block.offset + front]));
      }
    }
    return methods;
  }

  fs::path folder_;
  std::vector<std::byte> file_;
};

TEST_F(ArchiveTest, PiecesMakeUpTheFileAndRangesAreThoseOfTheStream) {
  const std::vector<std::byte> bytes = small_archive();
  const auto archive = Archive::open(bytes);
  ASSERT_TRUE(archive.ok());
  std::vector<std::byte> joined;
  for (const Archive::Piece& piece : archive->pieces_of(0)) {
    EXPECT_EQ(piece.offset, joined.size());
    joined.resize(joined.size() + piece.length);
    ASSERT_TRUE(archive
                    ->read(piece.stream, piece.stream_offset,
                           std::span(joined).subspan(piece.offset, piece.length))
                    .ok());
  }
  EXPECT_EQ(joined, file_);
  for (const auto& [offset, length] : {std::pair(0, 3000), {999, 2}, {1000, 1000}, {2999, 1}}) {
    std::vector<std::byte> part(static_cast<std::size_t>(length));
    ASSERT_TRUE(archive->read(1, static_cast<std::uint64_t>(offset), part).ok());
    EXPECT_TRUE(std::equal(part.begin(), part.end(), file_.begin() + 400 + offset));
  }
  std::vector<std::byte> outside(2);
  EXPECT_FALSE(archive->read(1, 2999, outside).ok());
}

TEST_F(ArchiveTest, ThreadsDoNotShowInTheBytes) {
  const std::vector<std::byte> one = small_archive(1);
  EXPECT_EQ(small_archive(1), one);
  EXPECT_EQ(small_archive(4), one);
}

TEST_F(ArchiveTest, EveryTruncationAndEveryFlippedBitIsNoticed) {
  std::vector<std::byte> bytes = small_archive();
  ASSERT_TRUE(reads_well(bytes));
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    ASSERT_FALSE(reads_well(std::span(bytes).first(length))) << length;
  }
  std::vector<std::byte> longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(reads_well(longer));
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      bytes[at] ^= static_cast<std::byte>(1 << bit);
      ASSERT_FALSE(reads_well(bytes)) << at << " bit " << bit;
      bytes[at] ^= static_cast<std::byte>(1 << bit);
    }
  }
}

// An index with right checksums and wrong contents.
TEST_F(ArchiveTest, IndexesThatContradictThemselvesAreRefused) {
  const std::vector<std::byte> bytes = small_archive();
  const ArchiveIndex good = Archive::open(bytes)->index();
  const auto refused = [&](const auto& change) {
    ArchiveIndex index = good;
    change(index);
    const std::vector<std::uint8_t> plain = index_bytes(index);
    return !parse_index(std::as_bytes(std::span(plain)), bytes.size()).ok();
  };
  EXPECT_FALSE(refused([](ArchiveIndex&) {}));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.files[0].size += 1; }));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.files.push_back(i.files[0]); }));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.streams[1].offset = 701; }));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.streams[1].file = 1; }));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.streams[1].file = kNoFile; }));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.streams[1].length = std::uint64_t{1} << 60; }));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.streams[1].block_bytes = 1; }));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.streams[1].block_bytes = 0; }));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.streams[1].block_bytes = kMostBlockBytes + 1; }));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.streams[1].copy_of = 2; }));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.streams[1].copy_of = 1; }));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.streams[1].residue = true; }));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.streams[1].blocks[0].size = 0; }));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.streams[1].blocks[0].size = 1 << 20; }));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.tensors[0].stream = 2; }));
  EXPECT_TRUE(refused([](ArchiveIndex& i) { i.tensors[0].stream = 0; }));
  // Counts that no index of that size can hold.
  for (const std::uint64_t count : {std::uint64_t{1} << 20, ~std::uint64_t{0}}) {
    Buffer files;
    put_number(files, count);
    EXPECT_FALSE(parse_index(std::as_bytes(std::span(files)), 1000).ok());
    Buffer streams{0};
    put_number(streams, count);
    EXPECT_FALSE(parse_index(std::as_bytes(std::span(streams)), 1000).ok());
    Buffer tensors{0, 0};
    put_number(tensors, count);
    EXPECT_FALSE(parse_index(std::as_bytes(std::span(tensors)), 1000).ok());
  }
}

TEST_F(ArchiveTest, AnotherVersionIsSaidToBeOne) {
  std::vector<std::byte> bytes = small_archive();
  bytes[8] = std::byte{kArchiveVersion + 1};
  const auto archive = Archive::open(bytes);
  ASSERT_FALSE(archive.ok());
  EXPECT_EQ(archive.error().code, Code::kUnsupported);
  EXPECT_EQ(archive.error().diagnostic.id, "archive-version");
}

// Archives of format 1 are read for good.
TEST_F(ArchiveTest, TheGoldenArchiveOfFormat1IsReadAsItWas) {
  const fs::path golden = fs::path(MCOMPRESS_SOURCE_DIR) / "tests/golden";
  ASSERT_TRUE(unpack_archive(golden / "archive-v1.mca", path("out"), silent_progress()).ok());
  EXPECT_EQ(read(path("out")), read(golden / "archive-v1.bin"));
  EXPECT_TRUE(reads_well(read(golden / "archive-v1.mca")));
}

TEST_F(ArchiveTest, TheGoldenArchiveOfFormat2IsReadAsItWas) {
  const fs::path golden = fs::path(MCOMPRESS_SOURCE_DIR) / "tests/golden";
  ASSERT_TRUE(unpack_archive(golden / "archive-v2.mca", path("out"), silent_progress()).ok());
  EXPECT_EQ(read(path("out")), read(golden / "archive-v2.bin"));
  const auto bytes = read(golden / "archive-v2.mca");
  EXPECT_TRUE(reads_well(bytes));
  // Planes, sparse, codebook, nibbles and predicted blocks of both kinds; Huffman and rANS planes.
  const auto archive = Archive::open(bytes);
  ASSERT_TRUE(archive.ok());
  std::set<int> modes, methods;
  for (const ArchivedStream& stream : archive->index().streams) {
    for (const ArchivedBlock& block : stream.blocks) {
      const int mode = std::to_integer<int>(bytes[block.offset]);
      modes.insert(mode);
      if (mode == 2) methods.insert(std::to_integer<int>(bytes[block.offset + 3]));
      if (mode == 5) methods.insert(std::to_integer<int>(bytes[block.offset + 1]));
    }
  }
  for (const int mode : {2, 3, 4, 5, 6, 7}) EXPECT_TRUE(modes.contains(mode)) << mode;
  EXPECT_TRUE(methods.contains(2));
  EXPECT_TRUE(methods.contains(3));
}

TEST_F(ArchiveTest, TheGoldenArchiveOfFormat3IsReadAsItWas) {
  const fs::path golden = fs::path(MCOMPRESS_SOURCE_DIR) / "tests/golden";
  ASSERT_TRUE(unpack_archive(golden / "archive-v3.mca", path("out"), silent_progress()).ok());
  EXPECT_EQ(read(path("out")), read(golden / "archive-v3.bin"));
  EXPECT_GE(plane_methods(read(golden / "archive-v3.mca")).count(6), 2U);
}

TEST_F(ArchiveTest, TheGoldenArchiveOfFormat4IsReadAsItWas) {
  const fs::path golden = fs::path(MCOMPRESS_SOURCE_DIR) / "tests/golden";
  if (std::getenv("MCOMPRESS_WRITE_GOLDEN") != nullptr) {  // for a new format only
    archive_of_all_kinds();
    fs::copy_file(path("kinds.mca"), golden / "archive-v4.mca");
    std::ofstream(golden / "archive-v4.bin", std::ios::binary)
        .write(reinterpret_cast<const char*>(file_.data()),
               static_cast<std::streamsize>(file_.size()));
  }
  ASSERT_TRUE(unpack_archive(golden / "archive-v4.mca", path("out"), silent_progress()).ok());
  EXPECT_EQ(read(path("out")), read(golden / "archive-v4.bin"));
  EXPECT_GE(plane_methods(read(golden / "archive-v4.mca")).count(7), 1U);
}

// Written byte by byte from docs/format.md: a block of mode 6, one of mode 7, planes of method 7.
TEST_F(ArchiveTest, BlocksAreReadAsTheFormatTells) {
  const fs::path golden = fs::path(MCOMPRESS_SOURCE_DIR) / "tests/golden";
  for (const std::string name : {"predicted", "predicted-halves", "rans"}) {
    ASSERT_TRUE(unpack_archive(golden / (name + ".mca"), path(name), silent_progress()).ok());
    EXPECT_EQ(read(path(name)), read(golden / (name + ".bin"))) << name;
  }
}

// A bit turned, or an end cut off, anywhere in any kind of block: refused, and nothing is written.
TEST_F(ArchiveTest, DamageToAnyKindOfBlockIsFound) {
  const std::vector<std::byte> bytes = archive_of_all_kinds();
  ASSERT_TRUE(reads_well(bytes));
  for (std::size_t at = 0; at < bytes.size(); at += 43) {
    std::vector<std::byte> damaged = bytes;
    damaged[at] ^= static_cast<std::byte>(1U << at % 8);
    EXPECT_FALSE(reads_well(damaged)) << at;
  }
  for (std::size_t size = 0; size < bytes.size(); size += 997) {
    EXPECT_FALSE(reads_well(std::span(bytes).first(size))) << size;
  }
}

TEST_F(ArchiveTest, TheRejectSetIsRefusedForItsReasons) {
  const fs::path folder = fs::path(MCOMPRESS_SOURCE_DIR) / "tests/golden-reject";
  std::size_t seen = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".mca") continue;
    ++seen;
    const auto result = unpack_archive(entry.path(), path("out"), silent_progress());
    ASSERT_FALSE(result.ok()) << entry.path();
    EXPECT_FALSE(fs::exists(path("out"))) << entry.path();
  }
  EXPECT_GE(seen, 24U);
}

TEST_F(ArchiveTest, ModelsComeBackAndOpenAsTheyAre) {
  const fs::path model = fs::path(MCOMPRESS_SOURCE_DIR) / "models/digits/model.onnx";
  Diagnostics diagnostics;
  const auto loaded = load_model(model, {}, diagnostics);
  ASSERT_TRUE(loaded.ok());
  PackOptions options;
  options.threads = 1;
  const auto packed = pack_model(**loaded, path("one.mca"), options, silent_progress());
  ASSERT_TRUE(packed.ok());
  options.threads = 4;
  ASSERT_TRUE(pack_model(**loaded, path("four.mca"), options, silent_progress()).ok());
  EXPECT_EQ(read(path("one.mca")), read(path("four.mca")));
  EXPECT_EQ(packed->bytes, fs::file_size(model));
  ASSERT_TRUE(unpack_archive(path("one.mca"), path("back.onnx"), silent_progress()).ok());
  EXPECT_EQ(read(path("back.onnx")), read(model));
  // Whatever the threshold of the loader, the tensors are those of the model.
  for (const std::uint64_t threshold : {std::uint64_t{1}, std::uint64_t{1024}, ~std::uint64_t{0}}) {
    LoadOptions load;
    load.map_threshold = threshold;
    const auto direct = load_model(path("one.mca"), load, diagnostics);
    ASSERT_TRUE(direct.ok());
    const auto expected = (*loaded)->graph().initializers();
    const auto found = (*direct)->graph().initializers();
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      const auto same = same_content(*expected[i]->initializer(), *found[i]->initializer());
      ASSERT_TRUE(same.ok());
      EXPECT_TRUE(*same) << found[i]->name();
    }
  }
}

}  // namespace
}  // namespace mcompress::codec
