#include "support/text.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "support/ordered.h"

namespace mcompress {
namespace {

TEST(Text, EditDistance) {
  EXPECT_EQ(edit_distance("kitten", "sitting", 9), 3U);
  EXPECT_EQ(edit_distance("", "abc", 9), 3U);
  EXPECT_EQ(edit_distance("abc", "abc", 9), 0U);
  EXPECT_EQ(edit_distance("ab", "ba", 9), 1U);
  EXPECT_EQ(edit_distance("saturday", "sunday", 9), 3U);
  EXPECT_EQ(edit_distance("saturday", "sunday", 1), 2U);
  EXPECT_EQ(edit_distance("a", "abcdefgh", 2), 3U);
}

TEST(Text, Nearest) {
  const std::vector<std::string> names = {"group-size", "symmetric", "block-size", "method"};
  EXPECT_EQ(nearest("group-sise", names), "group-size");
  EXPECT_EQ(nearest("Group_Size", names), "group-size");
  EXPECT_EQ(nearest("symetric", names), "symmetric");
  EXPECT_EQ(nearest("meth", names), "method");
  EXPECT_EQ(nearest("zebra", names), "");
  EXPECT_EQ(nearest("", names), "");
  EXPECT_EQ(nearest("a", std::vector<std::string>{"b"}), "");
  EXPECT_EQ(did_you_mean("mehtod", names), "did you mean 'method'?");
  EXPECT_EQ(did_you_mean("zebra", names), "");
}

TEST(Text, Glob) {
  EXPECT_TRUE(glob_match("", ""));
  EXPECT_FALSE(glob_match("", "a"));
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("*", "a/b/c"));
  EXPECT_TRUE(glob_match("layer?/*.weight", "layer3/conv.weight"));
  EXPECT_FALSE(glob_match("layer?", "layer12"));
  EXPECT_FALSE(glob_match("conv", "conv1"));
  EXPECT_TRUE(glob_match("*a*b*", "xxaxxbxx"));
  EXPECT_FALSE(glob_match("*a*b", "xxbxxa"));
  EXPECT_TRUE(glob_match("[a-c]1", "b1"));
  EXPECT_FALSE(glob_match("[a-c]1", "d1"));
  EXPECT_TRUE(glob_match("[!a-c]1", "d1"));
  EXPECT_FALSE(glob_match("[!a-c]1", "a1"));
  EXPECT_TRUE(glob_match("[]]", "]"));
  EXPECT_TRUE(glob_match("[x-]", "-"));
  EXPECT_TRUE(glob_match("a[b", "a[b"));
  EXPECT_TRUE(glob_match("w[[]3]", "w[3]"));
  EXPECT_TRUE(glob_match("?", "\xC3\xA4"));
  EXPECT_FALSE(glob_match("??", "\xC3\xA4"));
  EXPECT_TRUE(glob_match("a*?", "ab"));
  EXPECT_FALSE(glob_match("a*?", "a"));
  EXPECT_TRUE(is_glob("a*") && is_glob("a?") && is_glob("[a]") && !is_glob("a.b/c"));
}

// As glob_match tells one pattern after the other.
TEST(Text, GlobListFindsTheFirstThatMatches) {
  const std::vector<std::string> patterns = {"b",    "a*",     "a", "x[*]y", "x*y",   "[b-d]",
                                             "a[0]", "a[[]0]", "b", "q?",    "open[", ""};
  const GlobList list(patterns);
  EXPECT_EQ(list.patterns(), patterns);
  for (const char* text : {"b", "a", "ab", "x*y", "xzy", "c", "a0", "a[0]", "qq", "open[", "", "z",
                           "x[*]y", "e", "q"}) {
    std::size_t first = 0;
    while (first < patterns.size() && !glob_match(patterns[first], text)) ++first;
    EXPECT_EQ(list.first_match(text), first) << text;
  }
  EXPECT_EQ(GlobList({}).first_match("a"), 0U);
}

// 40,000 texts against 20,000 names: every pair would be 800 million comparisons.
TEST(Text, GlobListLooksNamesUp) {
  std::vector<std::string> names(20000);
  for (std::size_t i = 0; i < names.size(); ++i) {
    names[i] = "/model/layers/mlp/weight_" + std::to_string(i);
  }
  const GlobList list(names);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 40000; ++i) {
    const std::size_t found = list.first_match("/model/layers/mlp/weight_" + std::to_string(i));
    EXPECT_EQ(found, std::min<std::size_t>(static_cast<std::size_t>(i), 20000));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(Text, GlobDoesNotExplode) {
  std::string pattern;
  for (int i = 0; i < 50; ++i) pattern += "*a";
  pattern += "b";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(glob_match(pattern, std::string(20000, 'a')));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(Text, HumanBytes) {
  EXPECT_EQ(memory_text(0), "0.00 MiB");
  EXPECT_EQ(memory_text(25 << 19), "12.50 MiB");
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(1000), "1.0 kB");
  EXPECT_EQ(human_bytes(1234567), "1.2 MB");
  EXPECT_EQ(human_bytes(999949), "999.9 kB");
  EXPECT_EQ(human_bytes(999950), "1.0 MB");
  EXPECT_EQ(human_bytes(std::numeric_limits<std::uint64_t>::max()), "18.4 EB");
}

TEST(Text, ParseBytes) {
  EXPECT_EQ(parse_bytes("4096"), 4096);
  EXPECT_EQ(parse_bytes("1 B"), 1);
  EXPECT_EQ(parse_bytes("512MB"), 512000000);
  EXPECT_EQ(parse_bytes("2G"), std::int64_t{2} << 30);
  EXPECT_EQ(parse_bytes("2 gib"), std::int64_t{2} << 30);
  EXPECT_EQ(parse_bytes("1.5 kB"), 1500);
  for (const char* bad : {"", "-1", "MB", "1XB", "1.5", "1 MBs", "9223372036854775808", "9e9G",
                          "99999999T", "1..5kB", "1  MB"}) {
    EXPECT_EQ(parse_bytes(bad), std::nullopt) << bad;
  }
}

TEST(Text, Numbers) {
  EXPECT_EQ(fixed(0.125, 3), "0.125");
  EXPECT_EQ(fixed(-0.0001, 2), "0.00");
  EXPECT_EQ(fixed(2, 0), "2");
  EXPECT_EQ(fixed(NAN, 2), "nan");
  EXPECT_EQ(fixed(-INFINITY, 2), "-inf");
  EXPECT_EQ(percent(0.125, 1), "12.5%");
  EXPECT_EQ(percent(1, 0), "100%");
  EXPECT_EQ(shortest(3), "3");
  EXPECT_EQ(shortest(0.1), "0.1");
  EXPECT_EQ(shortest(1e300), "1e+300");
  EXPECT_EQ(shortest(-INFINITY), "-inf");
  EXPECT_EQ(shortest(-NAN), "nan");
  EXPECT_EQ(parse_int("-9223372036854775808"), std::numeric_limits<std::int64_t>::min());
  for (const char* bad : {"", "+", "+-1", "1 ", " 1", "0x1", "9223372036854775808", "1.0"}) {
    EXPECT_EQ(parse_int(bad), std::nullopt) << bad;
  }
  EXPECT_EQ(parse_real("+1e3"), 1000.0);
  for (const char* bad : {"", "+-1", "1,5", "1e999", "1.0x"}) {
    EXPECT_EQ(parse_real(bad), std::nullopt) << bad;
  }
}

TEST(Text, Wrap) {
  EXPECT_EQ(wrap("one two three", 7, 0), "one two\nthree");
  EXPECT_EQ(wrap("one two", 7, 2), "  one\n  two");
  EXPECT_EQ(wrap("a\n\nb", 10, 1), " a\n\n b");
  EXPECT_EQ(wrap("incomprehensible x", 5, 0), "incomprehensible\nx");
  EXPECT_EQ(wrap("", 5, 2), "");
  EXPECT_EQ(wrap("\xC3\xA4\xC3\xA4 \xC3\xA4\xC3\xA4", 5, 0), "\xC3\xA4\xC3\xA4 \xC3\xA4\xC3\xA4");
}

TEST(Text, JoinAndLower) {
  EXPECT_EQ(join(std::vector<std::string>{"a", "b"}, ", "), "a, b");
  EXPECT_EQ(join(std::vector<std::string>{}, ", "), "");
  EXPECT_EQ(lower("AbZ-\xC3\x84"), "abz-\xC3\x84");
}

TEST(OrderedMap, KeepsTheOrderOfInsertion) {
  OrderedMap<std::string, int> map;
  EXPECT_TRUE(map.insert("b", 1).second);
  EXPECT_TRUE(map.insert("a", 2).second);
  EXPECT_FALSE(map.insert("b", 9).second);
  map.set("c", 3);
  map.set("a", 4);
  ++map["d"];
  const auto text = [&map] {
    std::string result;
    for (const auto& [key, value] : map) result += key + std::to_string(value);
    return result;
  };
  EXPECT_EQ(text(), "b1a4c3d1");
  EXPECT_TRUE(map.erase("a"));
  EXPECT_FALSE(map.erase("a"));
  EXPECT_EQ(text(), "b1c3d1");
  EXPECT_EQ(*map.find("d"), 1);
  EXPECT_EQ(map.find("a"), nullptr);
  EXPECT_TRUE(map.contains(std::string_view("c")));
  map.clear();
  EXPECT_TRUE(map.empty());
  OrderedMap<int, int> numbers;
  numbers[7] = 1;
  numbers[3] = 2;
  EXPECT_EQ(numbers.begin()->first, 7);
  EXPECT_EQ(numbers.size(), 2U);
}

}  // namespace
}  // namespace mcompress
