// The journals of rounded weights and of scales: what was added comes back; cut, bent and foreign
// files.
#include "passes/common/blocks/block_journal.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "passes/common/integer/scale_journal.h"

namespace mcompress {
namespace {

constexpr std::uint64_t kRun = 77;

class BlockJournalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = ::testing::TempDir() + "journal-" +
            ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove(path_);
  }
  void TearDown() override { std::filesystem::remove(path_); }

  static JournalEntry entry(std::size_t rows) {
    JournalEntry made;
    made.rows = make_block_rows(rows, 40, {4, 16, true, DataType::kFloat16});
    for (std::size_t i = 0; i < made.rows.codes.size(); ++i) {
      made.rows.codes[i] = static_cast<std::uint8_t>(i * 7 % 16);
    }
    for (std::size_t i = 0; i < made.rows.scales.size(); ++i) {
      made.rows.scales[i] = 0.5F + static_cast<float>(i);
    }
    made.rows.signal = 12.5;
    made.rows.noise = 0.25;
    made.how = "gptq, output error 1.5 dB lower";
    made.gain_db = 1.5;
    return made;
  }

  std::unique_ptr<BlockJournal> open(std::uint64_t run = kRun) {
    auto journal = BlockJournal::open(real_files(), path_, run);
    EXPECT_TRUE(journal.ok());
    return journal.ok() ? std::move(*journal) : nullptr;
  }

  std::string bytes() const {
    std::ifstream file(path_, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  void write(const std::string& text) const { std::ofstream(path_, std::ios::binary) << text; }

  std::string path_;
};

TEST_F(BlockJournalTest, GivesBackWhatWasAdded) {
  {
    const auto journal = open();
    ASSERT_TRUE(journal->add(5, entry(3)).ok());
    ASSERT_TRUE(journal->add(2, entry(8)).ok());
  }
  const auto journal = open();
  EXPECT_EQ(journal->size(), 2U);
  EXPECT_FALSE(journal->holds(0));
  for (const auto& [unit, rows] : {std::pair<std::size_t, std::size_t>{5, 3}, {2, 8}}) {
    ASSERT_TRUE(journal->holds(unit));
    const auto got = journal->read(unit);
    ASSERT_TRUE(got.ok());
    const JournalEntry expected = entry(rows);
    EXPECT_EQ(got->rows.codes, expected.rows.codes);
    EXPECT_EQ(got->rows.scales, expected.rows.scales);
    EXPECT_EQ(got->rows.zero_points, expected.rows.zero_points);
    EXPECT_TRUE(got->rows.format == expected.rows.format);
    EXPECT_EQ(got->rows.noise, 0.25);
    EXPECT_EQ(got->how, expected.how);
    EXPECT_EQ(got->gain_db, 1.5);
  }
}

// Wherever the file ends, what is whole is used, and what is added then is found again.
TEST_F(BlockJournalTest, GoesOnFromAnyCut) {
  std::size_t first = 0;
  {
    const auto journal = open();
    ASSERT_TRUE(journal->add(0, entry(2)).ok());
    first = bytes().size();
    ASSERT_TRUE(journal->add(1, entry(2)).ok());
  }
  const std::string whole = bytes();
  for (std::size_t cut = 16; cut < whole.size(); cut += 5) {
    write(whole.substr(0, cut));
    const auto journal = open();
    ASSERT_NE(journal, nullptr) << cut;
    EXPECT_EQ(journal->size(), cut >= first ? 1U : 0U) << cut;
    ASSERT_TRUE(journal->add(7, entry(1)).ok());
    EXPECT_TRUE(open()->holds(7)) << cut;
  }
}

TEST_F(BlockJournalTest, DropsBentRecords) {
  ASSERT_TRUE(open()->add(0, entry(2)).ok());
  const std::string whole = bytes();
  for (std::size_t at = 16; at < whole.size(); at += 3) {
    std::string bent = whole;
    bent[at] = static_cast<char>(bent[at] ^ 0x10);
    write(bent);
    const auto journal = open();
    ASSERT_NE(journal, nullptr) << at;
    EXPECT_EQ(journal->size(), 0U) << at;
  }
}

TEST_F(BlockJournalTest, RefusesWhatIsNotOfThisRun) {
  open();
  const auto other = BlockJournal::open(real_files(), path_, kRun + 1);
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code, Code::kInput);
  for (const std::string text : {"x", "mcbj", "a file of something else altogether"}) {
    write(text);
    const auto foreign = BlockJournal::open(real_files(), path_, kRun);
    ASSERT_FALSE(foreign.ok()) << text;
    EXPECT_EQ(bytes(), text);
  }
}

// What two passes of one command keep stands in one file.
TEST_F(BlockJournalTest, KeepsStagesApart) {
  const ChannelEnergies energies = {{"a", {1, 2.5}}, {"b", {}}};
  const auto scales = [&](std::uint64_t run) {
    return ScaleJournal::open(real_files(), path_, run);
  };
  {
    const auto journal = std::move(*scales(kRun + 5));
    EXPECT_FALSE(*journal->energies());
    ASSERT_TRUE(journal->add_energies(energies).ok());
    ASSERT_TRUE(journal->add(0, {7, 1.25}).ok());
  }
  EXPECT_EQ(open()->size(), 0U);
  ASSERT_TRUE(open()->add(0, entry(3)).ok());
  const auto journal = std::move(*scales(kRun + 5));
  ASSERT_TRUE(*journal->energies());
  EXPECT_EQ(**journal->energies(), energies);
  EXPECT_TRUE(journal->holds(0));
  EXPECT_FALSE(journal->holds(1));
  EXPECT_EQ(journal->read(0)->step, 7U);
  EXPECT_EQ(journal->read(0)->gain_db, 1.25);
  ASSERT_TRUE(journal->add(1, {0, 0}).ok());
  EXPECT_TRUE(open()->holds(0));
  EXPECT_EQ(open()->size(), 1U);
  EXPECT_TRUE((*scales(kRun + 5))->holds(1));
  EXPECT_EQ(scales(kRun).error().code, Code::kInput);
}

}  // namespace
}  // namespace mcompress
