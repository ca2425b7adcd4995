#include "support/yaml.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/json.h"

namespace mcompress {
namespace {

std::string complaint(std::string_view text) {
  const Result<Datum> result = parse_yaml(text, "f.yaml");
  if (result.ok()) return "no error";
  EXPECT_EQ(result.error().code, Code::kInput);
  return to_string(result.error().diagnostic);
}

std::string as_json(std::string_view text) {
  const Result<Datum> result = parse_yaml(text, "f.yaml");
  return result.ok() ? print_json_line(result.value()) : to_string(result.error().diagnostic);
}

TEST(Yaml, CoreSchema) {
  EXPECT_EQ(as_json("a: 1\nb: -2.5\nc: true\nd: null\ne: ~\nf:\ng: text\nh: 'true'\ni: \"1\"\n"),
            R"({"a": 1, "b": -2.5, "c": true, "d": null, "e": null, "f": null, "g": "text", )"
            R"("h": "true", "i": "1"})");
  EXPECT_EQ(as_json("[no, on, 0x10, 0o17, 1e3, .inf, -.inf, .nan, 1_000, +3, 2:4, 4.0, inf, nan]"),
            R"(["no", "on", 16, 15, 1000.0, "inf", "-inf", "nan", "1_000", 3, "2:4", 4.0, )"
            R"("inf", "nan"])");
  EXPECT_TRUE(std::isinf(std::get<double>(parse_yaml(".inf", "f").value().value())));
  EXPECT_EQ(as_json("[9223372036854775807, 9223372036854775808]"),
            "[9223372036854775807, 9223372036854775808.0]");
  EXPECT_EQ(as_json("a: |\n  two\n  lines\nb: >\n  one\n  line\n"),
            R"({"a": "two\nlines\n", "b": "one line\n"})");
  EXPECT_EQ(as_json(""), "null");
  EXPECT_EQ(as_json("# only a note\n"), "null");
  EXPECT_EQ(as_json("{a: !!str 1, b: !!map {}}"), R"({"a": "1", "b": {}})");
  EXPECT_EQ(as_json("1: x\ntrue: y\n"), R"({"1": "x", "true": "y"})");
}

TEST(Yaml, Locations) {
  const Datum datum =
      parse_yaml("passes:\n  - name: fuse\n  - quantize:\n      bits: 4\n      keep: [a, 'b']\n",
                 "r.yaml")
          .value();
  const Datum::List& passes = *datum.find("passes")->as_list();
  EXPECT_EQ(passes[0].find("name")->where().file, "r.yaml:2:11");
  const Datum& bits = *passes[1].find("quantize")->find("bits");
  EXPECT_EQ(bits.where().file, "r.yaml:4:13");
  EXPECT_EQ(bits.where().path, "passes[1].quantize.bits");
  EXPECT_EQ((*passes[1].find("quantize")->find("keep")->as_list())[1].where().file, "r.yaml:5:17");
}

TEST(Yaml, Refusals) {
  EXPECT_EQ(complaint("a: 1\nb: 2\na: 3\n"), "f.yaml:3:1: key 'a' is given twice");
  EXPECT_NE(complaint("a: &x 1\nb: *x\n").find("f.yaml:2:4: an alias"), std::string::npos);
  EXPECT_NE(complaint("a: !odd 1\n").find("tag"), std::string::npos);
  EXPECT_NE(complaint("? [a]\n: 1\n").find("a key has to be a text"), std::string::npos);
  EXPECT_NE(complaint("a: 1\n---\nb: 2\n").find("only one document"), std::string::npos);
  EXPECT_NE(complaint("a: [1, 2\n").find("f.yaml:"), std::string::npos);
  EXPECT_NE(complaint("a: 'open"), "no error");
  EXPECT_NE(complaint("a: b: c\n"), "no error");
}

TEST(Yaml, HostileTexts) {
  std::string laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n";
  for (char c = 'b'; c < 'k'; ++c) {
    laughs += std::string(1, c) + ": &" + c + " [";
    for (int i = 0; i < 9; ++i) laughs += std::string(i ? ", *" : "*") + static_cast<char>(c - 1);
    laughs += "]\n";
  }
  EXPECT_NE(complaint(laughs).find("alias"), std::string::npos);
  for (const std::size_t depth : {129U, 100'000U}) {
    EXPECT_NE(complaint(std::string(depth, '[')), "no error");
    EXPECT_NE(complaint(std::string(depth, '{')), "no error");
    EXPECT_NE(complaint(std::string(depth, '[') + std::string(depth, ']')).find("nested deeper"),
              std::string::npos);
  }
  std::string dashes;
  for (int i = 0; i < 5000; ++i) dashes += "- ";
  EXPECT_NE(complaint(dashes).find("nested deeper"), std::string::npos);
  const Result<Datum> large = parse_yaml(std::string(100, ' '), "f", {.bytes = 99});
  EXPECT_FALSE(large.ok());
}

TEST(Yaml, EveryTruncationIsHandled) {
  const std::string text = "a: [1, {b: 'c'}, \"d\\n\"]\ne:\n  - f: |\n      g\n  - ? h\n    : i\n";
  for (std::size_t length = 0; length <= text.size(); ++length) {
    const auto result = parse_yaml(text.substr(0, length), "f");
    if (!result.ok()) {
      EXPECT_EQ(result.error().code, Code::kInput);
    }
  }
}

TEST(Yaml, JsonIsYaml) {
  const std::string text = R"({"a": [1, 2.5, "x"], "b": {"c": null}})";
  EXPECT_EQ(parse_yaml(text, "f").value(), parse_json(text, "f").value());
}

TEST(Yaml, PrintsWhatItReads) {
  const std::string text =
      "a: {x: 1, y: text, z: \"1\"}\n"
      "b: [1, 2.5, true, null, \"true\", \"a: b\", \"\"]\n"
      "c:\n"
      "  - one\n"
      "  - {k: v}\n"
      "  - k: [1, 2]\n"
      "    \"x*\": []\n"
      "  - - [a]\n"
      "    - {}\n";
  EXPECT_EQ(print_yaml(parse_yaml(text, "f").value()), text);
  // Everything that would read as something else comes back as the text it was.
  for (const char* odd : {"0x10",
                          "-1",
                          ".5",
                          "1e3",
                          "~",
                          "null",
                          "No",
                          "yes",
                          "- a",
                          "a #b",
                          "#a",
                          "a:",
                          ": a",
                          " a",
                          "a ",
                          "'a'",
                          "\"",
                          "&a",
                          "*a",
                          "!a",
                          "|",
                          ">",
                          "%a",
                          "@a",
                          "`a",
                          "{",
                          "}",
                          "[a",
                          "a, b",
                          "two\nlines",
                          "\t",
                          "\xc3\xa9",
                          "?",
                          "a - b",
                          ".inf",
                          "/a/b_1",
                          "onnx::MatMul_3"}) {
    Datum map = Datum::map();
    map.set(odd, Datum::string(odd));
    Datum list = Datum::list();
    list.push(Datum::string(odd));
    map.set("list", std::move(list));
    const std::string printed = print_yaml(map);
    const auto again = parse_yaml(printed, "f");
    ASSERT_TRUE(again.ok()) << printed;
    EXPECT_EQ(*again, map) << printed;
  }
  // Long lists and maps stand in lines of their own.
  Datum names = Datum::list();
  for (int i = 0; i < 20; ++i) names.push(Datum::string("name" + std::to_string(i)));
  EXPECT_EQ(print_yaml(names).substr(0, 16), "- name0\n- name1\n");
  EXPECT_EQ(print_yaml(Datum::map()), "{}\n");
  EXPECT_EQ(print_yaml(Datum::string("x")), "x\n");
}

}  // namespace
}  // namespace mcompress
